"""What is known of BIF files: which were taken (file.received), and what became of their invoices."""

from collections import Counter
from dataclasses import dataclass, field

from services.bus.views import View
from services.events import FileReceived, InvoiceOutcome

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


@dataclass(slots=True)
class Tally:
    """The invoices of one file by state. Only what is parked is kept by id, since it may yet become final;
    so memory does not grow with the file."""

    final: Counter[str] = field(default_factory=Counter)
    parked: set[str] = field(default_factory=set)

    def take(self, natural_id: str, state: str) -> None:
        if state in FINAL:
            self.parked.discard(natural_id)
            self.final[state] += 1
        else:
            self.parked.add(natural_id)


class Uploads(View[InvoiceOutcome]):
    """What became of each file's invoices at IC, whole in each replica."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str], Tally] = {}
        super().__init__(reads=InvoiceOutcome, apply=self.take)

    def take(self, event: InvoiceOutcome) -> None:
        """Counts an outcome; a lane writes a final one once."""
        tally = self._tallies.setdefault((event.biller, event.file_id), Tally())
        tally.take(event.natural_id, event.state)

    def count(self, biller: str, file_id: str) -> dict[str, int]:
        """The file's invoices by state (posted: IC has it)."""
        tally = self._tallies.get((biller, file_id), Tally())
        return {state: tally.final[state] for state in FINAL} | {"parked": len(tally.parked)}
