"""The index of outcomes: what was learned counts at once, and the file is a snapshot with its offsets."""

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.bus.codec import Codec
from services.bus.identity import delivery_key
from services.bus.outcomes import KEEP_BEST, SCHEMA, WRITE_AT, OutcomeIndex, Row, better
from services.events import PaymentOutcome

rows = st.tuples(st.integers(0, 4), st.integers(1, 5), st.booleans(), st.sampled_from(["a", "b", "c"]))


def outcome(natural_id: str, state: str = "posted", **fields: object) -> PaymentOutcome:
    told: dict[str, object] = {
        "biller": "acme",
        "account": "1",
        "natural_id": natural_id,
        "event_id": "e",
        "state": state,
        "origin_topic": "t",
        "origin_partition": 0,
        "origin_offset": 0,
        "settled_at": datetime(2026, 11, 20, tzinfo=UTC),
        "amount": Decimal("1.00"),
        "tender": "card",
        "product": "portal",
    }
    return PaymentOutcome(**told | fields)  # type: ignore[arg-type]  # the fields are those of the event


def opened(folder: Path) -> OutcomeIndex:
    return OutcomeIndex(folder / "x.sqlite", "", PaymentOutcome.TOPIC, cast("Codec", None)).open()


@pytest.fixture
def index(tmp_path: Path) -> Iterator[OutcomeIndex]:
    found = opened(tmp_path)
    yield found
    found.close()


def state_of(index: OutcomeIndex, of: PaymentOutcome) -> str | None:
    known = index.get(delivery_key(of))
    return known.state if known else None


def test_what_was_learned_counts_at_once_and_stays_when_closed(tmp_path: Path) -> None:
    index = opened(tmp_path)
    index.learn(outcome("p1"))
    assert state_of(index, outcome("p1")) == "posted"
    index.close()
    again = opened(tmp_path)
    assert state_of(again, outcome("p1")) == "posted"
    again.close()


def test_a_final_state_beats_parked_whether_in_memory_or_in_the_file(index: OutcomeIndex) -> None:
    index.learn(outcome("p1", "posted", content="c1"))
    index.write()
    index.take(0, [outcome("p1", "parked", attempt=3, content="c2")], 7)
    for _ in ("in memory", "in the file"):
        known = index.get(delivery_key(outcome("p1")))
        assert known is not None
        assert (known.state, known.attempt, known.content) == ("posted", 3, "c1")
        index.write()


def test_the_followed_offset_is_in_the_file_only_with_what_it_stands_for(tmp_path: Path) -> None:
    index = opened(tmp_path)
    index.take(4, [outcome("p1")], 11)
    crashed = sqlite3.connect(tmp_path / "x.sqlite")  # what a process sees that starts after kill -9
    assert crashed.execute("SELECT count(*) FROM outcome").fetchone() == (0,)
    assert crashed.execute("SELECT partition, next FROM followed").fetchall() == []
    index.write()
    assert crashed.execute("SELECT count(*) FROM outcome").fetchone() == (1,)
    assert crashed.execute("SELECT partition, next FROM followed").fetchall() == [(4, 11)]
    crashed.close()
    index.close()


def test_memory_is_bounded_although_nothing_is_read_back(tmp_path: Path) -> None:
    index = opened(tmp_path)
    for number in range(WRITE_AT + 1):
        index.learn(outcome(f"p{number}"))
    beside = sqlite3.connect(tmp_path / "x.sqlite")
    assert beside.execute("SELECT count(*) FROM outcome").fetchone() == (WRITE_AT,)
    beside.close()
    index.close()


def test_the_newest_rank_of_a_scope_is_the_greatest_wherever_it_stands(index: OutcomeIndex) -> None:
    index.learn(outcome("c1", scope="s", rank="2"))
    index.write()
    index.learn(outcome("c2", scope="s", rank="1"))
    assert index.newest("acme", "s") == "2"
    index.learn(outcome("c3", scope="s", rank="3"))
    assert index.newest("acme", "s") == "3"
    assert index.newest("acme", "another") is None


@given(st.lists(rows, min_size=1, max_size=6), st.integers(0, 6))
def test_memory_and_file_agree_wherever_the_write_falls(read: list[Row], at: int) -> None:
    def stored(each: list[Row]) -> Row:
        db = sqlite3.connect(":memory:", isolation_level=None)
        db.executescript(SCHEMA)
        for row in each:
            db.execute(KEEP_BEST, (b"id", *row))
        found = db.execute("SELECT state, attempt, never_sent, content FROM outcome").fetchone()
        db.close()
        return (found[0], found[1], bool(found[2]), found[3])

    def merged(each: list[Row]) -> Row:
        row = each[0]
        for after in each[1:]:
            row = better(row, after)
        return row

    first, rest = read[:at], read[at:]
    together = [merged(part) for part in (first, rest) if part]
    assert stored(read) == merged(read) == stored(together)
