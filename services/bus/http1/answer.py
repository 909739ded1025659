"""An answer in HTTP/1.1, read from bytes. No sockets, no clock.

httptools judges the head's grammar; what it lets through and what frames the body is judged here. Bodies are
taken apart here too, since httptools bounds neither chunk extensions nor trailers.
"""

import re
from collections.abc import Iterator, Mapping

import httptools

MOST_HEAD = 32 * 1024
"""Bytes of one head, and of the trailers after a chunked body."""
MOST_FIELDS = 100
MOST_INTERIM = 8
"""Heads of 1xx before the answer."""
MOST_CHUNK_LINE = 1024
"""Bytes of a chunk's size with its extensions."""

_BODILESS = frozenset({204, 304})
_CRLF = b"\r\n"
_BLANK = b"\r\n\r\n"
_CHUNK_LINE = re.compile(rb"([0-9A-Fa-f]{1,12})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILERS = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*\r\n)*")


class BrokenAnswer(Exception):
    """What came is not an answer in HTTP/1.1, or is not the whole of it."""


class BrokenOff(BrokenAnswer):
    """The peer went before its answer was whole."""


class Headers(Mapping[str, str]):
    """The fields of an answer; names without regard to case, of a name that came twice the first."""

    __slots__ = ("_fields",)

    def __init__(self, fields: list[tuple[bytes, bytes]]) -> None:
        self._fields = fields  # names in lower case

    def __getitem__(self, name: str) -> str:
        wanted = name.lower().encode("latin-1", "replace")
        for known, value in self._fields:
            if known == wanted:
                return value.decode("latin-1")
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys(name.decode("latin-1") for name, _ in self._fields))

    def __len__(self) -> int:
        return len({name for name, _ in self._fields})

    def __repr__(self) -> str:
        return f"Headers({list(self)})"  # values may be personal or secret


class Answer:
    """One answer, read from bytes however they are cut. `pieces` is the body not yet taken.

    `status` is 0 until the head is whole; `complete` says that the body is; `reusable` that the connection
    stands where the next answer begins. `length` is what the head says of the body, None where nothing.
    """

    __slots__ = (
        "_chunked",
        "_held",
        "_interim",
        "_left",
        "_method",
        "_to_the_end",
        "complete",
        "content_type",
        "encoded",
        "fields",
        "length",
        "pieces",
        "reusable",
        "status",
    )

    def __init__(self, method: str) -> None:
        self._method = method
        self._held = b""  # bytes that do not yet make a head or a line
        self._interim = 0
        self._chunked = False
        self._left = 0  # bytes of the body, or of the chunk with its line end, still to come
        self._to_the_end = False
        self.status = 0
        self.fields: list[tuple[bytes, bytes]] = []
        self.content_type = b""
        self.encoded = False
        self.length: int | None = None
        self.pieces: list[bytes] = []
        self.complete = False
        self.reusable = True

    def feed(self, data: bytes) -> None:
        """Takes what came. Raises BrokenAnswer at the first byte that cannot be part of an answer."""
        if self.status == 0:
            rest = self._read_heads(self._held + data if self._held else data)
            if rest is None:
                return
            data = rest
        if self._chunked and not self.complete:
            self._read_chunks(data)
        elif self._to_the_end:
            self._take(data)
        else:
            self._read_counted(data)

    def end(self) -> None:
        """The peer sends no more. Raises BrokenAnswer when the answer is not whole."""
        self.reusable = False
        if self.complete:
            return
        if not self._to_the_end or self.status == 0:
            raise BrokenOff("it broke off")
        self.complete = True

    # -- the head --------------------------------------------------------------------------------------

    def _read_heads(self, data: bytes) -> bytes | None:
        """What follows the head of the answer; None while that is not whole."""
        while True:
            end = data.find(_BLANK, 0, MOST_HEAD)
            if end < 0:
                _refuse_beginning(data)
                self._held = data
                return None
            head, data = data[: end + 4], data[end + 4 :]
            version = self._read_head(head)
            if self.status >= 200:
                self._held = b""
                self._frame(version)
                return data
            self._interim += 1
            if self.status == 101 or self._interim > MOST_INTERIM:
                raise BrokenAnswer("it never comes to the answer")
            self.status = 0
            self.fields = []

    def _read_head(self, head: bytes) -> str:
        """Sets status and fields; the version, as in '1.1'."""
        if not head.startswith(b"HTTP/1."):
            raise BrokenAnswer("it is not HTTP/1.1")
        parser = httptools.HttpResponseParser(self)
        try:
            parser.feed_data(head)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            raise BrokenAnswer("its head is not HTTP/1.1") from None
        self.status = parser.get_status_code()
        if not 100 <= self.status <= 599 or len(self.fields) > MOST_FIELDS:
            raise BrokenAnswer("its head has no usable status, or too many fields")
        return parser.get_http_version()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by httptools for each field of a head."""
        self.fields.append((name.lower(), value.strip()))

    def _frame(self, version: str) -> None:
        """Where the body ends, and whether the connection goes on after it."""
        self.reusable = version == "1.1"
        for name, value in self.fields:
            if (
                name == b"content-length"
            ):  # httptools lets neither two of them through, nor one beside a coding
                self.length = _counted(value)
            elif name == b"transfer-encoding":
                if version != "1.1" or self._chunked or value.lower() != b"chunked":
                    raise BrokenAnswer("its body is coded in a way that was not asked for")
                self._chunked = True
            elif name == b"connection":
                self.reusable = self.reusable and b"close" not in value.lower()
            elif name == b"content-type":
                self.content_type = self.content_type or value
            elif name == b"content-encoding":
                self.encoded = value.lower() not in {b"", b"identity"}
        if self._method == "HEAD" or self.status in _BODILESS:
            self._chunked = False
        elif self.length is not None:
            self._left = self.length
        elif not self._chunked:
            self._to_the_end = True
            self.reusable = False

    # -- the body --------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        if data:
            self.pieces.append(data)

    def _finish(self, leftover: int) -> None:
        """Bytes after the end are nobody's answer: what sent them is not asked again."""
        self.complete = True
        if leftover:
            self.reusable = False

    def _read_counted(self, data: bytes) -> None:
        left = self._left
        if len(data) < left:
            self._left = left - len(data)
            self._take(data)
            return
        self._left = 0
        self._take(data[:left])
        self._finish(len(data) - left)

    def _read_chunks(self, data: bytes) -> None:
        data = self._held + data if self._held else data
        at = 0
        while at < len(data):
            if self._left > 2:
                piece = data[at : at + self._left - 2]
                self._take(piece)
                self._left -= len(piece)
                at += len(piece)
                continue
            if self._left:
                if data[at] != _CRLF[2 - self._left]:
                    raise BrokenAnswer("a chunk is longer than it says")
                self._left -= 1
                at += 1
                continue
            began = at
            at = self._read_chunk_line(data, at)
            if at == began:
                break
        self._held = data[at:]

    def _read_chunk_line(self, data: bytes, at: int) -> int:
        """Where the chunk's bytes begin, or the answer ends; `at` while the line is not whole."""
        end = data.find(_CRLF, at, at + MOST_CHUNK_LINE)
        if end < 0:
            if len(data) - at >= MOST_CHUNK_LINE or _bare(data, at):
                raise BrokenAnswer("a chunk's size is not one")
            return at
        line = _CHUNK_LINE.fullmatch(data, at, end)
        if line is None:
            raise BrokenAnswer("a chunk's size is not one")
        size = int(line[1], 16)
        if size:
            self._left = size + 2
            return end + 2
        stop = data.find(_BLANK, end, end + MOST_HEAD)
        if stop < 0:
            if len(data) - end >= MOST_HEAD or _bare(data, end):
                raise BrokenAnswer("its trailers are too large or broken")
            return at
        if not _TRAILERS.fullmatch(data, end + 2, stop + 2):
            raise BrokenAnswer("its trailers are broken")
        self._finish(len(data) - stop - 4)
        return len(data)


def _counted(length: bytes) -> int:
    if not length.isdigit() or len(length) > 15:
        raise BrokenAnswer("its length is not one")
    return int(length)


def _refuse_beginning(data: bytes) -> None:
    """Raises for the beginning of something that will not become a head, rather than to wait for its end."""
    if len(data) >= MOST_HEAD:
        raise BrokenAnswer(f"its head is larger than {MOST_HEAD} bytes")
    if data[:7] != b"HTTP/1."[: len(data)] or _bare(data, 0):
        raise BrokenAnswer("it is not HTTP/1.1")


def _bare(data: bytes, at: int) -> bool:
    """Whether a line ends without its carriage return."""
    return data.count(b"\n", at) != data.count(_CRLF, at)
