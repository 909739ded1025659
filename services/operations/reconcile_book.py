"""The book of one business day: each payment once, as received, as settled and as IMT has it.

It stands in a SQLite file that goes with the process, so that a day of ten million payments needs disk
(about 250 bytes a payment), not memory: CACHE_KIB of it. Nothing in it is kept.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Self

from services.events import PaymentOutcome, PaymentReceived
from services.operations.reconcile_words import KINDS, Difference, Line, Totals
from services.payments.batches import guid_of
from services.payments.imt import Posting, guid_at_imt

CACHE_KIB = 64 * 1024
COMMIT_EVERY = 50_000
ELSEWHERE, OF_THE_DAY, EARLIER, DECLINED = range(4)
"""Of a payment: known from IMT or an outcome alone, counted on this day, received before it, not approved."""

_SCHEMA = """
CREATE TABLE payment (
    guid TEXT PRIMARY KEY, place INTEGER NOT NULL, sent TEXT, account TEXT, cents INTEGER, tender TEXT,
    product TEXT, stamped INTEGER,
    state TEXT, newest INTEGER, reason TEXT, posted_cents INTEGER, posted_account TEXT, posted_day TEXT,
    imt_count INTEGER NOT NULL DEFAULT 0, imt_sum INTEGER, imt_cents INTEGER, imt_account TEXT, imt_day TEXT,
    asked INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE conflict (
    natural_id TEXT PRIMARY KEY, guid TEXT NOT NULL, account TEXT, cents INTEGER, tender TEXT, product TEXT,
    state TEXT, newest INTEGER, reason TEXT
) WITHOUT ROWID;
"""
_STATE = """CASE state WHEN 'posted' THEN 'posted' WHEN 'parked' THEN 'parked'
 WHEN 'dismissed' THEN 'dismissed' WHEN 'rejected' THEN 'refused' WHEN 'superseded' THEN 'refused'
 ELSE 'missing' END"""
_OURS = "state = 'posted' AND posted_day = :day"
_WHERE = {
    "missing": f"place = {OF_THE_DAY} AND state IS NULL",
    "parked": f"place = {OF_THE_DAY} AND state = 'parked'",
    "refused": f"place = {OF_THE_DAY} AND state IN ('rejected', 'superseded') AND cents > 0",
    "lost_at_imt": f"{_OURS} AND imt_count = 0 AND :listed",
    "at_imt_not_posted": (
        f"imt_count > 0 AND (place = {DECLINED} OR (place = {OF_THE_DAY} AND state IS NOT 'posted'))"
    ),
    "not_ours": f"imt_count > 0 AND place = {ELSEWHERE} AND state IS NULL",
    "doubled_at_imt": "imt_count > 1",
    "wrong_amount": (
        "imt_count > 0 AND coalesce(posted_cents, cents) * imt_count <> imt_sum"
        f" OR place = {OF_THE_DAY} AND state = 'posted' AND posted_cents <> cents"
    ),
    "wrong_account": "imt_count > 0 AND coalesce(posted_account, account) <> imt_account",
    "wrong_day": (
        "imt_count > 0 AND state = 'posted' AND posted_day <> imt_day"
        f" OR imt_count > 0 AND place = {EARLIER} AND state IS NULL"
    ),
    "late": f"place = {OF_THE_DAY} AND state = 'posted' AND posted_day <> :day",
    "from_another_day": f"place IN ({ELSEWHERE}, {EARLIER}) AND {_OURS}",
}


class Book:
    """Use it in `with`; `day_of` says to which business day an instant belongs."""

    def __init__(self, path: Path, day: date, day_of: Callable[[datetime], date]) -> None:
        self._day = day
        self._day_of = day_of
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{CACHE_KIB}", "temp_store=FILE"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(_SCHEMA)
        self._written = 0
        self.listed = False
        """Whether IMT's own list is in the book: only then does its silence mean anything."""

    def __enter__(self) -> Self:
        self._db.execute("BEGIN")
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    # -- in --------------------------------------------------------------------------------------------

    def __contains__(self, guid: object, /) -> bool:
        """Whether the GUID was counted: this day or, as far as the look-back goes, before it."""
        found = self._db.execute("SELECT 1 FROM payment WHERE guid = ? AND place > 0", (guid,))
        return found.fetchone() is not None

    def add(self, guid: str, /) -> None:
        """Counts a GUID; `received` says the rest of one that is of this day."""
        self._write("INSERT INTO payment (guid, place) VALUES (?, ?)", guid, DECLINED)

    def before(self, payment: PaymentReceived, stamped: datetime) -> None:
        """A payment of an earlier day: its GUID counts there."""
        self._write(
            "INSERT OR IGNORE INTO payment (guid, place, sent, account, cents, tender, product, stamped)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            guid_of(payment),
            EARLIER,
            *_facts(payment, stamped),
        )

    def received(self, payment: PaymentReceived, stamped: datetime) -> None:
        """A payment that counts on this day; its GUID was added before."""
        self._write(
            "UPDATE payment SET place = ?, sent = ?, account = ?, cents = ?, tender = ?, product = ?,"
            " stamped = ? WHERE guid = ?",
            OF_THE_DAY,
            *_facts(payment, stamped),
            guid_of(payment),
        )

    def at_imt(self, guid: str, posting: Posting, *, asked: bool = False) -> None:
        """An entry of IMT's list, or its answer to a look-up."""
        amount, day = _cents(posting.amount), _iso(posting.batch_day)
        self._write(
            "INSERT INTO payment"
            " (guid, place, sent, imt_count, imt_sum, imt_cents, imt_account, imt_day, asked)"
            " VALUES (?1, 0, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (guid) DO UPDATE SET"
            " imt_count = imt_count + ?3, imt_sum = coalesce(imt_sum, 0) + ?4,"
            " imt_cents = coalesce(imt_cents, ?5), imt_account = coalesce(imt_account, ?6),"
            " imt_day = coalesce(imt_day, ?7), asked = ?8",
            guid.removeprefix("{").removesuffix("}").lower(),
            guid,
            posting.count,
            amount * posting.count,
            amount,
            posting.account,
            day,
            int(asked),
        )

    def asked(self, guid: str) -> None:
        """IMT was asked for it and does not have it."""
        self._write("UPDATE payment SET asked = 1 WHERE guid = ?", guid)

    def settled(self, outcome: PaymentOutcome, *, of_the_day: bool, later: bool = False) -> None:
        """What became of a payment; the newest counts: by attempt, and of one attempt a final state.

        Args:
            of_the_day: its record stands in the day's offsets.
            later: its record came after the day's offsets were looked up.
        """
        guid, _, content = outcome.natural_id.partition("#")
        newest = outcome.attempt * 2 + (outcome.state != "parked")
        facts = (outcome.state, newest, outcome.reason)
        if content:
            if of_the_day:
                self._conflict(outcome, guid, facts)
            return
        posted = (_cents(outcome.amount), outcome.account, _iso(outcome.batch_day))
        changed = self._write(
            "UPDATE payment SET state = ?1, newest = ?2, reason = ?3, posted_cents = ?4, posted_account = ?5,"
            " posted_day = ?6, tender = coalesce(tender, ?7), product = coalesce(product, ?8)"
            " WHERE guid = ?9 AND (newest IS NULL OR newest <= ?2)",
            *(*facts, *posted, outcome.tender, outcome.product, guid),
        )
        if changed or later or outcome.state != "posted" or outcome.batch_day != self._day:
            return
        self._write(
            "INSERT OR IGNORE INTO payment (guid, place, sent, tender, product, state, newest, reason,"
            " posted_cents, posted_account, posted_day) VALUES (?, 0, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            *(guid, guid, outcome.tender, outcome.product, *facts, *posted),
        )

    def _conflict(self, outcome: PaymentOutcome, guid: str, facts: tuple[object, ...]) -> None:
        self._write(
            "INSERT INTO conflict VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (natural_id)"
            " DO UPDATE SET state = ?7, newest = ?8, reason = ?9 WHERE newest <= ?8",
            outcome.natural_id,
            guid,
            outcome.account,
            _cents(outcome.amount),
            outcome.tender,
            outcome.product,
            *facts,
        )

    def _write(self, sql: str, *values: object) -> int:
        """How many rows it changed; what is written is committed in between, so that no page stays pinned."""
        changed = self._db.execute(sql, values).rowcount
        self._written += 1
        if self._written % COMMIT_EVERY == 0:
            self._db.execute("COMMIT")
            self._db.execute("BEGIN")
        return changed

    # -- out -------------------------------------------------------------------------------------------

    def not_listed(self, most: int) -> list[tuple[str, str]]:
        """Payments that IMT should have and does not list: GUID, and as IMT knows it; at most so many."""
        found = self._db.execute(
            f"SELECT guid, sent FROM payment WHERE {_OURS} AND imt_count = 0 LIMIT :most",  # noqa: S608 - our own words
            {"day": self._day.isoformat(), "most": most},
        )
        return [(guid, sent or guid) for guid, sent in found]

    def lines(self) -> list[Line]:
        """Count and money of the day's payments by tender, product and state."""
        found = self._db.execute(
            f"SELECT tender, product, {_STATE}, count(*), sum(cents) FROM payment WHERE place = {OF_THE_DAY}"  # noqa: S608 - our own words
            " GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )
        return [Line(row[0], row[1], row[2], Totals(row[3], _usd(row[4]))) for row in found]

    def expected_at_imt(self) -> Totals:
        """What we hold posted in the day's batch, of whatever day it was received."""
        return self._totals("count(*), sum(posted_cents)", _OURS)

    def listed_by_imt(self) -> Totals:
        """What IMT has in the day's batch, everything as often as it is there."""
        return self._totals("coalesce(sum(imt_count), 0), sum(imt_sum)", "imt_count > 0 AND imt_day = :day")

    def _totals(self, columns: str, where: str) -> Totals:
        asked = f"SELECT {columns} FROM payment WHERE {where}"  # noqa: S608 - our own words
        count, cents = self._db.execute(asked, {"day": self._day.isoformat()}).fetchone()
        return Totals(count, _usd(cents))

    def counts(self) -> dict[str, int]:
        """How many differences there are of each kind, in one pass; those of which there is none left out."""
        each = ", ".join(f"coalesce(sum({_WHERE[kind]}), 0)" for kind in KINDS if kind in _WHERE)
        values = {"day": self._day.isoformat(), "listed": self.listed}
        found = dict(
            zip(
                (kind for kind in KINDS if kind in _WHERE),
                self._db.execute(f"SELECT {each} FROM payment", values).fetchone(),  # noqa: S608 - our own words
                strict=True,
            )
        )
        found["conflict"] = self._db.execute(*self._of("count(*)", "conflict")).fetchone()[0]
        return {kind: found[kind] for kind in KINDS if found[kind]}

    def differences(self, kinds: tuple[str, ...] = KINDS) -> Iterator[Difference]:
        """Each payment that differs, kind by kind, by GUID."""
        for kind in kinds:
            for row in self._db.execute(*self._of("*", kind, " ORDER BY guid")):
                yield _difference(kind, row, self._day_of)

    def _of(self, columns: str, kind: str, order: str = "") -> tuple[str, Mapping[str, object]]:
        if kind == "conflict":
            return f"SELECT {columns} FROM conflict WHERE state = 'parked'{order}", {}  # noqa: S608 - our own words
        asked = f"SELECT {columns} FROM payment WHERE {_WHERE[kind]}{order}"  # noqa: S608 - our own words
        return asked, {"day": self._day.isoformat(), "listed": self.listed}


def _difference(kind: str, row: sqlite3.Row, day_of: Callable[[datetime], date]) -> Difference:
    if kind == "conflict":
        return Difference(
            kind=kind,
            payment_guid=row["guid"],
            account=row["account"],
            tender=row["tender"],
            product=row["product"],
            amount=_usd(row["cents"]),
            state=row["state"],
            reason=row["reason"],
        )
    posted = row["state"] == "posted"
    stamped = datetime.fromtimestamp(row["stamped"] / 1000, UTC) if row["stamped"] else None
    return Difference(
        kind=kind,
        payment_guid=row["guid"],
        account=row["posted_account"] if posted else row["account"],
        tender=row["tender"],
        product=row["product"],
        amount=_some_usd(row["posted_cents"] if posted else row["cents"]),
        state="declined" if row["place"] == DECLINED else row["state"],
        reason=row["reason"],
        received_day=day_of(stamped) if stamped else None,
        batch_day=_day_or_none(row["posted_day"]),
        imt_count=row["imt_count"],
        imt_account=row["imt_account"],
        imt_amount=_some_usd(row["imt_sum"]),
        imt_batch_day=_day_or_none(row["imt_day"]),
        asked=bool(row["asked"]),
    )


def _facts(payment: PaymentReceived, stamped: datetime) -> tuple[Any, ...]:
    return (
        guid_at_imt(payment),
        payment.account,
        _cents(payment.amount),
        payment.tender,
        payment.product,
        round(stamped.timestamp() * 1000),
    )


def _cents(amount: Decimal) -> int:
    return int(amount.scaleb(2))


def _usd(cents: int | None) -> Decimal:
    return Decimal(cents or 0).scaleb(-2)


def _some_usd(cents: int | None) -> Decimal | None:
    return None if cents is None else _usd(cents)


def _iso(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _day_or_none(text: str | None) -> date | None:
    return None if text is None else date.fromisoformat(text)
