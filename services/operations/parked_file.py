"""What is parked now, in one SQLite file: it folds outcomes in any order, and says how far they were read.

Of the outcomes of one natural id the newest counts: the one of the highest attempt, of one attempt the final
one. An id that is settled leaves the file; that it was is remembered only as long as an older outcome of it
may still come, so that the file is as large as what is parked, whatever the length of the log.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from services.bus.identity import Outcome, delivery_key
from services.operations.parked_records import (
    Family,
    Filters,
    ParkedRecord,
    Tally,
    dollars,
    instant,
    newness,
    record_of,
    row_of,
)

LAYOUT = 1
"""Of the tables below; a file of another one is read anew."""
SCHEMA = f"""
CREATE TABLE IF NOT EXISTS parked (
    id BLOB PRIMARY KEY, family TEXT NOT NULL, biller TEXT NOT NULL, account TEXT NOT NULL,
    natural_id TEXT NOT NULL, event_id TEXT NOT NULL, attempt INTEGER NOT NULL, never_sent INTEGER NOT NULL,
    reason TEXT NOT NULL, detail TEXT, content TEXT NOT NULL, cents INTEGER, tender TEXT, product TEXT,
    batch_day TEXT, topic TEXT NOT NULL, partition INTEGER NOT NULL, offset INTEGER NOT NULL,
    settled_ms INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS parked_age ON parked (settled_ms, id);
CREATE TABLE IF NOT EXISTS ended (
    id BLOB PRIMARY KEY, family TEXT NOT NULL, attempt INTEGER NOT NULL,
    reading INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS followed (
    family TEXT NOT NULL, partition INTEGER NOT NULL, next INTEGER NOT NULL, PRIMARY KEY (family, partition));
CREATE TABLE IF NOT EXISTS topic (family TEXT PRIMARY KEY, made TEXT NOT NULL, reading INTEGER NOT NULL);
PRAGMA user_version = {LAYOUT};
"""
ENDED = """
INSERT INTO ended VALUES (?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET
    attempt = max(attempt, excluded.attempt), reading = excluded.reading
"""
LATELY = 50_000
"""Ids settled lately whose settling is remembered in memory: what a broken process wrote may come late."""
LOCK_WAIT_S = 10.0


class ParkedFile:
    """One process at a time takes outcomes in; any number look."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lately: dict[bytes, int] = {}

    def open(self) -> Self:
        """Opens the file; a damaged one, or one of another kind, is dropped and read anew from the topics."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = self._connect()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                raise
            for stale in self._path.parent.glob(f"{self._path.name}*"):
                stale.unlink()
            self._db = self._connect()
        return self

    def _connect(self) -> sqlite3.Connection:
        self._path.touch(mode=0o600)  # it names accounts
        db = sqlite3.connect(self._path, isolation_level=None, timeout=LOCK_WAIT_S, check_same_thread=False)
        try:
            (layout,) = db.execute("PRAGMA user_version").fetchone()
            (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if tables and layout != LAYOUT:
                raise sqlite3.DatabaseError("it is of another layout")
            if not tables:
                # the topics are the truth: a file lost with the machine is read again
                db.executescript("PRAGMA journal_mode=WAL;" + SCHEMA)
            db.execute("PRAGMA synchronous=OFF")
            db.execute("SELECT count(*) FROM followed").fetchone()
            db.execute("SELECT * FROM parked LIMIT 1").fetchone()
        except sqlite3.Error:
            db.close()
            raise
        return db

    def close(self) -> None:
        self._db.close()

    # -- in --------------------------------------------------------------------------------------------

    def followed(self, family: Family) -> dict[int, int]:
        """By partition of a family's outcome topic the first offset that was not read."""
        rows = self._db.execute("SELECT partition, next FROM followed WHERE family = ?", (family,))
        return dict(rows.fetchall())

    def of_topic(self, family: Family) -> str | None:
        """Which topic was read, by the broker's own id; None where none was."""
        row = self._db.execute("SELECT made FROM topic WHERE family = ?", (family,)).fetchone()
        return str(row[0]) if row else None

    def begin(self, family: Family, made: str, *, anew: bool) -> None:
        """Before a reading to the topic's end; `anew` forgets what was read of another topic."""
        with self._writing():
            if anew:
                self._lately.clear()
                for table in ("parked", "ended", "followed"):
                    self._db.execute(f"DELETE FROM {table} WHERE family = ?", (family,))  # noqa: S608 - ours
            self._db.execute(
                "INSERT INTO topic VALUES (?, ?, 1) ON CONFLICT (family) DO UPDATE SET made = excluded.made",
                (family, made),
            )

    def finish(self, family: Family) -> None:
        """After a reading that came to the end.

        What an earlier reading saw settled can have no older outcome ahead: that one was on the log before.
        """
        with self._writing():
            reading = self._reading(family)
            self._db.execute("DELETE FROM ended WHERE family = ? AND reading < ?", (family, reading))
            self._db.execute("UPDATE topic SET reading = ? WHERE family = ?", (reading + 1, family))

    def take(self, family: Family, outcomes: Iterable[Outcome], after: Mapping[int, int]) -> None:
        """Enters outcomes, in the order of each partition, and by partition how far was read, at once."""
        newest: dict[bytes, Outcome] = {}
        for outcome in outcomes:
            delivery = delivery_key(outcome)
            before = newest.get(delivery)
            if before is None or newness(outcome) >= newness(before):
                newest[delivery] = outcome
        with self._writing():
            self._end(family, ((d, o) for d, o in newest.items() if o.state != "parked"))
            self._park((d, o) for d, o in newest.items() if o.state == "parked")
            self._db.executemany(
                "INSERT OR REPLACE INTO followed VALUES (?, ?, ?)", [(family, p, n) for p, n in after.items()]
            )

    def _reading(self, family: Family) -> int:
        """The number of the reading that is under way."""
        row = self._db.execute("SELECT reading FROM topic WHERE family = ?", (family,)).fetchone()
        return int(row[0])

    def _end(self, family: Family, settled: Iterable[tuple[bytes, Outcome]]) -> None:
        gone, kept, reading = [], [], self._reading(family)
        for delivery, outcome in settled:
            gone.append((delivery, outcome.attempt))
            self._lately[delivery] = max(outcome.attempt, self._lately.pop(delivery, 0))
            # only a retry can have been parked under another account, so in a partition that is read later
            if outcome.attempt > 1:
                kept.append((delivery, family, outcome.attempt, reading))
        while len(self._lately) > LATELY:
            del self._lately[next(iter(self._lately))]
        self._db.executemany("DELETE FROM parked WHERE id = ? AND attempt <= ?", gone)
        self._db.executemany(ENDED, kept)

    def _park(self, parked: Iterable[tuple[bytes, Outcome]]) -> None:
        for delivery, outcome in parked:
            row = self._db.execute("SELECT attempt FROM ended WHERE id = ?", (delivery,)).fetchone()
            settled = max(row[0] if row else 0, self._lately.get(delivery, 0))
            there = self._db.execute("SELECT attempt FROM parked WHERE id = ?", (delivery,)).fetchone()
            if outcome.attempt > settled and (there is None or outcome.attempt >= there[0]):
                values = (delivery, *row_of(outcome))
                marks = ", ".join("?" * len(values))
                self._db.execute(f"INSERT OR REPLACE INTO parked VALUES ({marks})", values)  # noqa: S608 - marks alone

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    # -- out -------------------------------------------------------------------------------------------

    def find(self, filters: Filters, most: int) -> list[ParkedRecord]:
        """The oldest `most` that match, the oldest first."""
        where, values = filters.where()
        asked = f"SELECT * FROM parked WHERE {where} ORDER BY settled_ms, id LIMIT ?"  # noqa: S608 - where has marks alone
        return [record_of(row) for row in self._db.execute(asked, [*values, most])]

    def named(self, name: str, biller: str = "", most: int = 100) -> list[ParkedRecord]:
        """Those of a natural id or of one that begins with it: a payment's conflicts, an invoice's texts."""
        asked = (
            "SELECT * FROM parked WHERE (natural_id = ?1 OR lower(natural_id) = lower(?1) "
            "OR substr(natural_id, 1, length(?1) + 1) IN (?1 || '#', ?1 || '/')) "
            "AND (?2 = '' OR biller = ?2) ORDER BY natural_id <> ?1, settled_ms, id LIMIT ?3"
        )
        return [record_of(row) for row in self._db.execute(asked, (name, biller, most))]

    def tallies(self, filters: Filters) -> list[Tally]:
        """How many match, by biller, family and reason."""
        where, values = filters.where()
        asked = (
            "SELECT biller, family, reason, count(*), sum(cents), min(settled_ms) "  # noqa: S608 - marks alone
            f"FROM parked WHERE {where} GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )
        return [
            Tally(
                biller=biller,
                family=family,
                reason=reason,
                count=count,
                amount=dollars(cents),
                oldest=instant(oldest),
            )
            for biller, family, reason, count, cents, oldest in self._db.execute(asked, values)
        ]
