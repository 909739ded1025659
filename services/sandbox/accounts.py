"""IMT's books: what each account owes, which numbers and bills it has, and what changed."""

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass

from services.sandbox.ledger import Ledger


@dataclass(frozen=True, slots=True)
class Account:
    """What an account owes, in cents; `as_of` in milliseconds. At most one of owed and credit is not 0."""

    account: str
    past_due: int
    current: int
    credit: int
    as_of: int
    closed: bool = False

    @property
    def balance_due(self) -> int:
        return self.past_due + self.current

    def paid(self, amount: int, as_of: int) -> "Account":
        """After a payment: what is past due goes first, what is too much becomes a credit."""
        from_past = min(self.past_due, amount)
        from_current = min(self.current, amount - from_past)
        return Account(
            self.account,
            self.past_due - from_past,
            self.current - from_current,
            self.credit + amount - from_past - from_current,
            as_of,
            self.closed,
        )


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the changes feed; `cursor` is its place in it."""

    cursor: int
    state: Account
    cause: str


class Accounts:
    """The accounts of all insurers, in the ledger's file. Whoever changes two things does so in `effect`."""

    def __init__(self, ledger: Ledger, *, opens_unknown: bool = False) -> None:
        self._ledger = ledger
        self._db: sqlite3.Connection = ledger.db
        self.opens_unknown = opens_unknown

    def read(self, biller: str, account: str) -> Account | None:
        """An account; an unknown one is opened, if that is switched on."""
        found = self._db.execute(
            "SELECT past_due, current, credit, as_of, closed FROM accounts WHERE biller = ? AND account = ?",
            (biller, account),
        ).fetchone()
        if found is not None:
            past_due, current, credit, as_of, closed = found
            return Account(account, past_due, current, credit, as_of, bool(closed))
        if not self.opens_unknown or not account:
            return None
        opened = Account(account, 0, 0, 0, self._ledger.tick())
        self.write(biller, opened, "adjustment")
        return opened

    def write(self, biller: str, state: Account, cause: str, ledger_seq: int | None = None) -> None:
        """Sets an account; the changes feed shows it with its cause."""
        values = (biller, state.account, state.past_due, state.current, state.credit, state.as_of)
        self._db.execute(
            "INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, ?, ?, ?, ?)", (*values, state.closed)
        )
        self._db.execute(
            "INSERT INTO changes (biller, account, past_due, current, credit, as_of, cause, ledger_seq)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, cause, ledger_seq),
        )

    def changes(self, biller: str, since: int, after: int, limit: int) -> list[Change]:
        """Changes at or after an instant and behind a cursor, oldest first."""
        found = self._db.execute(
            "SELECT cursor, account, past_due, current, credit, as_of, cause FROM changes"
            " WHERE biller = ? AND as_of >= ? AND cursor > ? ORDER BY cursor LIMIT ?",
            (biller, since, after, limit),
        )
        return [Change(one[0], Account(*one[1:6]), one[6]) for one in found]

    def number_known(self, biller: str, number: str) -> bool:
        """Whether it is the number of an account or of one of its policies."""
        policy = self._db.execute(
            "SELECT 1 FROM numbers WHERE biller = ? AND number = ?", (biller, number)
        ).fetchone()
        return policy is not None or self.read(biller, number) is not None

    def add_numbers(self, biller: str, account: str, policies: Iterable[str]) -> None:
        """Policies of an account."""
        self._db.executemany(
            "INSERT OR REPLACE INTO numbers VALUES (?, ?, ?)",
            [(biller, number, account) for number in policies],
        )

    def add_bill(self, biller: str, bill_id: str, account: str, size: int) -> None:
        """A bill whose PDF has at least `size` bytes."""
        self._db.execute("INSERT OR REPLACE INTO bills VALUES (?, ?, ?, ?)", (biller, bill_id, account, size))

    def remove_bill(self, biller: str, bill_id: str) -> None:
        """A bill that is gone is not found any more."""
        self._db.execute("DELETE FROM bills WHERE biller = ? AND bill_id = ?", (biller, bill_id))

    def bill(self, biller: str, bill_id: str) -> tuple[str, int] | None:
        """The account of a bill and the least size of its PDF in bytes."""
        found = self._db.execute(
            "SELECT account, bytes FROM bills WHERE biller = ? AND bill_id = ?", (biller, bill_id)
        ).fetchone()
        return None if found is None else (str(found[0]), int(found[1]))

    def forget_all(self, biller: str | None) -> None:
        """Empties the books of one insurer, or of all."""
        for table in ("accounts", "numbers", "bills", "changes"):
            self._db.execute(
                f"DELETE FROM {table} WHERE ? IS NULL OR biller = ?",  # noqa: S608 - names of our own tables
                (biller, biller),
            )

    def counts(self) -> dict[str, int]:
        """How many accounts and bills there are."""
        return {
            table: int(
                self._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - our own names
            )
            for table in ("accounts", "bills")
        }
