"""IMT's books and the ledger that does not deduplicate."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.sandbox.accounts import Account, Accounts
from services.sandbox.amounts import Malformed, cents, instant, money, read_day, read_instant
from services.sandbox.ledger import Filter, Ledger

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Clock:
    """A clock that stands where it is put."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(clock: Clock) -> Iterator[Ledger]:
    opened = Ledger(None, clock)
    yield opened
    opened.close()


def enter(ledger: Ledger, natural_id: str = "g-1", amount: int = 1000, **fields: str) -> int:
    return ledger.add(
        "payments",
        biller="acme",
        natural_id=natural_id,
        account="0001",
        fields={"Tender": "card", **fields},
        at=ledger.tick(),
        amount=amount,
    )


def test_the_same_payment_twice_is_two_rows(ledger: Ledger) -> None:
    first = enter(ledger)
    enter(ledger)
    enter(ledger, "g-2", 5)
    row, count = ledger.first("payments", "acme", "g-1")
    assert row is not None
    assert (row.seq, count) == (first, 2)
    totals = ledger.totals("payments", Filter())
    assert (totals["count"], totals["distinct"], totals["total"]) == (3, 2, "20.05")
    assert totals["doubled"] == totals["repeated"] == [{"biller": "acme", "natural_id": "g-1", "count": 2}]


def test_another_content_under_the_same_id_is_doubled_but_not_repeated(ledger: Ledger) -> None:
    enter(ledger, Product="ivr")
    enter(ledger, Product="portal")
    totals = ledger.totals("payments", Filter())
    assert (len(totals["doubled"]), totals["repeated"]) == (1, [])


def test_groups_by_wire_fields_and_by_fields_within_fields(ledger: Ledger) -> None:
    enter(ledger, Product="ivr")
    enter(ledger, "g-2", 250, Product="ivr")
    enter(ledger, "g-3", 1, Product="portal")
    assert ledger.groups("payments", Filter(), ["Product", "biller"]) == [
        {"Product": "ivr", "biller": "acme", "count": 2, "total": "12.50"},
        {"Product": "portal", "biller": "acme", "count": 1, "total": "0.01"},
    ]
    ledger.add(
        "invoices", biller="acme", natural_id="I", account="1", fields={"Customer": {"AutoPay": "true"}}, at=1
    )
    assert ledger.groups("invoices", Filter(), ["Customer.AutoPay"])[0]["Customer.AutoPay"] == "true"


def test_a_filter_of_fields_takes_no_words_of_sql(ledger: Ledger) -> None:
    enter(ledger, Product="ivr")
    assert len(ledger.rows("payments", Filter(field=("Product", "ivr")))) == 1
    assert ledger.rows("payments", Filter(field=("Product", "' OR 1=1 --"))) == []


def test_instants_never_go_back_nor_stand_still(ledger: Ledger, clock: Clock) -> None:
    first = ledger.tick()
    second = ledger.tick()
    clock.now = NOON - timedelta(hours=1)
    assert first < second < ledger.tick()


def test_the_ledger_and_its_instants_outlive_the_process(tmp_path: Path, clock: Clock) -> None:
    kept = Ledger(tmp_path / "deep" / "ledger.sqlite", clock)
    enter(kept)
    last = kept.tick()
    enter(kept, "g-2")
    kept.close()
    clock.now = NOON - timedelta(days=1)
    again = Ledger(tmp_path / "deep" / "ledger.sqlite", clock)
    assert again.totals("payments", Filter())["count"] == 2
    assert again.tick() > last
    again.close()


def test_an_effect_that_fails_leaves_nothing(ledger: Ledger) -> None:
    def fails() -> None:
        with ledger.effect():
            enter(ledger)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert ledger.totals("payments", Filter())["count"] == 0


def pay(ledger: Ledger, accounts: Accounts, guid: str, amount: int) -> int:
    state = accounts.read("acme", "0001")
    assert state is not None
    with ledger.effect():
        seq = enter(ledger, guid, amount)
        accounts.write("acme", state.paid(amount, ledger.tick()), "payment", seq)
    return seq


def test_a_restored_backup_lacks_the_last_payments_and_owes_them_again(ledger: Ledger) -> None:
    accounts = Accounts(ledger)
    accounts.write("acme", Account("0001", 2000, 10000, 0, ledger.tick()), "invoice")
    kept = pay(ledger, accounts, "g-1", 3000)
    pay(ledger, accounts, "g-2", 4000)
    assert ledger.forget("payments", Filter(after=kept)) == 1
    state = accounts.read("acme", "0001")
    assert state is not None
    assert state.balance_due == 9000
    assert ledger.first("payments", "acme", "g-2") == (None, 0)
    changes = accounts.changes("acme", 0, 0, 10)
    assert [change.cause for change in changes] == ["invoice", "payment"]
    assert pay(ledger, accounts, "g-2", 4000) > kept + 1, "a sequence number is never given twice"


def test_unknown_accounts_are_refused_or_opened(ledger: Ledger) -> None:
    assert Accounts(ledger).read("acme", "0009") is None
    opened = Accounts(ledger, opens_unknown=True).read("acme", "0009")
    assert opened is not None
    assert opened.balance_due == 0


def test_changes_go_on_behind_a_cursor(ledger: Ledger) -> None:
    accounts = Accounts(ledger)
    for number in ("1", "2", "3"):
        accounts.write("acme", Account(number, 0, 100, 0, ledger.tick()), "invoice")
    accounts.write("birch", Account("1", 0, 100, 0, ledger.tick()), "invoice")
    first = accounts.changes("acme", 0, 0, 2)
    assert [change.state.account for change in first] == ["1", "2"]
    rest = accounts.changes("acme", 0, first[-1].cursor, 10)
    assert [change.state.account for change in rest] == ["3"]
    assert accounts.changes("acme", rest[0].state.as_of, 0, 10) == rest


def test_numbers_are_accounts_and_policies(ledger: Ledger) -> None:
    accounts = Accounts(ledger)
    accounts.write("acme", Account("0001", 0, 0, 0, ledger.tick()), "invoice")
    accounts.add_numbers("acme", "0001", ["P-1"])
    known = [accounts.number_known("acme", number) for number in ("0001", "P-1", "P-2")]
    assert known == [True, True, False]
    assert not accounts.number_known("birch", "P-1")


money_in_cents = st.integers(0, 10**9)


@given(past_due=money_in_cents, current=money_in_cents, credit=money_in_cents, amount=st.integers(1, 10**9))
def test_no_cent_is_lost_in_a_payment(past_due: int, current: int, credit: int, amount: int) -> None:
    before = Account("1", past_due, current, credit, 1)
    after = before.paid(amount, 2)
    assert after.balance_due - after.credit == before.balance_due - before.credit - amount
    assert min(after.past_due, after.current, after.credit) >= 0
    assert after.past_due == 0 or after.current == current, "what is past due goes first"


@given(st.integers(-(10**11), 10**11))
def test_money_reads_as_it_was_written(amount: int) -> None:
    assert cents(money(amount), "Amount") == amount


@pytest.mark.parametrize("raw", ["", "1.005", "NaN", "Infinity", "1e30", "ten", None, True, [], {}])
def test_what_is_not_money(raw: object) -> None:
    with pytest.raises(Malformed, match="Amount is not an amount"):
        cents(raw, "Amount")


@pytest.mark.parametrize(("raw", "amount"), [("12.5", 1250), (12.5, 1250), (12, 1200), ("1e2", 10000)])
def test_money_in_other_writings(raw: object, amount: int) -> None:
    assert cents(raw, "Amount") == amount


@given(st.integers(0, 4 * 10**12))
def test_instants_read_as_they_were_written(at: int) -> None:
    assert read_instant(instant(at), "At") == at


@pytest.mark.parametrize("raw", ["2026-11-20T12:00:00", "2026-11-20", "noon", 5, None])
def test_what_is_not_an_instant(raw: object) -> None:
    with pytest.raises(Malformed, match="At is not an instant"):
        read_instant(raw, "At")


def test_a_day_is_a_day() -> None:
    assert read_day("2026-02-28", "Day") == "2026-02-28"
    with pytest.raises(Malformed, match="Day is not a date"):
        read_day("2026-02-29", "Day")


def test_an_effect_can_be_had_otherwise_and_once_more(ledger: Ledger) -> None:
    enter(ledger, BatchDate="2026-11-20")
    enter(ledger, "g-2")
    one = Filter("acme", "g-1")
    assert ledger.amend("payments", one, {"BatchDate": "2026-11-21", "Payer.Name": "x"}, 999, "0002") == 1
    assert ledger.repeat("payments", one) == 1
    first, second = ledger.rows("payments", one)
    assert (first.fields["BatchDate"], first.fields["Payer"]) == ("2026-11-21", {"Name": "x"})
    assert (second.amount, second.account, second.fields) == (999, "0002", first.fields)
    assert ledger.totals("payments", Filter())["count"] == 3
