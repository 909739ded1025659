"""A BIF file, read twice in bounded memory: first as a whole, then row by row.

`inspect` finds what refuses a whole file before a single row is taken; the rows are read by `rows`.
"""

import hashlib
import re
import sqlite3
from dataclasses import dataclass, field
from decimal import Decimal
from io import BufferedIOBase

from services.bus.biller import Biller
from services.invoices.layout import Layout

_CENTS = re.compile(rb"-?[0-9]{1,10}\.[0-9]{2}")
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_BOM = b"\xef\xbb\xbf"
_BITS = 1 << 24
MOST_CENTS = 10**12
"""Control totals are decimal(12,2)."""


class FileRefused(Exception):
    """Nothing of the file is taken. `code` is short and stable, `reason` one sentence for a person."""

    def __init__(self, code: str, reason: str, rows: int = 0) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.rows = rows


class Repeats:
    """Finds invoice numbers that come twice, in memory that does not grow with the file.

    The first reading marks every number in two bit fields; only what may have come twice there (a few in a
    hundred) is written down, on disk, by the second.
    """

    def __init__(self) -> None:
        self._once = bytearray(_BITS // 8)
        self._twice = bytearray(_BITS // 8)
        self._seen: sqlite3.Connection | None = None

    def mark(self, number: bytes) -> None:
        place = hash(number) & (_BITS - 1)
        byte, bit = place >> 3, 1 << (place & 7)
        if self._once[byte] & bit:
            self._twice[byte] |= bit
        else:
            self._once[byte] |= bit

    def first_line(self, number: str, raw: bytes, line: int) -> int | None:
        """The line that had this number before, or None where this is the first."""
        place = hash(raw) & (_BITS - 1)
        if not self._twice[place >> 3] & (1 << (place & 7)):
            return None
        if self._seen is None:
            self._seen = sqlite3.connect("", isolation_level=None)  # a private file, gone when closed
            self._seen.execute("PRAGMA journal_mode=OFF")
            self._seen.execute("CREATE TABLE seen (number TEXT PRIMARY KEY, line INTEGER) WITHOUT ROWID")
        taken = self._seen.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (number, line)).rowcount
        if taken:
            return None
        (first,) = self._seen.execute("SELECT line FROM seen WHERE number = ?", (number,)).fetchone()
        return int(first)

    def close(self) -> None:
        if self._seen is not None:
            self._seen.close()


@dataclass(slots=True)
class Inspected:
    """What the first reading found: a file that is whole."""

    biller_code: str
    created: str
    header: list[str]
    rows: int
    data_at: int
    ignored: list[str]
    repeats: Repeats = field(default_factory=Repeats)


def checksum(file: BufferedIOBase) -> str:
    """SHA-256 (hex) of the whole file."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


class Lines:
    """Lines of a file as bytes, with their number and place, in memory that their length does not change.

    After `next`: `ended` at the end of the file; `whole` where the line has its end; `too_long` where only
    the first bytes of a line were given, as many as the layout allows.
    """

    def __init__(self, file: BufferedIOBase, layout: Layout, at: int = 0, number: int = 0) -> None:
        self._file = file
        self._layout = layout
        self.at = at
        self.number = number
        self.ended = self.too_long = False
        self.whole = True
        file.seek(at)

    def next(self) -> bytes:
        """The next line without its end; b'' with `ended` at the end of the file."""
        longest = self._layout.max_line_bytes
        while self.too_long and not self.whole and self._read(longest + 1):
            pass  # the rest of a line that was too long
        raw = self._read(longest + 1)
        self.number += 1
        self.ended = not raw
        self.too_long = len(raw) > longest
        if self.too_long:
            return raw[:longest]
        if not raw.isascii():
            self._decodable(raw)
        return raw.rstrip(b"\r\n")

    def refuse_too_long(self) -> None:
        """Raises FileRefused where a line that everything rests on is too long."""
        if self.too_long:
            longest = self._layout.max_line_bytes
            raise FileRefused("line_too_long", f"line {self.number} is longer than {longest} bytes")

    def _read(self, most: int) -> bytes:
        raw = self._file.readline(most)
        self.at += len(raw)
        self.whole = raw.endswith(b"\n")
        return raw

    def _decodable(self, raw: bytes) -> None:
        try:
            raw.decode(self._layout.encoding)
        except UnicodeDecodeError as error:
            place = self.at - len(raw) + error.start
            encoding = self._layout.encoding.upper()
            raise FileRefused(
                "wrong_encoding", f"byte {place} (line {self.number}) is not {encoding}"
            ) from None


def inspect(file: BufferedIOBase, layout: Layout) -> Inspected:
    """Reads a file once; raises FileRefused for what refuses it whole."""
    lines = Lines(file, layout)
    found = begin(lines, layout)
    place = found.header.index(layout.total_column)
    number = found.header.index(layout.column_of("invoice_number"))
    end, delimiter = layout.last_line.mark.encode(), layout.delimiter.encode()
    cents = owed = unreadable = 0
    mark = found.repeats.mark
    while True:
        raw = lines.next()
        if raw.startswith(end):
            break
        if lines.ended:
            raise FileRefused(
                "truncated",
                f"the file ends after {found.rows} rows without its {end.decode()} line",
                found.rows,
            )
        found.rows += 1
        if found.rows > layout.max_rows:
            raise FileRefused("too_many_rows", f"more than {layout.max_rows} rows", found.rows)
        if lines.too_long:
            unreadable += 1
            continue
        cells = raw.split(delimiter)
        if len(cells) <= place or not _CENTS.fullmatch(cells[place].strip()):
            unreadable += 1
        else:
            amount = int(cells[place].replace(b".", b""))
            cents += amount
            owed += max(0, amount)
        if len(cells) > number:
            mark(bare(cells[number], layout))
    finish(lines, layout, raw, found, None if unreadable else cents)
    if owed >= MOST_CENTS:
        raise FileRefused("total_too_large", "what is owed in all has more than ten digits", found.rows)
    return found


def bare(cell: bytes, layout: Layout) -> bytes:
    """A cell as the second reading has it, without whatever spaces stand around it."""
    return cell.strip() if cell.isascii() else cell.decode(layout.encoding).strip().encode(layout.encoding)


def check_biller(found: Inspected, biller: Biller) -> None:
    """Refuses a file that names another biller than the one it was brought for."""
    wanted = biller.invoice_cloud.biller_code
    if found.biller_code != wanted:
        raise FileRefused("wrong_biller", f"the first line does not name the biller {wanted}", found.rows)


def begin(lines: Lines, layout: Layout) -> Inspected:
    """The first two lines: who the file is for, and its columns."""
    first = lines.next().removeprefix(_BOM)
    if not first.strip() and nothing_more(lines):
        raise FileRefused("empty", "the file is empty")
    if b"\r" in first:
        raise FileRefused("line_ends", "lines end with a carriage return alone; line feeds are expected")
    lines.refuse_too_long()
    names = layout.first_line
    told = marked(first, names.mark, layout)
    if told is None:
        raise FileRefused("no_first_line", f"the first line does not begin with {names.mark}")
    second = lines.next()
    if lines.ended:
        raise FileRefused("truncated", "the file ends after its first line")
    lines.refuse_too_long()
    if not lines.whole:
        raise FileRefused("truncated", "the file ends within its second line, the columns")
    if told.get(names.layout) != str(layout.layout):
        raise FileRefused("wrong_layout", f"the first line does not say {names.layout}={layout.layout}")
    header = [name.strip() for name in second.decode(layout.encoding).split(layout.delimiter)]
    missing = [name for name in layout.needed if name not in header]
    if missing:
        raise FileRefused("columns_missing", f"columns missing: {', '.join(missing)}")
    twice = sorted({name for name in header if header.count(name) > 1 and name in layout.columns})
    if twice:
        raise FileRefused("columns_twice", f"columns twice: {', '.join(twice)}")
    ignored = [plain(name) for name in header if name not in layout.columns]
    return Inspected(told.get(names.biller, ""), told.get(names.created, ""), header, 0, lines.at, ignored)


def nothing_more(lines: Lines) -> bool:
    """Whether nothing but blank lines is left."""
    while not lines.ended:
        if lines.next().strip():
            return False
    return True


def finish(lines: Lines, layout: Layout, raw: bytes, found: Inspected, cents: int | None) -> None:
    """The last line: as many rows as it says, adding up to what it says, and nothing after it."""
    lines.refuse_too_long()
    names = layout.last_line
    if b"=" not in raw.rsplit(layout.delimiter.encode(), 1)[-1]:
        raise FileRefused("truncated", "the last line breaks off", found.rows)
    told = marked(raw, names.mark, layout) or {}
    if told.get(names.rows) != str(found.rows):
        said = plain(told.get(names.rows, "nothing"))
        raise FileRefused(
            "truncated", f"the last line says {said} rows, the file has {found.rows}", found.rows
        )
    while not lines.ended:
        if lines.next().strip():
            raise FileRefused("after_the_end", f"line {lines.number} stands after the last line", found.rows)
    if cents is None or names.total is None or names.total not in told:
        return
    total = Decimal(cents).scaleb(-2)
    if told[names.total] != str(total):
        said = plain(told[names.total])
        raise FileRefused("wrong_total", f"the last line says a total of {said}, the rows add up to {total}")


def marked(raw: bytes, mark: str, layout: Layout) -> dict[str, str] | None:
    """What a `#MARK|name=value|...` line says, or None where it is no such line."""
    head, *pairs = raw.decode(layout.encoding).split(layout.delimiter)
    if head.strip() != mark:
        return None
    return {name.strip(): value.strip() for name, _, value in (pair.partition("=") for pair in pairs)}


def plain(found: str) -> str:
    """What stood there, short and without control characters."""
    shown = UNPRINTABLE.sub("?", found[:60])
    return f"{shown}…" if len(found) > 60 else shown


def hidden(found: str) -> str:
    """What stood there in a personal column: only how much."""
    return f"({len(found)} characters, not shown)"
