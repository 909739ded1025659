"""Comparing a day: what was received, what became of it, what IMT has, and the batch that was closed."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from typer.testing import CliRunner

from services.bus.business_day import business_day
from services.bus.faults import Outage, Retryable
from services.bus.lane import Parked, Posted, Rejected, Settled, Settlement
from services.bus.settings import ConfigurationError
from services.cli.app import cli
from services.events import BatchClosed, OffsetRange, PaymentOutcome, PaymentReceived
from services.operations.day import day_of
from services.operations.reconcile_batch import check_batch
from services.operations.reconcile_book import Book
from services.operations.reconcile_csv import cell, shown, write_csv
from services.operations.reconcile_partner import PartnerBatch
from services.operations.reconcile_words import WORDS, PartnerSide, Summary, Totals
from services.payments.batches import Day, batch_closed
from services.payments.handlers import record_outcome
from services.payments.imt import Page, Posting
from tests.unit.parts import NOON, a_biller
from tests.unit.payments_sample import ACCOUNT, a_payment

BILLER = a_biller()
DAY = date(2026, 11, 23)
NEXT = DAY + timedelta(days=1)
TEN = Decimal("10.00")
PAYMENT = a_payment()


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with Book(tmp_path / "book", DAY, lambda at: business_day(BILLER, at)) as made:
        yield made


def paid(guid: str, amount: Decimal = TEN, **more: Any) -> PaymentReceived:
    return replace(PAYMENT, payment_guid=guid, payment_guid_as_sent=None, amount=amount, **more)


def receive(book: Book, *payments: PaymentReceived) -> Day:
    day = Day(counted=book)
    for payment in payments:
        if day.add(payment) == "counted":
            book.received(payment, NOON)
    return day


def outcome(
    payment: PaymentReceived, settlement: Settlement, attempt: int = 1, natural: str | None = None
) -> PaymentOutcome:
    return record_outcome(
        payment,
        Settled(
            settlement=settlement,
            event_id=UUID(int=1),
            natural_id=natural or payment.payment_guid,
            attempt=attempt,
            looked_up=False,
            never_sent=False,
            scope=None,
            rank=None,
            topic=PaymentReceived.TOPIC,
            partition=0,
            offset=0,
            at=NOON,
        ),
    )


def post(book: Book, payment: PaymentReceived, day: date = DAY, attempt: int = 1, **more: Any) -> None:
    settled = outcome(payment, Posted("R", fields={"batch_day": day}), attempt)
    book.settled(replace(settled, **more), of_the_day=True)


def listed(book: Book, guid: str, **changes: Any) -> None:
    values: dict[str, Any] = {"account": ACCOUNT, "amount": TEN, "reference": "R", "batch_day": DAY}
    book.listed = True
    book.at_imt(guid, Posting(**(values | changes)))


def found(book: Book) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {}
    for each in book.differences():
        kinds.setdefault(each.kind, []).append(each.payment_guid)
    return kinds


def test_a_day_that_adds_up_has_no_difference(book: Book) -> None:
    for guid in ("a", "b"):
        receive(book, paid(guid))
        post(book, paid(guid))
        listed(book, guid.upper())
    assert found(book) == {}
    assert book.expected_at_imt() == book.listed_by_imt() == Totals(2, Decimal("20.00"))


def test_every_difference_is_named_with_what_both_sides_have(book: Book) -> None:
    guids = ("lost", "double", "amount", "account", "day", "good")
    receive(book, *map(paid, guids))
    for guid in guids:
        post(book, paid(guid))
    listed(book, "good")
    listed(book, "double")
    listed(book, "double")
    listed(book, "amount", amount=Decimal("99.00"))
    listed(book, "account", account="0000099999")
    listed(book, "stranger")
    book.at_imt("day", Posting(ACCOUNT, TEN, "R", NEXT), asked=True)
    assert found(book) == {
        "lost_at_imt": ["lost"],
        "doubled_at_imt": ["double"],
        "wrong_amount": ["amount"],
        "wrong_account": ["account"],
        "wrong_day": ["day"],
        "not_ours": ["stranger"],
    }
    (moved,) = book.differences(("wrong_day",))
    assert (moved.batch_day, moved.imt_batch_day, moved.asked) == (DAY, NEXT, True)
    (doubled,) = book.differences(("doubled_at_imt",))
    assert (doubled.amount, doubled.imt_count, doubled.imt_amount) == (TEN, 2, Decimal("20.00"))


def test_without_imts_list_its_silence_is_no_loss(book: Book) -> None:
    receive(book, paid("a"))
    post(book, paid("a"))
    assert found(book) == {}


def test_what_is_missing_parked_or_refused_counts_as_such_and_received_is_their_sum(book: Book) -> None:
    payments = [paid(guid, Decimal(n)) for n, guid in enumerate(("ok", "gone", "park", "no", "zero"), 1)]
    payments[-1] = replace(payments[-1], amount=Decimal("0.00"))
    day = receive(book, *payments)
    post(book, payments[0])
    book.settled(outcome(payments[2], Parked("account_unknown")), of_the_day=True)
    book.settled(outcome(payments[3], Rejected("UNKNOWN_ACCOUNT")), of_the_day=True)
    book.settled(outcome(payments[4], Rejected("nothing_due")), of_the_day=True)
    assert found(book) == {"missing": ["gone"], "parked": ["park"], "refused": ["no"]}
    states = {line.state: line.totals for line in book.lines()}
    assert states["missing"] == Totals(1, Decimal("2.00"))
    assert states["refused"] == Totals(2, Decimal("4.00"))
    assert sum(states.values(), Totals()) == Totals(day.all.count, day.all.amount) == Totals(5, TEN)
    (parked,) = book.differences(("parked",))
    assert parked.reason == "account_unknown"


@pytest.mark.parametrize(
    ("attempts", "state"),
    [
        ([("parked", 1), ("posted", 2)], {}),
        ([("posted", 2), ("parked", 1)], {}),
        ([("posted", 1), ("parked", 1)], {}),
        ([("posted", 1), ("parked", 2)], {"parked": ["a"]}),
    ],
)
def test_the_newest_outcome_counts_by_attempt_then_final_before_parked(
    book: Book, attempts: list[tuple[str, int]], state: dict[str, list[str]]
) -> None:
    receive(book, paid("a"))
    for name, attempt in attempts:
        settled = Posted("R", fields={"batch_day": DAY}) if name == "posted" else Parked("x")
        book.settled(outcome(paid("a"), settled, attempt), of_the_day=True)
    assert found(book) == state


def test_a_guid_counts_once_and_one_of_an_earlier_day_not_at_all(book: Book) -> None:
    book.before(paid("old"), NOON - timedelta(days=2))
    day = receive(book, paid("old"), paid("a"), paid("A"), paid("no", approved=False), paid("no"))
    assert (day.all.count, day.repeats, day.declined) == (1, 3, 1)
    conflict = outcome(paid("a", Decimal("12.00")), Parked("conflict"), natural="a#feed")
    post(book, paid("a"))
    book.settled(conflict, of_the_day=True)
    book.settled(replace(conflict, natural_id="old#feed"), of_the_day=False)
    assert found(book) == {"conflict": ["a"]}


def test_late_payments_are_told_with_the_day_whose_batch_they_are_in(book: Book) -> None:
    book.before(paid("from-friday"), NOON - timedelta(days=3))
    book.before(paid("not-today"), NOON - timedelta(days=3))
    receive(book, paid("to-tomorrow"))
    post(book, paid("to-tomorrow"), NEXT)
    post(book, paid("from-friday"))
    listed(book, "from-friday")
    listed(book, "not-today")
    book.settled(
        outcome(paid("just-now"), Posted("R", fields={"batch_day": DAY})), of_the_day=False, later=True
    )
    assert found(book) == {
        "wrong_day": ["not-today"],
        "late": ["to-tomorrow"],
        "from_another_day": ["from-friday"],
    }
    assert [each.received_day for each in book.differences(("wrong_day",))] == [date(2026, 11, 20)]


def test_what_imt_has_though_we_do_not_hold_it_posted_is_told(book: Book) -> None:
    receive(book, paid("a"), paid("no", approved=False))
    book.settled(outcome(paid("a"), Parked("in_doubt")), of_the_day=True)
    listed(book, "a")
    listed(book, "no")
    assert found(book) == {"at_imt_not_posted": ["a", "no"], "parked": ["a"]}


class AtImt:
    """Lists what it was given two a page, and answers look-ups; `faults` come first."""

    def __init__(self, payments: list[tuple[str, Posting]], *faults: Exception) -> None:
        self.payments, self.faults = payments, list(faults)
        self.asked: list[str] = []
        self.elsewhere: dict[str, Posting] = {}

    async def list_batch(self, biller: str, batch_day: date, after: str | None = None) -> Page:
        assert (biller, batch_day) == ("acme", DAY)
        if self.faults:
            raise self.faults.pop(0)
        begin = int(after or 0)
        page, more = tuple(self.payments[begin : begin + 2]), begin + 2 < len(self.payments)
        return Page(page, str(begin + 2) if more else None, len(self.payments), None)

    async def find(self, biller: str, payment_guid: str) -> Posting | None:
        assert biller == "acme"
        self.asked.append(payment_guid)
        return self.elsewhere.get(payment_guid)

    def lists(self, biller: str) -> bool:
        return biller == "acme"

    looks_up = lists


async def test_the_list_is_read_page_by_page_and_what_it_lacks_is_asked_for(book: Book) -> None:
    receive(book, *map(paid, "abcde"))
    imt = AtImt(
        [(guid, Posting(ACCOUNT, TEN, "R", DAY)) for guid in "ab"] * 2
        + [("c", Posting(ACCOUNT, TEN, "R", DAY))]
    )
    imt.elsewhere["d"] = Posting(ACCOUNT, TEN, "R", NEXT)
    work = PartnerBatch(imt, "acme", DAY, book)
    await work.read(lambda _: None)
    for guid in "abcde":
        post(book, paid(guid))
    await work.ask_for_the_rest()
    assert sorted(imt.asked) == ["d", "e"]
    assert found(book) == {"lost_at_imt": ["e"], "doubled_at_imt": ["a", "b"], "wrong_day": ["d"]}
    assert work.side(book.counts()).state == "differs"


async def test_an_imt_that_cannot_be_asked_is_said_and_nothing_is_lost_by_it(book: Book) -> None:
    receive(book, paid("a"))
    post(book, paid("a"))
    work = PartnerBatch(
        AtImt([], Outage("acme", "imt.datapump", "no connection: refused")), "acme", DAY, book
    )
    await work.read(lambda _: None)
    await work.ask_for_the_rest()
    assert (work.side(book.counts()).state, work.side(book.counts()).reason) == (
        "not reached",
        "no connection: refused",
    )
    assert found(book) == {}


async def test_a_busy_imt_is_asked_again(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.operations.reconcile_partner.PAUSE_S", 0)
    receive(book, paid("a"))
    post(book, paid("a"))
    busy = Retryable("acme", "imt.datapump", "no answer within the deadline")
    work = PartnerBatch(AtImt([("a", Posting(ACCOUNT, TEN, "R", DAY))], busy), "acme", DAY, book)
    await work.read(lambda _: None)
    assert work.side(book.counts()).state == "agrees"


def closed(day: Day, *ranges: tuple[int, int]) -> BatchClosed:
    told = tuple(OffsetRange(partition=p, begin=b, end=e) for p, (b, e) in enumerate(ranges))
    return batch_closed(BILLER, DAY, day, told)


def test_a_batch_is_compared_figure_by_figure(book: Book) -> None:
    day = receive(book, paid("a"), paid("b", tender="eft"))
    ours = closed(day, (5, 9), (0, 3))
    late = ours.closed_at + timedelta(hours=1)
    assert check_batch(ours, ours, late, first=False) == ("agrees", ())
    first = closed(day, (0, 9), (0, 3))
    assert check_batch(ours, first, late, first=True) == ("agrees", ())
    other = replace(ours, count=1, amount=TEN, totals=ours.totals[:1], ranges=first.ranges)
    state, differences = check_batch(ours, other, late, first=False)
    assert state == "differs"
    assert [(d.what, d.counted, d.closed) for d in differences] == [
        ("count", "2", "1"),
        ("amount", "20.00", "10.00"),
        ("total eft portal", "1, 10.00 USD", "none"),
        ("partition 0", "5-9", "0-9"),
    ]


@pytest.mark.parametrize(
    ("after", "state"), [(timedelta(minutes=5), "open"), (timedelta(hours=1), "not closed")]
)
def test_a_batch_that_is_not_closed_is_a_fault_only_some_time_after_its_cut_off(
    book: Book, after: timedelta, state: str
) -> None:
    ours = closed(receive(book, paid("a")), (0, 1))
    assert check_batch(ours, None, ours.closed_at + after, first=True) == (state, ())


@pytest.mark.parametrize(("day", "hours"), [("2026-03-08", 23), ("2026-11-01", 25), ("2026-11-20", 24)])
def test_a_day_has_the_hours_between_its_cut_offs_and_each_instant_one_day(
    tmp_path: Path, day: str, hours: int
) -> None:
    named = date.fromisoformat(day)
    window = day_of(BILLER, named)
    assert window.end - window.begin == timedelta(hours=hours)
    with Book(tmp_path / "book", named, lambda at: business_day(BILLER, at)) as book:
        for guid, at in (
            ("before", window.begin - timedelta(milliseconds=1)),
            ("first", window.begin),
            ("last", window.end - timedelta(milliseconds=1)),
            ("after", window.end),
        ):
            book.add(guid)
            book.received(paid(guid), at)
        days = {each.payment_guid: each.received_day for each in book.differences(("missing",))}
    assert days["first"] == days["last"] == named
    assert (days["before"], days["after"]) == (named - timedelta(days=1), named + timedelta(days=1))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_cell_that_would_be_a_formula_is_text(text: str) -> None:
    assert cell(text) == f"'{text}"


SUMMARY = Summary(
    biller=BILLER,
    day=DAY,
    opened_at=NOON,
    closed_at=NOON,
    is_open=False,
    lines=(),
    declined=0,
    repeats=0,
    batch="agrees",
)


def test_the_csv_masks_accounts_and_holds_every_difference(book: Book, tmp_path: Path) -> None:
    receive(book, paid("=cmd|' /C calc'!A0"), paid("b"))
    path = tmp_path / "differences.csv"
    assert write_csv(path, book.differences(), SUMMARY, personal_data=False) == 2
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert [row["payment_guid"] for row in rows] == ["'=cmd|' /c calc'!a0", "b"]
    assert {row["account"] for row in rows} == {"***345"}
    assert path.stat().st_mode & 0o077 == 0
    write_csv(path, book.differences(), SUMMARY, personal_data=True)
    assert ACCOUNT in path.read_text()


def test_stamps_are_instants_whatever_the_machines_zone(book: Book) -> None:
    book.add("a")
    book.received(paid("a"), datetime(2026, 11, 23, 22, 59, 59, 999_000, UTC))
    assert [each.received_day for each in book.differences()] == [DAY]


def test_every_kind_says_what_to_do_for_this_biller_day_and_payment(book: Book) -> None:
    receive(book, paid("a"))
    (told,) = shown(book.differences(), SUMMARY, personal_data=False)
    assert told["what_to_do"].endswith("--day 2026-11-23 --biller acme --only-outcome missing")
    for _, advice in WORDS.values():
        assert "{" not in advice.format(biller="acme", day=DAY, guid="a")


@pytest.mark.parametrize(
    ("changes", "adds_up"),
    [
        ({}, True),
        ({"differences": {"late": 3, "from_another_day": 1}}, True),
        ({"differences": {"parked": 1}}, False),
        ({"batch": "not closed"}, False),
        ({"batch": "open"}, True),
        ({"imt": PartnerSide(state="differs")}, False),
        ({"imt": PartnerSide(state="not reached")}, True),
    ],
)
def test_a_day_adds_up_unless_something_is_missing_or_differs(changes: dict[str, Any], adds_up: bool) -> None:
    assert replace(SUMMARY, **changes).adds_up is adds_up


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--biller", "nobody", "--day", "2026-11-20"], "There is no biller 'nobody'; known are acme, "),
        (["--biller", "acme", "--day", "20.11.2026"], "--day: '20.11.2026' is no day such as 2026-11-20."),
        (["--biller", "acme", "--day", "0001-01-01"], "--day: '0001-01-01' is no day such as 2026-11-20."),
        (["--biller", "acme", "--day", "2999-01-01"], "--day: 2999-01-01 begins at 2998-12-31T"),
        (["--biller", "acme", "--day", "2026-11-20", "--pii"], "Personal data is not shown here: "),
    ],
)
def test_what_is_asked_wrongly_is_one_sentence(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BILLBUS_PERSONAL_DATA", raising=False)
    done = CliRunner().invoke(cli, ["reconcile", *arguments])
    assert (done.exit_code, done.stderr.startswith(said)) == (2, True), done.stderr


def test_a_missing_secret_is_said_before_anything_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILLBUS_SECRETS", str(tmp_path))
    monkeypatch.setenv("BILLBUS_BOOTSTRAP", "127.0.0.1:1")
    done = CliRunner().invoke(cli, ["reconcile", "--biller", "acme", "--day", "2026-11-20"])
    assert isinstance(done.exception, ConfigurationError)
    assert "acme-imt-token" in str(done.exception)
