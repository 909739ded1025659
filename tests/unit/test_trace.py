"""billbus trace without a broker: what is meant, what is searched, what belongs to a story, what is drawn."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from typer.testing import CliRunner

from services.cli.app import cli
from services.events import BatchClosed, Event, OffsetRange, PaymentOutcome
from services.operations.day import Window
from services.operations.trace import Entry, Searched, Story
from services.operations.trace_drawings import as_html, as_mermaid
from services.operations.trace_find import Subject, guid_of, kinds_of, trace_id_of
from services.operations.trace_lanes import lasting
from services.operations.trace_log import Seen
from services.operations.trace_scan import Hit, Stretch, _Left, _Search
from services.operations.trace_story import belongs, concerns, newest_outcome
from tests.unit.parts import NOON, FakeClock
from tests.unit.payments_sample import a_payment

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
GUID = "6f3c0c2e-5a1b-4b52-9a43-0d9b2c9d1e55"
RECEIVED, OUTCOME = "billing.payment.received.v1", "billing.payment.outcome.v1"


@pytest.mark.parametrize(
    ("typed", "kinds"),
    [
        (GUID.upper(), ("payment",)),
        (f"{{{GUID}}}", ("payment",)),
        (f"00-{TRACE}-00f067aa0ba902b7-01", ("trace", "payment")),
        (TRACE.upper(), ("trace", "payment")),
        ("000-1234 567", ("account", "invoice", "payment")),
    ],
)
def test_what_is_meant_is_seen_by_its_looks(typed: str, kinds: tuple[str, ...]) -> None:
    assert kinds_of(typed) == kinds


def test_a_guid_and_a_trace_id_are_read_as_the_intake_keeps_them() -> None:
    assert guid_of(f" {{{GUID.upper()}}} ") == GUID
    assert trace_id_of(f"00-{TRACE}-00f067aa0ba902b7-01") == TRACE
    assert trace_id_of(GUID) == ""


# -- the bytes of the log ----------------------------------------------------------------------------------


def a_batch(first: int, *values: bytes, compression: int = 0) -> bytes:
    """A batch of records as a broker gives it, from this offset on."""
    builder = DefaultRecordBatchBuilder(
        magic=2, compression_type=compression, is_transactional=0, producer_id=-1, producer_epoch=-1,
        base_sequence=-1, batch_size=1 << 20,
    )  # fmt: skip
    for number, value in enumerate(values):
        builder.append(number, 1_795_000_000_000 + number, b"acme/1", value, [("ce_id", b"x")])
    raw = bytearray(builder.build())
    raw[:8] = first.to_bytes(8, "big")
    return bytes(raw)


def search(raw: bytes, needle: bytes, *, begin: int = 10, end: int = 100) -> tuple[list[int], int]:
    """Offsets of the hits in one answer, and where the search goes on."""
    stretch = Stretch("t", 0, begin, end)
    it = _Search(cast("Any", None), FakeClock(), [stretch], [needle])
    left = _Left(stretch, begin)
    return [hit.offset for hit in it.take(raw, left)], left.next


@pytest.mark.parametrize("compression", [0, 1])
def test_only_records_that_hold_the_bytes_are_found_also_in_compressed_batches(compression: int) -> None:
    raw = a_batch(10, b"one", b"two", compression=compression) + a_batch(
        12, b"three", b"one more", compression=compression
    )
    assert search(raw, b"one") == ([10, 13], 14)
    assert search(raw, b"acme/1") == ([10, 11, 12, 13], 14)
    assert search(raw, b"nothing of it") == ([], 14)


def test_a_batch_that_the_answer_cuts_is_left_for_the_next_one() -> None:
    whole, cut = a_batch(10, b"one", b"two"), a_batch(12, b"one")
    for size in range(len(cut)):
        assert search(whole + cut[:size], b"one") == ([10], 12)


def test_nothing_outside_the_stretch_is_told() -> None:
    raw = a_batch(8, b"one", b"one", b"one", b"one", b"one")
    assert search(raw, b"one", begin=10, end=12) == ([10, 11], 12)


# -- what belongs together ---------------------------------------------------------------------------------


def seen(event: Event | None, topic: str, offset: int, **headers: str) -> Seen:
    told = tuple((name, text.encode()) for name, text in headers.items())
    return Seen(Hit(topic, 3, offset, 1_795_000_000_000 + offset, b"acme/0000012345", b"raw", told), event)


def an_outcome(guid: str, state: Any = "posted", attempt: int = 1, content: str = "") -> PaymentOutcome:
    return PaymentOutcome(
        biller="acme", account="0000012345", natural_id=guid, event_id="e", state=state, attempt=attempt,
        content=content, origin_topic=RECEIVED, origin_partition=3, origin_offset=7, settled_at=NOON,
        amount=Decimal("120.50"), tender="card", product="portal",
    )  # fmt: skip


def test_a_payments_story_has_its_own_records_and_no_others() -> None:
    mine = a_payment(PaymentGUID=GUID)
    records = [
        seen(mine, RECEIVED, 1),
        seen(an_outcome(GUID), OUTCOME, 2),
        seen(an_outcome(f"{GUID}#0123"), OUTCOME, 3),
        seen(mine, f"{RECEIVED}.replay", 4, billbus_run="r-1"),
        seen(None, f"{RECEIVED}.dlq", 5, billbus_origin_partition="3", billbus_origin_offset="1"),
        seen(a_payment(PaymentGUID="another"), RECEIVED, 6),
        seen(an_outcome("another"), OUTCOME, 7),
        seen(None, f"{RECEIVED}.dlq", 8, billbus_origin_partition="3", billbus_origin_offset="6"),
    ]
    chosen, ties = belongs(Subject("payment", GUID, ("acme/0000012345",)), records)
    assert [each.hit.offset for each in chosen] == [1, 2, 3, 4, 5]
    assert ties.runs == {"r-1"}


def test_a_batch_that_covers_the_payments_offset_counted_it_unless_it_was_declined() -> None:
    batch = BatchClosed(
        biller="acme", batch_day=NOON.date(), opened_at=NOON, closed_at=NOON, count=1, amount=Decimal(1),
        convenience_fee=Decimal(0), rule="r", ranges=(OffsetRange(partition=3, begin=5, end=8),),
    )  # fmt: skip
    taken = a_payment(PaymentGUID=GUID)
    closed = seen(batch, "billing.batch.closed.v1", 1)
    _, ties = belongs(Subject("account", "", ()), [])
    for offset, counted in ((4, False), (5, True), (7, True), (8, False)):
        assert concerns(closed, ties, [seen(taken, RECEIVED, offset)]) is counted
    declined = replace(taken, approved=False)
    assert not concerns(closed, ties, [seen(declined, RECEIVED, 5)])


def test_the_newest_outcome_is_by_attempt_and_only_then_by_being_final() -> None:
    fact = a_payment(PaymentGUID=GUID)
    posted, parked = an_outcome(GUID, attempt=1), an_outcome(GUID, "parked", attempt=2)
    records = [seen(parked, OUTCOME, 8), seen(posted, OUTCOME, 9)]
    newest = newest_outcome(fact, records)
    assert newest is not None
    assert newest.event is parked
    conflict = an_outcome(f"{GUID}#ffff", "parked", content="ffff")
    assert newest_outcome(fact, [seen(conflict, OUTCOME, 9)]) is None


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1 s"), (59, "59 s"), (61, "1 min 1 s"), (3600, "1 h"), (93_784, "1 d 2 h")],
)
def test_a_length_of_time_is_said_in_its_two_largest_units(seconds: float, said: str) -> None:
    assert lasting(seconds) == said


# -- what is drawn -----------------------------------------------------------------------------------------


def a_story(words: str) -> Story:
    day = Window(NOON - timedelta(days=1), NOON)
    entry = Entry(
        at=datetime(2026, 11, 23, 11, 59, 0, 21_000, UTC), topic=RECEIVED, short="payment.received",
        partition=3, offset=7, key="acme/***345", words=words, id=None, trace_id=None, value=None,
    )  # fmt: skip
    return Story(
        kind="payment", text=GUID, keys=("acme/***345",), zone=ZoneInfo("America/Chicago"),
        entries=(entry,), unsettled=(words,),
        searched=Searched(looked=(day,), followed=day, kinds=("payment",), records=1, bytes=1),
    )  # fmt: skip


@pytest.mark.parametrize(
    "hostile", ["<script>alert(1)</script>", '"><img src=//evil>', "a;b\nend\n%%{init}%%"]
)
def test_nothing_of_a_partners_text_becomes_markup(hostile: str) -> None:
    page, diagram = as_html(a_story(hostile)), as_mermaid(a_story(hostile))
    assert "<script" not in page
    assert "<img" not in page
    assert "05:59:00.021" in page
    assert len(diagram.splitlines()) == 8
    text = re.sub(r"#\d+;|->>", "", diagram)
    assert not set('<>;%{}"#') & set(text)
    assert not re.search(r"\bend\b", text)
    assert "2026-11-23 America/Chicago" in diagram


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x", "--kind", "bill"], "--kind: 'bill' is none of payment, invoice, account, trace."),
        (["x", "--day", "yesterday"], "--day: 'yesterday' is no day such as 2026-11-20."),
        (["x", "--biller", "nobody"], "There is no biller 'nobody'; known are acme, "),
        (["x", "--pii"], "Personal data is not shown here: "),
    ],
)
def test_wrong_use_is_exit_code_2_and_one_sentence(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.setattr("sys.argv", ["billbus", "--json"])
    monkeypatch.delenv("BILLBUS_PERSONAL_DATA", raising=False)
    result = CliRunner().invoke(cli, ["trace", *arguments, "--json"])
    assert result.exit_code == 2
    (sentence,) = json.loads(result.stdout)["errors"]
    assert sentence.startswith(said)
