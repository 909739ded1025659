"""Autopay conversion: IMT's autopay records become the file that InvoiceCloud takes at go-live.

The input is read twice, line by line: first to learn which accounts stand there more than once, then to
write. Memory does not grow with the file; what is known of an account is a digest in a scratch file.
The same input gives the same bytes. Nothing appears under the target's name before all of it is there.
"""

import csv
import hashlib
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import IO

from services.operations.conversion_layout import AccountRule, ConversionLayout
from services.operations.conversion_records import FileRefused, Problem, Record, Records

Progress = Callable[[int, int], None]
"""Called with the bytes of work done so far, of how many."""
_REJECT_HEADER = ("Line", "Column", "Reason", "Expected", "Found")
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(slots=True)
class Total:
    """Records and their amount in USD."""

    count: int = 0
    amount: Decimal = Decimal("0.00")


@dataclass(slots=True)
class ConversionReport:
    """records = converted + not_enrolled + repeats + rejected; `control_total` in USD of those converted."""

    records: int = 0
    converted: int = 0
    not_enrolled: int = 0
    repeats: int = 0
    rejected: int = 0
    control_total: Decimal = Decimal("0.00")
    control_checked: bool = False
    by_tender: dict[str, Total] = field(default_factory=dict)
    by_reason: dict[str, int] = field(default_factory=dict)
    sha256: str = ""

    @property
    def adds_up(self) -> bool:
        counted = self.converted + self.not_enrolled + self.repeats + self.rejected
        return self.records == counted and self.rejected == sum(self.by_reason.values())


@dataclass(frozen=True, slots=True)
class Conversion:
    """One biller's conversion: the layout, the biller's GUID at IC, and its account-number rule."""

    layout: ConversionLayout
    biller_guid: str
    account_rule: AccountRule

    def run(
        self, source: Path, target: Path, rejects: Path, progress: Progress = lambda *_: None
    ) -> ConversionReport:
        """Convert `source` into `target`; what cannot be converted stands in `rejects`, masked.

        Raises FileRefused when the file as a whole cannot be trusted: no such file, not text, empty,
        another header, truncated, or changed while it was read. Then neither file is written.
        """
        before = _identity(source)
        size = before[0]
        report = ConversionReport()
        with ExitStack() as stack:
            seen = stack.enter_context(_scratch(target.parent))
            first = self._records(source, lambda done: progress(done // 2, size))
            for record in first:
                _remember(seen, record)
            self._check(source, first, report)
            out = stack.enter_context(_written_whole(target))
            bad = stack.enter_context(_written_whole(rejects))
            second = self._records(source, lambda done: progress((size + done) // 2, size))
            self._write(second, seen, report, out, bad)
            if _identity(source) != before:
                raise FileRefused(f"{source.name} changed while it was read; run it again")
        report.sha256 = _sha256(target)
        progress(size, size)
        return report

    def _records(self, source: Path, progress: Callable[[int], None]) -> Records:
        return Records(source, self.layout, self.account_rule, progress)

    def _check(self, source: Path, read: Records, report: ConversionReport) -> None:
        """What the file says of itself must hold, else a part of it is missing."""
        control = read.control
        if control is None and self.layout.input.control.required:
            raise FileRefused(f"{source.name} ends without its control record: it may be truncated")
        if control is not None and control.records != read.count:
            raise FileRefused(
                f"the control record names {control.records} records, the file holds {read.count}"
            )
        if not read.count:
            raise FileRefused(f"{source.name} holds no records")
        if control is not None and read.total is not None and control.total != read.total:
            raise FileRefused(
                f"the control record's total is {control.total}, the records sum to {read.total}"
            )
        report.control_checked = control is not None and read.total is not None

    def _write(
        self, records: Records, seen: sqlite3.Connection, report: ConversionReport, out: IO[str], bad: IO[str]
    ) -> None:
        layout = self.layout.output
        writer = csv.writer(out, delimiter=layout.delimiter, lineterminator=layout.line_end)
        writer.writerow([column.header for column in layout.columns])
        reject = csv.writer(bad, lineterminator="\r\n")
        reject.writerow(_REJECT_HEADER)
        for record in records:
            report.records += 1
            line, differs = _known(seen, record)
            problems = record.problems or (self._conflict(record, line),) * differs
            if problems:
                report.rejected += 1
                report.by_reason[problems[0].reason] = report.by_reason.get(problems[0].reason, 0) + 1
                reject.writerows(map(_reject_row, problems))
            elif line != record.line:
                report.repeats += 1
            elif not record.enrolled:
                report.not_enrolled += 1
            else:
                writer.writerow(self._row(record))
                self._count(report, record)
        writer.writerow([layout.trailer_mark, report.converted, report.control_total])

    def _conflict(self, record: Record, first: int) -> Problem:
        """Which of two differing records is right is for a person: none of them is converted."""
        header = self.layout.input.columns[self.layout.unique_by].header
        expected = f"one record for an account, or equal ones; the first is in line {first}"
        return Problem(record.line, header, "records differ", expected)

    def _row(self, record: Record) -> list[str]:
        out = self.layout.output
        return [
            out.write(record.values[column.source]) if column.source else self.biller_guid
            for column in out.columns
        ]

    def _count(self, report: ConversionReport, record: Record) -> None:
        amount = record.values[self.layout.control_total]
        assert isinstance(amount, Decimal)
        report.converted += 1
        report.control_total += amount
        total = report.by_tender.setdefault(str(record.values[self.layout.counted_by]), Total())
        total.count += 1
        total.amount += amount


def for_a_sheet(text: str) -> str:
    """The text as a person's spreadsheet may open it: never run as a formula."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _reject_row(problem: Problem) -> tuple[str, ...]:
    cells = (problem.column, problem.reason, problem.expected, problem.found)
    return (str(problem.line), *map(for_a_sheet, cells))


def _identity(source: Path) -> tuple[int, int]:
    """Size in bytes and instant of the last change."""
    try:
        stat = source.stat()
    except OSError as error:
        raise FileRefused(f"{source.name} cannot be read: {error.strerror}") from error
    if not source.is_file():
        raise FileRefused(f"{source.name} is not a file; it is read twice, so a pipe will not do")
    return stat.st_size, stat.st_mtime_ns


@contextmanager
def _scratch(folder: Path) -> Iterator[sqlite3.Connection]:
    """A file of digests by account, gone afterwards; 2 MB of it in memory however long it grows."""
    with (
        tempfile.TemporaryDirectory(prefix=".convert-", dir=folder) as where,
        closing(sqlite3.connect(Path(where) / "seen.sqlite", isolation_level=None)) as seen,
    ):
        seen.execute("PRAGMA journal_mode = OFF")
        seen.execute("PRAGMA synchronous = OFF")
        seen.execute("PRAGMA cache_size = -2000")
        seen.execute(
            "CREATE TABLE seen (key BLOB PRIMARY KEY, line INTEGER, digest BLOB, differs INTEGER)"
            " WITHOUT ROWID"
        )
        seen.execute("BEGIN")
        yield seen


def _remember(seen: sqlite3.Connection, record: Record) -> None:
    if not record.problems:
        seen.execute(
            "INSERT INTO seen VALUES (?1, ?2, ?3, 0)"
            " ON CONFLICT (key) DO UPDATE SET differs = differs OR digest <> ?3",
            (record.key, record.line, record.digest),
        )


def _known(seen: sqlite3.Connection, record: Record) -> tuple[int, bool]:
    """The line of the account's first record, and whether its records differ."""
    row = (
        None
        if record.problems
        else seen.execute("SELECT line, differs FROM seen WHERE key = ?", (record.key,)).fetchone()
    )
    return (row[0], bool(row[1])) if row else (record.line, False)


@contextmanager
def _written_whole(target: Path) -> Iterator[IO[str]]:
    """A text file that gets its name only once all of it is on the disk; readable by its owner alone."""
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    part = Path(name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
