"""The accounts of a biller with what we hold of their enrolment, and where somebody differs.

It stands in a SQLite file that goes with the process, so that a million accounts need disk, not memory.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from services.events import AccountCurrent, AppliedSetting, EnrollmentCurrent

CACHE_KIB = 32 * 1024
AT_ONCE = 500
MOST_RESENT = 50_000
_SCHEMA = """
CREATE TABLE account (
    account TEXT PRIMARY KEY, invoice TEXT, policies TEXT, applied TEXT, autopay INTEGER, paperless INTEGER
) WITHOUT ROWID;
CREATE TABLE drift (
    account TEXT NOT NULL, number TEXT NOT NULL, indicator TEXT NOT NULL, kind TEXT NOT NULL,
    scope TEXT NOT NULL, rank TEXT NOT NULL, told TEXT NOT NULL,
    origin_partition INTEGER, origin_offset INTEGER, natural_id TEXT, attempt INTEGER, result TEXT,
    PRIMARY KEY (account, number, indicator, kind)
) WITHOUT ROWID;
CREATE INDEX drift_by_scope ON drift (scope, rank);
CREATE INDEX drift_by_natural ON drift (natural_id);
"""

Kind = Literal["imt", "ours", "ic", "never told"]
WORDS: Mapping[str, tuple[str, str]] = {
    "imt": (
        "IMT has another value than was applied",
        "billbus drift --biller {biller} --repair",
    ),
    "ours": (
        "InvoiceCloud and IMT agree against us: a change never came",
        "ask InvoiceCloud to send the account's changes again",
    ),
    "ic": (
        "InvoiceCloud has another value than its last change said",
        "ask InvoiceCloud which holds; if its value does, to send the change again",
    ),
    "never told": (
        "InvoiceCloud and IMT differ, and no change ever came",
        "enrolled before go-live: billbus convert autopay; else ask InvoiceCloud",
    ),
}
"""By kind of drift what it means and what to do, with {biller}."""


@dataclass(frozen=True, slots=True)
class Enrolled:
    """An account, and what we hold of it: None where no change ever came."""

    account: str
    invoice: str | None
    policies: tuple[str, ...]
    applied: tuple[AppliedSetting, ...]
    autopay: bool | None
    paperless: bool | None

    def ours(self, indicator: str) -> bool | None:
        return self.autopay if indicator == "autopay" else self.paperless

    @property
    def numbers(self) -> tuple[str, ...]:
        """Every number that can carry an indicator at IMT."""
        return tuple(dict.fromkeys((self.account, *self.policies, *(each.number for each in self.applied))))


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One indicator on which not all agree. Values are None where nobody knows one.

    `ours_since`: IC's instant of the change that we applied last; `imt_since`: since when IMT has its value.
    """

    kind: Kind
    account: str
    number: str
    indicator: str
    ours: bool | None
    imt: bool | None
    ic: bool | None
    ours_since: datetime | None = None
    imt_since: datetime | None = None
    result: str | None = None


@dataclass(frozen=True, slots=True)
class Resend:
    """A drift at IMT with where the change that was applied last stands on its topic."""

    account: str
    number: str
    indicator: str
    partition: int | None
    offset: int | None
    value: bool


class DriftBook:
    """Use it in `with`."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{CACHE_KIB}", "temp_store=FILE"):
            self._db.execute(f"PRAGMA {pragma}")
        self._db.executescript(_SCHEMA)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    # -- accounts --------------------------------------------------------------------------------------

    def account(self, account: str, current: AccountCurrent | None) -> None:
        """The newest that is known of an account; None: it is gone."""
        if current is None:
            self._db.execute("DELETE FROM account WHERE account = ?", (account,))
            return
        self._db.execute(
            "INSERT INTO account (account, invoice, policies) VALUES (?1, ?2, ?3)"
            " ON CONFLICT (account) DO UPDATE SET invoice = ?2, policies = ?3",
            (account, current.invoice_number, json.dumps(current.policies)),
        )

    def enrolment(self, account: str, current: EnrollmentCurrent | None) -> None:
        """The newest that we hold of its enrolment, for an account that is in the book."""
        applied = [each.as_record() for each in current.applied] if current else []
        values = (current.autopay, current.paperless) if current else (None, None)
        self._db.execute(
            "UPDATE account SET applied = ?, autopay = ?, paperless = ? WHERE account = ?",
            (json.dumps(applied), *values, account),
        )

    def count(self) -> int:
        return int(self._db.execute("SELECT count(*) FROM account").fetchone()[0])

    def accounts(self) -> Iterator[Enrolled]:
        """All of them in their order, AT_ONCE in memory."""
        after = ""
        while True:
            asked = "SELECT * FROM account WHERE account > ? ORDER BY account LIMIT ?"
            found = self._db.execute(asked, (after, AT_ONCE)).fetchall()
            for account, invoice, policies, applied, autopay, paperless in found:
                yield Enrolled(
                    account,
                    invoice,
                    tuple(json.loads(policies)),
                    tuple(AppliedSetting.from_record(each) for each in json.loads(applied or "[]")),
                    _flag(autopay),
                    _flag(paperless),
                )
            if not found:
                return
            after = found[-1][0]

    # -- drifts ----------------------------------------------------------------------------------------

    def found(self, drift: Drift, rank: str = "") -> None:
        """Enters one; `rank` is that of the change which we applied last."""
        scope = f"{drift.account}|{drift.number}|{drift.indicator}"
        self._db.execute(
            "INSERT OR REPLACE INTO drift (account, number, indicator, kind, scope, rank, told)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (drift.account, drift.number, drift.indicator, drift.kind, scope, rank, _written(drift)),
        )

    def counts(self) -> dict[str, int]:
        """How many of each kind are there and not repaired."""
        asked = "SELECT kind, count(*) FROM drift WHERE result IS NOT 'repaired' GROUP BY kind ORDER BY kind"
        return dict(self._db.execute(asked).fetchall())

    def results(self) -> dict[str, int]:
        """How many of those that were to be repaired ended how."""
        asked = "SELECT result, count(*) FROM drift WHERE result IS NOT NULL GROUP BY result ORDER BY result"
        return dict(self._db.execute(asked).fetchall())

    def drifts(self) -> Iterator[Drift]:
        """All of them, by account."""
        asked = "SELECT told, result FROM drift ORDER BY account, number, indicator, kind"
        for told, result in self._db.execute(asked):
            yield replace(_read(told), result=result)

    # -- repair ----------------------------------------------------------------------------------------

    def accounts_at_imt(self) -> Iterator[str]:
        """The accounts with a drift that can be repaired at IMT."""
        for (account,) in self._db.execute("SELECT DISTINCT account FROM drift WHERE kind = 'imt'"):
            yield account

    def applied_by(
        self, scope: str, rank: str, natural_id: str, attempt: int, origin: tuple[int, int]
    ) -> None:
        """An outcome says which record applied a value, and at which attempt."""
        self._db.execute(
            "UPDATE drift SET natural_id = ?, attempt = ?, origin_partition = ?, origin_offset = ?"
            " WHERE kind = 'imt' AND scope = ? AND rank = ?",
            (natural_id, attempt, *origin, scope, rank),
        )

    def to_resend(self) -> list[Resend]:
        """What is to be sent again, in the order of the topic; MOST_RESENT in one run."""
        found = self._db.execute(
            "SELECT account, number, indicator, origin_partition, origin_offset, told FROM drift"
            " WHERE kind = 'imt' ORDER BY origin_partition, origin_offset LIMIT ?",
            (MOST_RESENT,),
        )
        return [Resend(r[0], r[1], r[2], r[3], r[4], bool(_read(r[5]).ours)) for r in found]

    def settled(self, natural_id: str, attempt: int, result: str) -> bool:
        """What became of a change that was sent again; whether it is one of them."""
        changed = self._db.execute(
            "UPDATE drift SET result = ? WHERE kind = 'imt' AND natural_id = ? AND attempt < ?",
            (result, natural_id, attempt),
        )
        return changed.rowcount > 0

    def ended(self, each: Resend, result: str) -> None:
        self._db.execute(
            "UPDATE drift SET result = ? WHERE kind = 'imt' AND account = ? AND number = ? AND indicator = ?",
            (result, each.account, each.number, each.indicator),
        )

    def result(self, each: Resend) -> str | None:
        found = self._db.execute(
            "SELECT result FROM drift WHERE kind = 'imt' AND account = ? AND number = ? AND indicator = ?",
            (each.account, each.number, each.indicator),
        ).fetchone()
        return found[0] if found else None


def _flag(value: int | None) -> bool | None:
    return None if value is None else bool(value)


def _written(drift: Drift) -> str:
    return json.dumps(asdict(drift), default=datetime.isoformat)


def _read(told: str) -> Drift:
    values: dict[str, Any] = json.loads(told)
    for name in ("ours_since", "imt_since"):
        values[name] = datetime.fromisoformat(values[name]) if values[name] else None
    return Drift(**values)
