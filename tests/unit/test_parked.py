"""What is parked: folded from outcomes in any order, chosen by filters, explained, and what can be done."""

import ast
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.bus.accounts import Match
from services.bus.settings import ROOT
from services.cli.parked_screens import age
from services.events import PaymentOutcome, PaymentReceived
from services.operations.parked_accounts import NoAccount, Wanted, resolve
from services.operations.parked_file import ParkedFile
from services.operations.parked_plan import Choice, retry_of
from services.operations.parked_reasons import MEANINGS, meaning_of
from services.operations.parked_records import Filters
from tests.unit import settings_sample
from tests.unit.payments_sample import ACCOUNT, ACME, a_payment, accounts

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
PAYMENT = a_payment()
LANES = ("bus", "invoices", "payments", "settings")
LATE = st.lists(
    st.tuples(st.integers(1, 4), st.sampled_from(["parked", "posted", "rejected", "dismissed"])), max_size=6
)


def outcome(
    natural_id: str = "p1", state: str = "parked", attempt: int = 1, **fields: object
) -> PaymentOutcome:
    told: dict[str, object] = {
        "biller": "acme",
        "account": f"?{natural_id}",
        "natural_id": natural_id,
        "event_id": f"e-{natural_id}",
        "state": state,
        "attempt": attempt,
        "reason": "account_unknown" if state == "parked" else None,
        "never_sent": state == "parked",
        "content": "c0ffee",
        "origin_topic": PaymentReceived.TOPIC,
        "origin_partition": 3,
        "origin_offset": 7,
        "settled_at": NOON,
        "amount": Decimal("12.34"),
        "tender": "card",
        "product": "portal",
    }
    return PaymentOutcome(**told | fields)  # type: ignore[arg-type]  # the fields are those of the event


def read(file: ParkedFile, *batches: list[PaymentOutcome]) -> None:
    """One reading to the end, a batch at a time."""
    file.begin("payment", "topic-1", anew=False)
    for number, batch in enumerate(batches):
        file.take("payment", batch, {0: number + 1})
    file.finish("payment")


def parked(file: ParkedFile, filters: Filters | None = None) -> list[tuple[str, int]]:
    return [(each.natural_id, each.attempt) for each in file.find(filters or Filters(), 100)]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[ParkedFile]:
    opened = ParkedFile(tmp_path / "parked.sqlite").open()
    yield opened
    opened.close()


@given(LATE, st.randoms())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_newest_outcome_decides_in_whatever_order_they_are_read(
    file: ParkedFile, told: list[tuple[int, str]], random: object
) -> None:
    name = f"p{id(random)}-{len(told)}-{hash(tuple(told))}"
    random.shuffle(told)  # type: ignore[attr-defined]  # a random.Random
    read(file, *([outcome(name, state, attempt)] for attempt, state in told))
    newest = max(((attempt, state != "parked") for attempt, state in told), default=(0, True))
    expected = [] if newest[1] else [(name, newest[0])]
    assert [each for each in parked(file) if each[0] == name] == expected


def test_a_retry_that_is_read_before_what_it_retried_is_remembered_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "parked.sqlite"
    for order in permutations([outcome("p1"), outcome("p1", "posted", 2, account=ACCOUNT)]):
        path.unlink(missing_ok=True)
        for number, each in enumerate(order):
            opened = ParkedFile(path).open()
            opened.begin("payment", "topic-1", anew=False)
            opened.take("payment", [each], {number: 1})
            opened.close()
        opened = ParkedFile(path).open()
        assert parked(opened) == []
        opened.close()


def test_the_file_keeps_nothing_of_what_is_settled_once_the_log_was_read_twice(tmp_path: Path) -> None:
    path = tmp_path / "parked.sqlite"
    file = ParkedFile(path).open()
    read(file, [outcome(f"p{n}") for n in range(50)])
    read(file, [outcome(f"p{n}", "posted", 2) for n in range(50)])
    read(file)
    file.close()
    with sqlite3.connect(path) as db:
        assert db.execute(
            "SELECT (SELECT count(*) FROM parked), (SELECT count(*) FROM ended)"
        ).fetchone() == (
            0,
            0,
        )
    db.close()


@pytest.mark.parametrize("content", [b"this is no database", b"SQLite format 3\x00" + b"\x07" * 4000])
def test_a_damaged_file_is_read_anew(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "parked.sqlite"
    path.write_bytes(content)
    file = ParkedFile(path).open()
    assert (parked(file), file.followed("payment")) == ([], {})
    read(file, [outcome()])
    assert parked(file) == [("p1", 1)]
    file.close()


def test_a_file_of_another_kind_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "parked.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE followed (partition INTEGER)")
    db.close()
    file = ParkedFile(path).open()
    assert file.followed("payment") == {}
    file.close()


def test_where_a_topic_was_made_anew_what_it_said_before_is_forgotten(file: ParkedFile) -> None:
    read(file, [outcome()])
    assert (file.followed("payment"), file.of_topic("payment")) == ({0: 1}, "topic-1")
    file.begin("payment", "topic-2", anew=True)
    assert (parked(file), file.followed("payment"), file.of_topic("payment")) == ([], {}, "topic-2")


def test_filters_and_counts(file: ParkedFile) -> None:
    read(
        file,
        [
            outcome("p1", settled_at=NOON - timedelta(hours=3)),
            outcome("p2", account=ACCOUNT, reason="in_doubt", never_sent=False),
            outcome("p3", biller="birch", reason="unsupported: refund"),
            outcome("P3#beef", reason="conflict", account=ACCOUNT),
        ],
    )
    names = {
        "by biller": Filters(biller="birch"),
        "by account": Filters(account=ACCOUNT),
        "by reason": Filters(reason="in_doubt"),
        "by first word": Filters(reason="unsupported"),
        "by kind": Filters(family="invoice"),
        "by age": Filters(before=NOON - timedelta(hours=2)),
    }
    assert {how: sorted(name for name, _ in parked(file, filters)) for how, filters in names.items()} == {
        "by biller": ["p3"],
        "by account": ["P3#beef", "p2"],
        "by reason": ["p2"],
        "by first word": ["p3"],
        "by kind": [],
        "by age": ["p1"],
    }
    assert [(t.biller, t.reason, t.count, t.amount) for t in file.tallies(Filters(biller="acme"))] == [
        ("acme", "account_unknown", 1, Decimal("12.34")),
        ("acme", "conflict", 1, Decimal("12.34")),
        ("acme", "in_doubt", 1, Decimal("12.34")),
    ]
    assert [each.natural_id for each in file.named("P3", "birch")] == ["p3"]
    assert [each.natural_id for each in file.named("P3", "acme")] == ["P3#beef"]


def test_a_row_is_the_outcome_as_it_was_told(file: ParkedFile) -> None:
    told = outcome("p1", batch_day=NOON.date(), detail="no account", attempt=3)
    read(file, [told])
    (kept,) = file.find(Filters(), 1)
    for name in ("biller", "account", "natural_id", "event_id", "attempt", "never_sent", "reason", "detail"):
        assert getattr(kept, name) == getattr(told, name)
    assert (kept.amount, kept.tender, kept.product, kept.batch_day, kept.settled_at) == (
        told.amount,
        told.tender,
        told.product,
        told.batch_day,
        told.settled_at,
    )
    assert (kept.family, kept.topic, kept.partition, kept.offset) == ("payment", PaymentReceived.TOPIC, 3, 7)


def reasons_in_code() -> set[str]:
    """The first words of every reason for which the code parks a delivery."""
    found = set()
    for folder in LANES:
        for path in (ROOT / "services" / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            for node in ast.walk(ast.parse(text)) if "Parked(" in text else ():
                if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args):
                    continue
                if node.func.id == "Parked":
                    found |= _words(node.args[0])
    return found


def _words(reason: ast.expr) -> set[str]:
    if isinstance(reason, ast.Constant):
        return {str(reason.value)}
    assert isinstance(reason, ast.JoinedStr), ast.dump(reason)
    first, *rest = reason.values
    if isinstance(first, ast.Constant):
        return {str(first.value).partition(":")[0]}
    assert isinstance(rest[0], ast.Constant), ast.dump(reason)  # f"{kind}_unknown"
    return {f"{kind}{rest[0].value!s}" for kind in ("account", "policy")}


def test_every_reason_that_the_code_gives_has_a_meaning_and_no_other_has() -> None:
    assert reasons_in_code() == MEANINGS.keys()
    assert meaning_of("unsupported: refund") is MEANINGS["unsupported"]
    assert "newer" in meaning_of("made up").means


def a_choice(file: ParkedFile, **fields: object) -> Choice:
    read(file, [outcome("p1", **{"account": ACCOUNT, **fields})])  # type: ignore[arg-type]  # fields of the event
    (kept,) = file.find(Filters(), 1)
    return Choice(parked=kept, does="cannot", why="", record=object(), fact=PAYMENT)


@pytest.mark.parametrize(
    ("fields", "does"),
    [
        ({"reason": "retries_exhausted", "never_sent": True}, "deliver"),
        ({"reason": "retries_exhausted", "never_sent": False}, "ask first"),
        ({"reason": "conflict"}, "cannot"),
        ({"reason": "unsupported: refund"}, "cannot"),
        ({"reason": "unknown_biller"}, "deliver"),
    ],
)
def test_what_a_retry_does(file: ParkedFile, fields: dict[str, object], does: str) -> None:
    assert retry_of(a_choice(file, **fields), ACME, None, "").does == does


def test_what_cannot_be_asked_for_or_is_known_already_is_left_as_it_is(
    file: ParkedFile,
) -> None:
    choice = a_choice(file, reason="in_doubt", never_sent=False)
    deaf = ACME.model_copy(update={"imt": ACME.imt.model_copy(update={"looks_up_payments": False})})
    assert [
        retry_of(choice, ACME, None, "").does,
        retry_of(choice, deaf, None, "").does,
        retry_of(choice, None, None, "").does,
        retry_of(choice, ACME, None, "0000012345").does,
        retry_of(choice, ACME, NoAccount("still none"), "").does,
        retry_of(replace(choice, record=None, why="gone"), ACME, None, "").why,
    ] == ["ask first", "cannot", "cannot", "cannot", "cannot", "gone"]


def test_an_account_is_found_as_the_intake_finds_it_and_nothing_else_changes() -> None:
    lost = a_payment(accounts("0000099999"))
    assert (lost.resolution, lost.account) == ("unknown", f"?{lost.payment_guid}")
    assert isinstance(resolve(lost, ACME, accounts("0000099999")), NoAccount)
    found = resolve(lost, ACME, accounts())
    assert found == replace(lost, account=ACCOUNT, resolution="matched")
    assert resolve(lost, ACME, accounts("0000099999"), "99999") == replace(
        lost, account="0000099999", resolution="matched"
    )


def test_an_ambiguous_one_goes_to_a_candidate_alone() -> None:
    two = accounts(ACCOUNT, "0000099999")
    lost = a_payment(two, InvoiceNumber="INV-0000099999")
    assert (lost.resolution, lost.candidates) == ("ambiguous", (ACCOUNT, "0000099999"))
    three = accounts(ACCOUNT, "0000099999", "0000077777")
    assert isinstance(resolve(lost, ACME, three), NoAccount)
    assert isinstance(resolve(lost, ACME, three, "77777"), NoAccount)
    found = resolve(lost, ACME, three, "99999")
    assert not isinstance(found, NoAccount)
    assert (found.account, found.candidates, found.content) == ("0000099999", (), lost.content)


def test_a_setting_goes_to_the_policy_as_imt_writes_it() -> None:
    lost = settings_sample.setting(
        number="ho 0077", number_kind="policy", imt_number=None, resolution="unknown"
    )
    view = settings_sample.accounts(settings_sample.account(settings_sample.ACCOUNT, settings_sample.POLICY))
    assert view.by_policy("acme", "ho 0077") == Match(settings_sample.ACCOUNT)
    found = resolve(lost, settings_sample.acme(), view)
    assert found == replace(
        lost, account=settings_sample.ACCOUNT, imt_number=settings_sample.POLICY, resolution="matched"
    )


def test_only_accounts_that_may_be_meant_are_kept() -> None:
    lost = a_payment(accounts("0000099999"), InvoiceNumber="INV-5")
    wanted = Wanted([lost], "4711")
    base = accounts().by_account("acme", ACCOUNT)
    assert base is not None
    other = replace(base, account="0000000001", invoice_number="INV-1", invoices=())
    assert wanted.is_of(base)
    assert not wanted.is_of(other)
    assert wanted.is_of(replace(other, invoices=("INV-5",)))
    assert wanted.is_of(replace(other, account="0004711"))
    assert wanted.is_of(replace(other, policies=("47-11",)))
    assert (wanted.of_biller(b"acme/1"), wanted.of_biller(b"birch/1"), wanted.of_biller(None)) == (
        True,
        False,
        False,
    )


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(-5, "0 s"), (59, "59 s"), (3599, "59 min"), (7260, "2 h 1 min"), (90_000, "1 d 1 h")],
)
def test_ages(seconds: int, told: str) -> None:
    assert age(timedelta(seconds=seconds)) == told
