"""The index of outcomes: what is settled, kept by every replica in one SQLite file.

It follows the outcome topic of its lane over all partitions, without a group, and stores the followed
offsets in the same transaction, so that the file is its own snapshot. What was learned stands in memory
first, where it counts at once, and goes to the file a few hundred at a time. A lost file is read again from
the topic; until it has caught up it merely knows less, and the lane asks the partner more often.
"""

import asyncio
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import Self

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord

from services.bus.closing import start_consumer, stop_consumer
from services.bus.codec import Codec, Undecodable
from services.bus.connection import Brokers, aiokafka_client
from services.bus.identity import Outcome, delivery_key, event_id_text
from services.bus.views import whole

log = structlog.get_logger()

MARGIN = timedelta(days=1)
STATES = ("parked", "dismissed", "superseded", "rejected", "posted")
"""A final state beats parked in whatever order they are read."""
SCHEMA = """
CREATE TABLE IF NOT EXISTS outcome (
    id BLOB PRIMARY KEY, state INTEGER NOT NULL, attempt INTEGER NOT NULL,
    never_sent INTEGER NOT NULL, content TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS newest (scope BLOB PRIMARY KEY, rank TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS followed (
    partition INTEGER PRIMARY KEY, next INTEGER NOT NULL, since INTEGER NOT NULL DEFAULT 0);
"""
KEEP_BEST = """
INSERT INTO outcome VALUES (?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
    state = max(state, excluded.state), attempt = max(attempt, excluded.attempt),
    never_sent = CASE WHEN excluded.attempt >= attempt THEN excluded.never_sent ELSE never_sent END,
    content = CASE WHEN excluded.state > 0 OR state = 0 THEN excluded.content ELSE content END
"""
FIND = "SELECT state, attempt, never_sent, content FROM outcome WHERE id = ?"
KEEP_NEWEST = """
INSERT INTO newest VALUES (?, ?) ON CONFLICT (scope) DO UPDATE SET rank = max(rank, excluded.rank)
"""
WRITE_AT = 500
"""Outcomes in memory that are written at the latest."""
OWN_LATELY = 20_000
"""Own outcomes whose ce_id is remembered, so that they need not be decoded when they come back."""
FOLLOW_MOST, WRITE_EVERY_S = 2000, 0.25
FETCH_LEAST, FETCH_WAIT_MS = 64 * 1024, 100
Row = tuple[int, int, bool, str]
"""State by its place in STATES, attempt, never sent, content."""


@dataclass(frozen=True)
class Known:
    """What the index has of one delivery."""

    state: str
    attempt: int
    never_sent: bool
    content: str

    @property
    def final(self) -> bool:
        return self.state != "parked"


class OutcomeIndex:
    """Answers 'is this settled, and how' for one outcome topic.

    Args:
        path: the SQLite file; one process owns it.
        topic: the outcome topic to follow.
    """

    def __init__(self, path: Path, bootstrap: Brokers, topic: str, codec: Codec) -> None:
        self._path = path
        self._topic = topic
        self._codec = codec
        self._bootstrap = bootstrap
        self._next: dict[int, int] = {}
        self._since: dict[int, int] = {}
        self._fresh: dict[bytes, Row] = {}
        self._fresh_newest: dict[bytes, str] = {}
        self._own: dict[bytes, None] = {}
        self._changed = False

    def open(self) -> Self:
        """Opens the file; a damaged one is dropped and read again from the topic."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = self._connect()
        except sqlite3.DatabaseError:
            log.warning("outcome_index_rebuilt", reason="the file is damaged", topic=self._topic)
            for stale in self._path.parent.glob(f"{self._path.name}*"):
                stale.unlink()
            self._db = self._connect()
        return self

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, timeout=5)
        # the topic is the truth: a file lost with the machine is read again
        db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;" + SCHEMA)
        rows = db.execute("SELECT partition, next, since FROM followed").fetchall()
        self._next = {partition: after for partition, after, _ in rows}
        self._since = {partition: since for partition, _, since in rows}
        return db

    async def start(self) -> None:
        self._consumer = AIOKafkaConsumer(
            **aiokafka_client(self._bootstrap),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            # our own are entered already: who reads them one by one keeps the broker and itself busy
            fetch_min_bytes=FETCH_LEAST,
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        await start_consumer(self._consumer)
        partitions = await whole(self._consumer, self._topic)
        self._consumer.assign(partitions)
        ends = await self._consumer.end_offsets(partitions)
        begins = await self._consumer.beginning_offsets(partitions)
        if any(self._next.get(p.partition, 0) > ends[p] for p in partitions):
            self._forget()  # the topic was made anew: what the file says is of another topic
        gaps = [p for p in partitions if self._next.get(p.partition, 0) < begins[p]]
        oldest = await self._consumer.offsets_for_times(dict.fromkeys(gaps, 0)) if gaps else {}
        for partition in gaps:
            first = oldest.get(partition)
            self._since[partition.partition] = first.timestamp if first else int(time.time() * 1000)
        for partition in partitions:
            number = partition.partition
            self._next[number] = max(self._next.get(number, 0), begins[partition])
            self._consumer.seek(partition, self._next[number])

    def _forget(self) -> None:
        self._db.executescript("DELETE FROM outcome; DELETE FROM newest; DELETE FROM followed;")
        self._next, self._since = {}, {}
        self._fresh, self._fresh_newest, self._own = {}, {}, {}

    async def follow(self) -> None:
        """Reads the topic until cancelled; what it holds counts as soon as it is read."""
        clock = asyncio.get_running_loop()
        written = clock.time()
        while True:
            batches = await self._consumer.getmany(timeout_ms=200, max_records=FOLLOW_MOST)
            for partition, records in batches.items():
                self.take(partition.partition, await self._decoded(records), records[-1].offset + 1)
                await asyncio.sleep(0)
            if self._changed and (not batches or clock.time() - written >= WRITE_EVERY_S):
                self.write()
                written = clock.time()

    async def _decoded(self, records: list[ConsumerRecord[bytes, bytes]]) -> list[Outcome]:
        """The outcomes among the records that are not our own, which are entered already."""
        outcomes: list[Outcome] = []
        for record in records:
            if dict(record.headers).get("ce_id") in self._own:
                continue
            try:
                outcome = await self._codec.decode(self._topic, record.value)
            except Undecodable as error:
                log.error("outcome_undecodable", topic=self._topic, offset=record.offset, reason=str(error))
                continue
            if isinstance(outcome, Outcome):
                outcomes.append(outcome)
        return outcomes

    def take(self, partition: int, outcomes: Iterable[Outcome], after: int) -> None:
        """Enters what was read of a partition, up to below the offset `after`."""
        for outcome in outcomes:
            self._enter(outcome)
        self._next[partition] = after
        self._changed = True

    def learn(self, outcome: Outcome) -> None:
        """Enters an outcome of our own as soon as it is acknowledged; the same fact again changes nothing."""
        self._enter(outcome)
        self._own[event_id_text(outcome).encode()] = None
        if len(self._own) > OWN_LATELY:
            del self._own[next(iter(self._own))]

    def _enter(self, outcome: Outcome) -> None:
        delivery = delivery_key(outcome)
        row = (STATES.index(outcome.state), outcome.attempt, outcome.never_sent, outcome.content)
        before = self._fresh.get(delivery)
        self._fresh[delivery] = row if before is None else better(before, row)
        if outcome.state == "posted" and outcome.scope is not None and outcome.rank is not None:
            scope = scope_id(outcome.biller, outcome.scope)
            self._fresh_newest[scope] = max(self._fresh_newest.get(scope, ""), outcome.rank)
        if len(self._fresh) >= WRITE_AT:
            self.write()

    def write(self) -> None:
        """Brings what is in memory and how far was read into the file, in one transaction."""
        self._db.execute("BEGIN")
        self._db.executemany(KEEP_BEST, [(delivery, *row) for delivery, row in self._fresh.items()])
        self._db.executemany(KEEP_NEWEST, self._fresh_newest.items())
        followed = [(number, after, self._since.get(number, 0)) for number, after in self._next.items()]
        self._db.executemany("INSERT OR REPLACE INTO followed VALUES (?, ?, ?)", followed)
        self._db.execute("COMMIT")
        self._fresh, self._fresh_newest, self._changed = {}, {}, False

    def get(self, delivery: bytes) -> Known | None:
        """What is known of a delivery (16 bytes, see identity.delivery_key), else None."""
        row: Row | None = self._db.execute(FIND, (delivery,)).fetchone()
        if (fresh := self._fresh.get(delivery)) is not None:
            row = fresh if row is None else better(row, fresh)
        return Known(STATES[row[0]], row[1], bool(row[2]), row[3]) if row else None

    def newest(self, biller: str, scope: str) -> str | None:
        """The rank last applied at the partner within a scope."""
        of = scope_id(biller, scope)
        row = self._db.execute("SELECT rank FROM newest WHERE scope = ?", (of,)).fetchone()
        return max(self._fresh_newest.get(of, ""), str(row[0]) if row else "") or None

    async def ends(self) -> dict[int, int]:
        """The end offsets of the outcome topic now."""
        ends = await self._consumer.end_offsets(list(self._consumer.assignment()))
        return {partition.partition: end for partition, end in ends.items()}

    def covers(self, at: datetime) -> bool:
        """Whether the outcome of a record taken at this instant would be here, once all is read.

        An outcome is younger than its record, so what the index has read from is the limit, and a day more.
        """
        since = max(self._since.values(), default=0)
        return not since or at >= datetime.fromtimestamp(since / 1000, UTC) + MARGIN

    def passed(self, ends: Mapping[int, int]) -> bool:
        """True once everything below these offsets has been read."""
        return all(self._next.get(partition, 0) >= end for partition, end in ends.items())

    async def stop(self) -> None:
        """Closes the consumer, bounded whatever the brokers do, writes what is in memory, closes the file."""
        await stop_consumer(self._consumer)
        self.close()

    def close(self) -> None:
        self.write()
        self._db.close()


def better(before: Row, after: Row) -> Row:
    """What two outcomes of one delivery come to, in the order they were read; KEEP_BEST says the same."""
    return (
        max(before[0], after[0]),
        max(before[1], after[1]),
        after[2] if after[1] >= before[1] else before[2],
        after[3] if after[0] > 0 or before[0] == 0 else before[3],
    )


def scope_id(biller: str, scope: str) -> bytes:
    return blake2b(f"{biller}\x1f{scope}".encode(), digest_size=16).digest()
