"""The ledger: every effect on a partner, in order, with everything as sent. It never deduplicates."""

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args

from services.sandbox.amounts import Now, instant, millis, money

Kind = Literal["payments", "invoices", "settings", "bills"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_SCHEMA = """
CREATE TABLE IF NOT EXISTS ledger (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, at INTEGER NOT NULL, biller TEXT NOT NULL,
    natural_id TEXT NOT NULL, account TEXT NOT NULL, amount INTEGER, content TEXT NOT NULL,
    fields TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS ledger_natural ON ledger (kind, biller, natural_id, seq);
CREATE INDEX IF NOT EXISTS ledger_account ON ledger (kind, biller, account, seq);
CREATE TABLE IF NOT EXISTS accounts (
    biller TEXT NOT NULL, account TEXT NOT NULL, past_due INTEGER NOT NULL, current INTEGER NOT NULL,
    credit INTEGER NOT NULL, as_of INTEGER NOT NULL, closed INTEGER NOT NULL, PRIMARY KEY (biller, account)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS numbers (
    biller TEXT NOT NULL, number TEXT NOT NULL, account TEXT NOT NULL, PRIMARY KEY (biller, number)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bills (
    biller TEXT NOT NULL, bill_id TEXT NOT NULL, account TEXT NOT NULL, bytes INTEGER NOT NULL,
    PRIMARY KEY (biller, bill_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS changes (
    cursor INTEGER PRIMARY KEY AUTOINCREMENT, biller TEXT NOT NULL, account TEXT NOT NULL,
    past_due INTEGER NOT NULL, current INTEGER NOT NULL, credit INTEGER NOT NULL, as_of INTEGER NOT NULL,
    cause TEXT NOT NULL, ledger_seq INTEGER
);
CREATE INDEX IF NOT EXISTS changes_since ON changes (biller, as_of, cursor);
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One effect. `amount` in cents; `fields` exactly as the partner got them; `at` in milliseconds."""

    seq: int
    kind: str
    at: int
    biller: str
    natural_id: str
    account: str
    amount: int | None
    content: str
    fields: dict[str, Any]

    def shown(self) -> dict[str, Any]:
        """As the control API shows it."""
        return {
            "seq": self.seq,
            "at": instant(self.at),
            "biller": self.biller,
            "natural_id": self.natural_id,
            "account": self.account,
            "amount": None if self.amount is None else money(self.amount),
            "content": self.content,
            "fields": self.fields,
        }


class Ledger:
    """One SQLite file, used from one thread. Instants never go back, whatever the clock does."""

    def __init__(self, path: Path | None, now: Now) -> None:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self._now = now
        self.db = sqlite3.connect(path or ":memory:", isolation_level=None)
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=OFF")
        self.db.executescript(_SCHEMA)
        self._last: int = self.db.execute(
            "SELECT max(coalesce((SELECT max(at) FROM ledger), 0),"
            " coalesce((SELECT max(as_of) FROM changes), 0))"
        ).fetchone()[0]

    def close(self) -> None:
        self.db.close()

    def tick(self) -> int:
        """The present instant, in milliseconds, later than any given before."""
        self._last = max(self._last + 1, millis(self._now()))
        return self._last

    @contextmanager
    def effect(self) -> Iterator[None]:
        """All that happens inside is kept, or nothing of it."""
        self.db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.db.execute("ROLLBACK")
            raise
        self.db.execute("COMMIT")

    def add(
        self,
        kind: Kind,
        *,
        biller: str,
        natural_id: str,
        account: str,
        fields: Mapping[str, Any],
        at: int,
        amount: int | None = None,
    ) -> int:
        """Enters one effect; its sequence number."""
        written = json.dumps(fields, ensure_ascii=False, default=str)
        content = sha256(json.dumps(fields, sort_keys=True, default=str).encode()).hexdigest()[:16]
        entered = self.db.execute(
            "INSERT INTO ledger (kind, at, biller, natural_id, account, amount, content, fields)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (kind, at, biller, natural_id, account, amount, content, written),
        )
        return entered.lastrowid or 0

    def first(self, kind: Kind, biller: str, natural_id: str) -> tuple[Row | None, int]:
        """The first effect under a natural id, and how many there are."""
        row = self._one("ORDER BY seq LIMIT 1", kind, biller, natural_id)
        counted = self.db.execute(
            "SELECT count(*) FROM ledger WHERE kind = ? AND biller = ? AND natural_id = ?",
            (kind, biller, natural_id),
        )
        return row, int(counted.fetchone()[0])

    def newest(self, kind: Kind, biller: str, natural_id: str) -> Row | None:
        """The latest effect under a natural id."""
        return self._one("ORDER BY seq DESC LIMIT 1", kind, biller, natural_id)

    def _one(self, order: str, kind: Kind, biller: str, natural_id: str) -> Row | None:
        found = self.db.execute(
            "SELECT * FROM ledger WHERE kind = ? AND biller = ? AND natural_id = ? " + order,  # noqa: S608 - our own words
            (kind, biller, natural_id),
        ).fetchone()
        return None if found is None else _row(found)

    def rows(self, kind: Kind, where: "Filter") -> list[Row]:
        """The effects of a kind in their order."""
        clause, values = where.sql(kind)
        found = self.db.execute(
            f"SELECT * FROM ledger WHERE {clause} AND seq > ? ORDER BY seq LIMIT ?",  # noqa: S608 - our own words
            (*values, where.after, where.limit),
        )
        return [_row(one) for one in found]

    def totals(self, kind: Kind, where: "Filter") -> dict[str, Any]:
        """Counts and money of all effects, and which natural ids stand there more than once."""
        clause, values = where.sql(kind)
        count, distinct, total, last = self.db.execute(
            "SELECT count(*), count(DISTINCT biller || '/' || natural_id), coalesce(sum(amount), 0),"  # noqa: S608 - our own words
            f" coalesce(max(seq), 0) FROM ledger WHERE {clause}",
            values,
        ).fetchone()
        return {
            "count": count,
            "distinct": distinct,
            "total": money(total),
            "last_seq": last,
            "doubled": self._more_than_once(clause, values, "biller, natural_id"),
            "repeated": self._more_than_once(clause, values, "biller, natural_id, content"),
        }

    def groups(self, kind: Kind, where: "Filter", by: Sequence[str]) -> list[dict[str, Any]]:
        """Counts and money by the values of wire fields (or biller, account)."""
        clause, values = where.sql(kind)
        columns = ", ".join(
            name if name in ("biller", "account") else "json_extract(fields, ?)" for name in by
        )
        paths = [json_path(name) for name in by if name not in ("biller", "account")]
        numbers = ", ".join(str(place) for place in range(1, len(by) + 1))
        found = self.db.execute(
            f"SELECT {columns}, count(*), coalesce(sum(amount), 0) FROM ledger WHERE {clause}"  # noqa: S608 - our own words
            f" GROUP BY {numbers} ORDER BY {numbers}",
            (*paths, *values),
        )
        return [
            {**dict(zip(by, one, strict=False)), "count": one[-2], "total": money(one[-1])} for one in found
        ]

    def _more_than_once(self, clause: str, values: Sequence[object], by: str) -> list[dict[str, Any]]:
        found = self.db.execute(
            f"SELECT biller, natural_id, count(*) FROM ledger WHERE {clause}"  # noqa: S608 - our own words
            f" GROUP BY {by} HAVING count(*) > 1 ORDER BY min(seq) LIMIT 1000",
            values,
        )
        return [{"biller": one[0], "natural_id": one[1], "count": one[2]} for one in found]

    def amend(
        self, kind: Kind, where: "Filter", fields: Mapping[str, Any], amount: int | None, account: str | None
    ) -> int:
        """Changes effects as if the partner had them otherwise; how many. Balances stay as they are.

        `fields` by wire name, one inside another as Customer.AutoPay; `amount` in cents.
        """
        found = self.rows(kind, where)
        with self.effect():
            for row in found:
                for name, value in fields.items():
                    inside, *steps = reversed(name.split("."))
                    place = row.fields
                    for step in reversed(steps):
                        place = place.setdefault(step, {})
                    place[inside] = value
                self.db.execute(
                    "UPDATE ledger SET fields = ?, amount = coalesce(?, amount),"
                    " account = coalesce(?, account) WHERE seq = ?",
                    (json.dumps(row.fields, ensure_ascii=False, default=str), amount, account, row.seq),
                )
        return len(found)

    def repeat(self, kind: Kind, where: "Filter") -> int:
        """Enters effects once more, as a partner that took them twice; how many."""
        found = self.rows(kind, where)
        with self.effect():
            for row in found:
                self.add(
                    kind,
                    biller=row.biller,
                    natural_id=row.natural_id,
                    account=row.account,
                    fields=row.fields,
                    at=self.tick(),
                    amount=row.amount,
                )
        return len(found)

    def forget(self, kind: Kind, where: "Filter") -> int:
        """Takes effects back as a restored backup would; how many.

        Payments taken back are owed again: their accounts stand as after the last change that is left.
        """
        clause, values = where.sql(kind)
        with self.effect():
            doomed = f"SELECT seq FROM ledger WHERE {clause} AND seq > ?"  # noqa: S608 - our own words
            undone = self.db.execute(
                f"DELETE FROM changes WHERE ledger_seq IN ({doomed}) RETURNING biller, account",  # noqa: S608 - our own words
                (*values, where.after),
            ).fetchall()
            gone = self.db.execute(f"DELETE FROM ledger WHERE seq IN ({doomed})", (*values, where.after))  # noqa: S608 - our own words
            for one in set(undone):
                self.db.execute(
                    "UPDATE accounts SET (past_due, current, credit, as_of) ="
                    " (SELECT past_due, current, credit, as_of FROM changes"
                    " WHERE biller = ?1 AND account = ?2 ORDER BY cursor DESC LIMIT 1)"
                    " WHERE biller = ?1 AND account = ?2"
                    " AND EXISTS (SELECT 1 FROM changes WHERE biller = ?1 AND account = ?2)",
                    one,
                )
        return gone.rowcount


@dataclass(frozen=True, slots=True)
class Filter:
    """Which effects: of a biller, a natural id, an account; after a sequence number; at most so many."""

    biller: str | None = None
    natural_id: str | None = None
    account: str | None = None
    after: int = 0
    limit: int = 1000
    field: tuple[str, str] | None = None
    """A wire field and its value."""

    def sql(self, kind: Kind) -> tuple[str, list[object]]:
        named = {"biller": self.biller, "natural_id": self.natural_id, "account": self.account}
        given = {column: value for column, value in named.items() if value is not None}
        words, values = ["kind = ?", *(f"{column} = ?" for column in given)], [kind, *given.values()]
        if self.field is not None:
            words.append("json_extract(fields, ?) = ?")
            values += [json_path(self.field[0]), self.field[1]]
        return " AND ".join(words), list(values)


def json_path(name: str) -> str:
    """The place of a wire field; a name in two steps, such as Customer.AutoPay, is a field inside another."""
    return "$" + "".join(f'."{step}"' for step in name.replace('"', "").split("."))


def _row(found: Sequence[Any]) -> Row:
    seq, kind, at, biller, natural_id, account, amount, content, fields = found
    return Row(seq, kind, at, biller, natural_id, account, amount, content, json.loads(fields))
