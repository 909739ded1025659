"""The rows of a BIF file: what is wrong with one never stops the others."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from operator import itemgetter

from services.bus.billers import Biller
from services.bus.identity import digest
from services.bus.support import Row, SupportMatrix, wire
from services.events import Refusal
from services.invoices.bif import UNPRINTABLE, Inspected, Lines, Repeats, hidden, plain
from services.invoices.layout import Bad, Column, Layout, Parse, parser_of
from services.invoices.rules import RULES, Values, settle_amounts, settle_notices

MOST_COMBINATIONS = 1000


@dataclass(slots=True)
class Cell:
    """One column of the file at hand: where it stands, and what is made of it."""

    place: int
    name: str
    column: Column
    parse: Parse


class RowReader:
    """Reads the rows of one file for one biller; each gives the values of an invoice, or its refusals.

    `refused_by_name` counts the flags refused as an unsupported row of the seed, by its slug.
    """

    def __init__(
        self, layout: Layout, header: list[str], biller: Biller, support: SupportMatrix, repeats: Repeats
    ) -> None:
        self._layout = layout
        self._biller = biller
        self._support = support
        self._repeats = repeats
        self._width = len(header)
        self._delimiter = layout.delimiter
        pattern = biller.accounts.pattern
        cells = [
            Cell(header.index(name), name, column, parser_of(layout, column, pattern))
            for name, column in layout.columns.items()
            if name in header
        ]
        self._cells = cells
        ours = [cell for cell in cells if cell.column.field]
        self._fields = [
            (cell.place, str(cell.column.field), cell.parse, () if cell.column.type == "list" else None)
            for cell in ours
        ]
        self._required = itemgetter(*(cell.place for cell in cells if cell.column.required))
        self._sent = itemgetter(*(cell.place for cell in ours))
        self._flags = [cell for cell in cells if not cell.column.field]
        self._good_flags: dict[tuple[str, ...], bool] = {}
        self._flag_places = [cell.place for cell in self._flags]
        self.refused_by_name: dict[str, int] = {}

    def read(self, line: int, text: str) -> Values | list[Refusal]:
        """The values of the row, under the names of our fields, with its `content`; or what is wrong."""
        cells = text.split(self._delimiter)
        if len(cells) != self._width:
            return [
                Refusal(line=line, column="(row)", expected=f"{self._width} columns", found=str(len(cells)))
            ]
        if not text.isprintable() and UNPRINTABLE.search(text):
            return self._explain(line, cells)
        cells = [cell.strip() for cell in cells]
        if not all(self._required(cells)):
            return self._explain(line, cells)
        try:
            values: Values = {
                name: parse(cell) if (cell := cells[place]) else empty
                for place, name, parse, empty in self._fields
            }
        except Bad:
            return self._explain(line, cells)
        if not self._flags_fine(tuple([cells[place] for place in self._flag_places])):
            return self._explain(line, cells)
        return self._ruled(line, cells, values)

    def _flags_fine(self, flags: tuple[str, ...]) -> bool:
        """Whether no flag is refused; a file has few different combinations."""
        fine = self._good_flags.get(flags)
        if fine is None:
            fine = not any(
                found and self._flag_refused(flag, found)
                for flag, found in zip(self._flags, flags, strict=True)
            )
            if len(self._good_flags) < MOST_COMBINATIONS:
                self._good_flags[flags] = fine
        return fine

    def _ruled(self, line: int, cells: list[str], values: Values) -> Values | list[Refusal]:
        for rule in RULES:
            broken = rule(values, self._biller)
            if broken is not None:
                return [self._refusal(line, self._layout.column_of(broken.field), broken.expected, cells)]
        number = values["invoice_number"]
        first = self._repeats.first_line(number, number.encode(self._layout.encoding), line)
        if first is not None:
            expected = f"an invoice number once in a file; line {first} has it"
            return [self._refusal(line, self._layout.column_of("invoice_number"), expected, cells)]
        # of what IMT sent, never of what is settled below
        values["content"] = digest("\x1e".join(self._sent(cells)))
        settle_amounts(values)
        settle_notices(values, self._biller)
        return values

    def _refusal(self, line: int, name: str, expected: str, cells: list[str]) -> Refusal:
        cell = next(cell for cell in self._cells if cell.name == name)
        found = cells[cell.place]
        return Refusal(
            line=line,
            column=name,
            expected=expected,
            found=hidden(found) if cell.column.pii else plain(found) or "(empty)",
        )

    def _explain(self, line: int, cells: list[str]) -> list[Refusal]:
        """Everything that is wrong with the cells of a row."""
        refusals = []
        for cell in self._cells:
            found = cells[cell.place].strip()
            expected = self._wrong(cell, found)
            if expected:
                refusals.append(self._refusal(line, cell.name, expected, cells))
        return refusals or [
            Refusal(line=line, column="(row)", expected="no control characters", found="(not shown)")
        ]

    def _wrong(self, cell: Cell, found: str) -> str | None:
        if UNPRINTABLE.search(found):
            return "no control characters"
        if not found:
            return "a value" if cell.column.required else None
        try:
            cell.parse(found)
        except Bad as bad:
            return str(bad)
        row = self._flag_refused(cell, found) if cell.column.field is None else None
        if isinstance(row, Row):
            self.refused_by_name[row.slug] = self.refused_by_name.get(row.slug, 0) + 1
            return f"{row.name}: {row.sentence}" if row.supported else f"{row.title}. {row.sentence}"
        return row

    def _flag_refused(self, flag: Cell, found: str) -> Row | str | None:
        """The row by whose name a flag is refused, or what was expected of it; None where it is fine."""
        try:
            value = flag.parse(found)
        except Bad as bad:
            return str(bad)
        if flag.column.type == "boolean":
            if not value:
                return None
            slug = self._layout.always_false.get(flag.name)
            return self._support.row(slug) if slug else self._asked(flag.name, "true")
        fine = self._layout.as_supported.get(flag.name, ())
        return None if wire(found) in {wire(value) for value in fine} else self._asked(flag.name, found)

    def _asked(self, name: str, value: str) -> Row | str:
        row = self._support.asked("bif_column", f"{name}={value}") or self._support.asked("bif_column", name)
        if row is not None:
            return row
        fine = self._layout.as_supported.get(name, ())
        return f"one of {', '.join(fine)}, or nothing" if fine else "nothing"


def too_long(line: int, layout: Layout) -> Refusal:
    return Refusal(line=line, column="(row)", expected=f"at most {layout.max_line_bytes} bytes", found="more")


def rows(
    file: BufferedIOBase, layout: Layout, found: Inspected, reader: RowReader
) -> Iterator[Values | list[Refusal]]:
    """The file's rows, one after the other."""
    lines = Lines(file, layout, found.data_at, 2)
    for _ in range(found.rows):
        raw = lines.next()
        if lines.too_long:
            yield [too_long(lines.number, layout)]
            continue
        result = reader.read(lines.number, raw.decode(layout.encoding))
        if isinstance(result, dict):
            result["row"] = lines.number
        yield result
