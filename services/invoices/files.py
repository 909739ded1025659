"""What is known of BIF files: which were taken (file.received), and what became of their invoices."""

import sqlite3
import weakref
from collections import Counter

from services.bus.identity import delivery_id
from services.bus.views import View
from services.events import FileReceived, InvoiceIssued, InvoiceOutcome

FINAL = ("posted", "rejected", "superseded", "dismissed")


class Files(View[FileReceived]):
    """The files that were taken, by biller and checksum, whole in each replica."""

    def __init__(self) -> None:
        self._files: dict[tuple[str, str], FileReceived] = {}
        super().__init__(reads=FileReceived, apply=self.take)

    def take(self, event: FileReceived) -> None:
        """Enters a file; one that was refused first and accepted later counts as accepted."""
        known = self._files.get((event.biller, event.file_id))
        if known is None or known.state == "refused":
            self._files[event.biller, event.file_id] = event

    def find(self, biller: str, file_id: str) -> FileReceived | None:
        return self._files.get((biller, file_id))


class Uploads(View[InvoiceOutcome]):
    """What became of each file's invoices at IC, whole in each replica.

    The state of each invoice is on disk, in a private file that goes with the process; memory holds the
    counts of each file.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], Counter[str]] = {}
        self._states = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._states.close)
        self._states.execute("PRAGMA journal_mode=OFF")
        self._states.execute(
            "CREATE TABLE states (id BLOB PRIMARY KEY, state TEXT, files TEXT) WITHOUT ROWID"
        )
        super().__init__(reads=InvoiceOutcome, apply=self.take)

    def take(self, event: InvoiceOutcome) -> None:
        """Counts an outcome for each file that brought the invoice, once whatever was written twice.

        A final state stays; until then the newest counts.
        """
        key = delivery_id(event).bytes
        known, files = self._known(key)
        state = known if known in FINAL else event.state
        if state == known and event.file_id in files:
            return
        for file_id in files:
            counts = self._of(event.biller, file_id)
            counts[known] -= 1
            counts[state] += 1
        if event.file_id not in files:
            self._of(event.biller, event.file_id)[state] += 1
            files = (*files, event.file_id)
        self._states.execute("INSERT OR REPLACE INTO states VALUES (?, ?, ?)", (key, state, " ".join(files)))

    def settled(self, invoice: InvoiceIssued) -> bool:
        """Whether this very content is settled for good, so that no other outcome of it will come."""
        return self._known(delivery_id(invoice).bytes)[0] in FINAL

    def count(self, biller: str, file_id: str) -> dict[str, int]:
        """The file's invoices by state (posted: IC has it)."""
        counts = self._counts.get((biller, file_id), Counter())
        return {state: counts[state] for state in (*FINAL, "parked")}

    def _of(self, biller: str, file_id: str) -> Counter[str]:
        return self._counts.setdefault((biller, file_id), Counter())

    def _known(self, key: bytes) -> tuple[str, tuple[str, ...]]:
        """An invoice's state and the files that brought it; '' and none where nothing is known."""
        row = self._states.execute("SELECT state, files FROM states WHERE id = ?", (key,)).fetchone()
        return (str(row[0]), tuple(str(row[1]).split())) if row else ("", ())
