"""How IMT's answers on balances are read, with names from the contract alone."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.balances.imt import ZERO, Balance, NoBalance, PaymentsDue
from services.bus.partner import PartnerError, Reply, Retryable
from services.bus.settings import ROOT
from services.bus.wire import WireError, load_wire, read_instant, read_money
from tests.unit.parts import NOON, FakeClock, FakeSecrets, a_biller

IMT = load_wire(ROOT / "schemas").imt
NAMES = IMT.services.payments_due.names


class FakeHttp:
    """Answers as told, and remembers what was asked."""

    def __init__(self, body: Any, status: int = 200) -> None:
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status = status
        self.asked: dict[str, Any] = {}

    async def request(self, method: str, url: str, **more: Any) -> Reply:
        self.asked = {"method": method, "url": url, **more}
        return Reply(self.status, {}, self.body)


def client(http: FakeHttp) -> PaymentsDue:
    return PaymentsDue(http, IMT, FakeSecrets(), FakeClock())  # type: ignore[arg-type]  # stand-ins


def row(**values: Any) -> dict[str, Any]:
    stated = {"account": "0012345", "balance_due": "120.50", "as_of": "2026-11-20T23:04:05.678Z"} | values
    return {NAMES[name]: value for name, value in stated.items() if value is not None}


async def asked(body: Any, status: int = 200) -> Balance | NoBalance:
    return await client(FakeHttp(body, status)).read_account(a_biller(), "0012345", 2)


async def read(**values: Any) -> Balance:
    answer = await asked(row(**values))
    assert isinstance(answer, Balance)
    return answer


async def test_a_balance_is_asked_for_with_the_insurers_token_and_the_exact_number() -> None:
    http = FakeHttp(row(account="A/1 2"))
    await client(http).read_account(a_biller(), "A/1 2", 1.5)
    assert http.asked["url"] == "http://127.0.0.1:1/imt/acme/payments-due/accounts/A%2F1%202"
    assert http.asked["headers"] == {"Authorization": "Bearer imt-token"}
    assert (http.asked["method"], http.asked["deadline_s"]) == ("GET", 1.5)


async def test_a_whole_answer_is_read() -> None:
    balance = await read(past_due="20.50", current_charges="100.00", credit="0.00", cause="Adjustment")
    assert balance == Balance(
        account="0012345",
        balance_due=Decimal("120.50"),
        past_due=Decimal("20.50"),
        current_charges=Decimal("100.00"),
        credit=Decimal("0.00"),
        as_of=datetime(2026, 11, 20, 23, 4, 5, 678000, tzinfo=UTC),
        cause="adjustment",
    )
    assert balance.minimum_due == balance.balance_due


@pytest.mark.parametrize(
    ("due", "credit", "told"),
    [
        ("-25.00", None, "25.00"),
        ("0.00", "25.00", "25.00"),
        ("-25.00", "25.00", "25.00"),
        ("0", "-25", "25.00"),
    ],
)
async def test_a_credit_shows_as_zero_wherever_imt_writes_it(due: str, credit: str | None, told: str) -> None:
    balance = await read(balance_due=due, credit=credit)
    assert (balance.balance_due, balance.minimum_due, balance.credit) == (ZERO, ZERO, Decimal(told))


async def test_without_an_as_of_the_instant_of_the_request_counts() -> None:
    balance = await read(as_of=None)
    assert (balance.as_of, balance.as_of_assumed) == (NOON, True)


async def test_a_cause_that_imt_does_not_name_is_none() -> None:
    assert (await read(cause="Something")).cause is None


@pytest.mark.parametrize(
    "body",
    [
        b"not json",
        [],
        {},
        row(balance_due="12,50"),
        row(balance_due="1.005"),
        row(balance_due=True),
        row(balance_due="NaN"),
        row(as_of="yesterday"),
        row(as_of="2026-11-20T23:04:05"),
        row(account="0099999"),
        row(account=None),
    ],
)
async def test_an_answer_that_makes_no_sense_is_asked_for_again_never_believed(body: Any) -> None:
    with pytest.raises(Retryable):
        await asked(body)


async def test_imts_own_no_is_no_fault() -> None:
    unknown = await asked({"Code": "UNKNOWN_ACCOUNT", "Message": "x"}, 404)
    assert unknown == NoBalance("unknown_account")
    assert isinstance(unknown, NoBalance)
    assert unknown.unknown
    assert await asked({"Code": "HOLD"}, 422) == NoBalance("HOLD")
    assert await asked({}, 422) == NoBalance("http_422")
    assert await asked({"Code": "no balance for Ada Example"}, 422) == NoBalance("http_422"), "not a code"


async def page(body: Any, after: str | None = None, status: int = 200) -> Any:
    http = FakeHttp(body, status)
    answer = await client(http).list_changes(a_biller(), NOON, after, 200, 5)
    return answer, http.asked["url"]


async def test_a_page_is_asked_for_and_leads_to_the_next() -> None:
    answer, url = await page({"Changes": [row()], "Next": "17", "More": True}, after="9")
    assert url.endswith("/changes?since=2026-11-23T12%3A00%3A00.000Z&after=9&limit=200")
    assert (len(answer.changes), answer.unreadable, answer.after) == (1, 0, "17")


@pytest.mark.parametrize(
    "more", [{"More": False, "Next": "17"}, {"Next": "17"}, {"More": True}, {"More": True, "Next": "9"}]
)
async def test_the_last_page_ends_the_poll_even_when_imt_goes_in_circles(more: Any) -> None:
    answer, _ = await page({"Changes": [], **more}, after="9")
    assert answer.after is None


async def test_a_row_that_nobody_can_read_is_named_without_its_account_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    await page({"Changes": [row(balance_due="x")], "More": False})
    told = capsys.readouterr().out
    assert "***345" in told
    assert "0012345" not in told


async def test_one_bad_row_does_not_stop_the_others() -> None:
    answer, _ = await page({"Changes": [row(balance_due="x"), "text", row()], "More": False})
    assert ([one.account for one in answer.changes], answer.unreadable) == (["0012345"], 2)


@pytest.mark.parametrize(
    ("body", "status"), [({"Changes": None}, 200), ([], 200), ({"Code": "REJECTED"}, 422)]
)
async def test_a_page_that_makes_no_sense_is_a_failed_poll(body: Any, status: int) -> None:
    with pytest.raises(PartnerError):
        await page(body, status=status)


@given(st.decimals(min_value=-10_000, max_value=10_000, places=2))
def test_money_is_read_to_the_cent_as_text_and_as_a_number(amount: Decimal) -> None:
    assert read_money(str(amount), "x") == amount
    assert read_money(json.loads(str(amount), parse_float=Decimal), "x") == amount


@given(st.one_of(st.text(), st.floats(), st.none(), st.booleans(), st.lists(st.integers())))
def test_whatever_comes_as_money_is_read_or_refused(raw: Any) -> None:
    try:
        amount = read_money(raw, "x")
    except WireError:
        return
    assert amount.as_tuple().exponent == -2


@given(st.datetimes(timezones=st.timezones()))
def test_an_instant_is_read_in_utc_to_the_millisecond(at: datetime) -> None:
    try:
        read_at = read_instant(at.isoformat(), "x")
    except WireError:
        assert at.year in {1, 9999}, "UTC has no such year"
        return
    assert read_at.tzinfo == UTC
    assert timedelta(0) <= at - read_at < timedelta(milliseconds=1)
