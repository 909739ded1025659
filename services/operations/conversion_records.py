"""Reads IMT's autopay records line by line: what each one holds, and everything wrong with it."""

import csv
import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from services.operations.conversion_layout import (
    AccountRule,
    CellError,
    ConversionLayout,
    Value,
    mask,
)

_PROGRESS_EVERY = 1000


class FileRefused(Exception):
    """The whole file cannot be converted; the message says why and, where known, in which line."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one record. Line 1 is the header; an empty column means the whole record."""

    line: int
    column: str
    reason: str
    expected: str
    found: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One data record. `key` is a digest of the account as it is matched, `digest` of all that counts."""

    line: int
    values: dict[str, Value]
    problems: tuple[Problem, ...]
    enrolled: bool
    key: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Control:
    """The input's own count and total, from its last record."""

    line: int
    records: int
    total: Decimal


class Records:
    """One pass over a file. After it, `control`, `count` and `total` say what the file amounts to."""

    def __init__(
        self, source: Path, layout: ConversionLayout, rule: AccountRule, progress: Callable[[int], None]
    ) -> None:
        self._source = source
        self._layout = layout
        self._rule = rule
        self._progress = progress
        self.control: Control | None = None
        self.count = 0
        self.total: Decimal | None = Decimal("0.00")
        """Sum of the control column over all records; None when a cell of it holds no amount."""

    def __iter__(self) -> Iterator[Record]:
        lines = self._lines()
        places = self._header(next(lines, (0, ""))[1])
        for number, text in lines:
            cells = _split(text, self._layout.input.delimiter)
            if self.control is not None:
                raise FileRefused(
                    f"line {number} stands after the control record in line {self.control.line}"
                )
            if cells and cells[0] == self._layout.input.control.mark:
                self.control = _control(number, cells)
                continue
            self.count += 1
            yield self._record(number, cells, places)

    def _lines(self) -> Iterator[tuple[int, str]]:
        """Numbered lines that hold something; a line is bounded, so memory is."""
        limit = self._layout.input.max_record_chars * 4
        done = 0
        with self._source.open("rb") as file:
            for number in itertools.count(1):
                raw = file.readline(limit + 1)
                if not raw:
                    return
                done += len(raw)
                if len(raw) > limit:
                    raise FileRefused(f"line {number} is longer than a record can be; is it the right file?")
                if number % _PROGRESS_EVERY == 0:
                    self._progress(done)
                text = _decode(raw, number)
                if text:
                    yield number, text

    def _header(self, text: str) -> dict[str, int]:
        """Where each column stands; the order is free, the names are not."""
        if not text:
            raise FileRefused(f"{self._source.name} is empty")
        named = _split(text, self._layout.input.delimiter) or []
        wanted = {name: column.header for name, column in self._layout.input.columns.items()}
        missing = [header for header in wanted.values() if header not in named]
        unknown = [header for header in named if header not in wanted.values()]
        twice = sorted({header for header in named if named.count(header) > 1})
        faults = [
            f"{what}: {', '.join(headers)}"
            for what, headers in (("missing", missing), ("unknown", unknown), ("twice", twice))
            if headers
        ]
        if faults:
            raise FileRefused(f"the header is not the one of the layout ({'; '.join(faults)})")
        return {name: named.index(header) for name, header in wanted.items()}

    def _record(self, number: int, cells: list[str] | None, places: dict[str, int]) -> Record:
        if cells is None:
            return self._unreadable(number, "quoting", "quotes that are closed")
        if len(cells) != len(places):
            return self._unreadable(number, "columns", f"{len(places)} columns, found {len(cells)}")
        columns = self._layout.input.columns
        by_name = {name: cells[place] for name, place in places.items()}
        self._sum(by_name[self._layout.control_total])
        values, problems = self._read(number, by_name, [self._layout.enrolled_by, self._layout.unique_by])
        enrolled = values.get(self._layout.enrolled_by) is not False
        if enrolled:
            wrong = {problem.column for problem in problems}
            rest = [n for n, column in columns.items() if n not in values and column.header not in wrong]
            more, others = self._read(number, by_name, rest)
            values, problems = {**values, **more}, [*problems, *others]
        account = values.get(self._layout.unique_by)
        matched = self._rule(account) if isinstance(account, str) else None
        return Record(
            line=number,
            values=values,
            problems=tuple(problems),
            enrolled=enrolled,
            key=_digest(matched or ""),
            digest=_digest(*(f"{name}={values[name]}" for name in columns if name in values)),
        )

    def _read(
        self, number: int, cells: dict[str, str], names: list[str]
    ) -> tuple[dict[str, Value], list[Problem]]:
        values: dict[str, Value] = {}
        problems: list[Problem] = []
        for name in names:
            column = self._layout.input.columns[name]
            try:
                values[name] = column.read(cells[name], self._rule)
            except CellError as error:
                found = mask(cells[name], column)
                problems.append(Problem(number, column.header, error.reason, error.expected, found))
        return values, problems

    def _sum(self, cell: str) -> None:
        try:
            self.total = None if self.total is None else self.total + Decimal(cell.strip())
        except InvalidOperation:
            self.total = None

    def _unreadable(self, number: int, reason: str, expected: str) -> Record:
        self.total = None
        return Record(number, {}, (Problem(number, "", reason, expected),), True, b"", b"")


def _decode(raw: bytes, number: int) -> str:
    try:
        text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        raise FileRefused(f"line {number} is not UTF-8 (byte {error.start + 1})") from error
    if "\x00" in text:
        raise FileRefused(f"line {number} holds a zero byte; the file is not text")
    return text.rstrip("\r\n")


def _split(text: str, delimiter: str) -> list[str] | None:
    """The cells of one line; None when its quotes do not close. A record is one line."""
    try:
        return [cell.strip() for cell in next(csv.reader([text], delimiter=delimiter, strict=True))]
    except csv.Error:
        return None


def _control(number: int, cells: list[str]) -> Control:
    try:
        _, records, total = cells
        return Control(number, int(records), Decimal(total))
    except (ValueError, InvalidOperation) as error:
        raise FileRefused(f"the control record in line {number} is not mark, records, total") from error


def _digest(*parts: str) -> bytes:
    return hashlib.sha256("\x1f".join(parts).encode()).digest()[:16]
