"""What a partner's answer means: read whole or in pieces, judged by its head."""

import asyncio
import json as jsonlib
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Any, NoReturn

from services.bus.faults import Call, PartnerError, Retryable, Unknown
from services.bus.http1.answer import Answer, BrokenAnswer, BrokenOff, Headers
from services.bus.http1.connection import Connection, TooLate
from services.bus.http1.pool import Pool

SAYS_NO = ("application/json", "application/problem+json")
"""Content types in which a partner says no."""
_MONEY = jsonlib.JSONDecoder(parse_float=Decimal)
_FAULTS = frozenset({"text/xml", "application/soap+xml"})
_CLOSED_DOOR = frozenset({401, 403, 407, 503})
_LATER = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that the caller has to understand: 2xx, or a 4xx in which the partner says no."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    _call: Call = field(default_factory=lambda: Call("GET", "?", "?", sent=True), repr=False)

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    def json(self) -> Any:
        """The body as JSON; numbers with a point are Decimal, since they are money.

        Raises Retryable after a read and Unknown after a write when the body is not JSON.
        """
        try:
            return _MONEY.decode(self.body.decode(jsonlib.detect_encoding(self.body)))
        except ValueError:
            raise self._call.doubt("the answer is not JSON") from None

    def refused(self, reason: str) -> Retryable | Unknown:
        """The error to raise when the answer is well-formed but makes no sense."""
        return self._call.doubt(reason)


class Stream:
    """An answer whose body is read in pieces; `aclose` it whatever happens.

    The deadline counts the time spent waiting for the partner, not what the reader does between pieces.
    `kind` is the content type without its parameters; `length` what the head says of the body, in bytes.
    """

    __slots__ = (
        "_answer",
        "_call",
        "_closed",
        "_connection",
        "_left_s",
        "_max_bytes",
        "_pool",
        "headers",
        "kind",
        "length",
        "status",
    )

    def __init__(
        self, connection: Connection, answer: Answer, call: Call, pool: Pool, left_s: float, max_bytes: int
    ) -> None:
        self._connection = connection
        self._answer = answer
        self._call = call
        self._pool = pool
        self._left_s = left_s
        self._max_bytes = max_bytes
        self._closed = False
        self.status = answer.status
        self.length = answer.length
        self.kind = _kind(answer.content_type)
        self.headers: Mapping[str, str] = Headers(answer.fields)

    def refuse_unusable(self) -> None:
        """Raises before anything is read when the head says that the body is too large, or encoded."""
        if self._answer.encoded:
            raise self._call.doubt("answered in an encoding that was not asked for")
        if self._call.method != "HEAD" and (self.length or 0) > self._max_bytes:
            raise self._too_large()

    def _too_large(self) -> PartnerError:
        return self._call.doubt(f"the answer is larger than {self._max_bytes} bytes")

    async def whole(self) -> bytes:
        """The body at once; raises as `chunks` does."""
        if self._answer.complete:
            content = b"".join(self._connection.take())
            if len(content) > self._max_bytes:
                raise self._too_large()
            return content
        return b"".join([chunk async for chunk in self.chunks()])

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body; raises PartnerError past the deadline or the size, or when it breaks off."""
        taken = 0
        while not self._closed:
            pieces = self._connection.take()
            for piece in pieces:
                taken += len(piece)
                if taken > self._max_bytes:
                    raise self._too_large()
                yield piece
            if not pieces:
                if self._answer.complete:
                    return
                await self._wait()
        raise self._call.doubt("the answer was given up before its end")

    async def _wait(self) -> None:
        connection = self._connection
        if connection.fault is not None:
            raise fault_of(self._call, connection)
        loop = asyncio.get_running_loop()
        began = loop.time()
        connection.start_clock(began + self._left_s)
        try:
            await connection.progress()
        finally:
            connection.stop_clock()
            self._left_s -= loop.time() - began

    def aclose(self) -> None:
        """Gives the connection up when the body was not read to its end."""
        if not self._closed:
            self._closed = True
            self._pool.give_back(self._connection)


@lru_cache(maxsize=256)
def _kind(content_type: bytes) -> str:
    return content_type.partition(b";")[0].strip().lower().decode("latin-1")


def fault_of(call: Call, connection: Connection) -> PartnerError:
    """What it means that the answer to a request that was sent will never be whole."""
    fault = connection.fault
    if isinstance(fault, TooLate):
        return call.doubt(str(fault))
    if isinstance(fault, BrokenAnswer) and not isinstance(fault, BrokenOff):
        return call.doubt(f"the answer is broken: {fault}")
    return call.broken(fault or ConnectionAbortedError())


def refuse(call: Call, stream: Stream, content_types: Collection[str]) -> None:
    """Raises for every answer that is not the partner's own word on this request."""
    status = call.status = stream.status
    kind = stream.kind
    if status in _CLOSED_DOOR:
        raise call.outage(f"answered {status}", _retry_after(stream.headers))
    if status in _LATER:
        raise call.retryable(f"answered {status}", _retry_after(stream.headers))
    if status == 500 and kind in _FAULTS and kind in content_types:
        return  # SOAP 1.1 says no with 500: the caller reads the fault
    if status >= 500:
        raise call.doubt(f"answered {status}")
    if 300 <= status < 400:
        raise call.away(f"answered {status}, a redirect, which is not followed")
    if status >= 400 and kind not in {*content_types, *SAYS_NO}:
        raise call.outage(f"answered {status} with {kind or 'no content type'}, not in its own words")
    if status < 300 and content_types and not _acceptable(call, stream, content_types):
        _wrong_kind(call, kind)


def _acceptable(call: Call, stream: Stream, content_types: Collection[str]) -> bool:
    """An empty success has no content type to judge; it is named by itself once the body is known."""
    empty = call.method != "HEAD" and stream.length == 0
    return empty or stream.kind in content_types


def _wrong_kind(call: Call, kind: str) -> NoReturn:
    if kind in {"text/html", "application/xhtml+xml"}:
        raise call.away("answered with an HTML page, as a proxy does")
    raise call.doubt(f"answered with {kind or 'no content type'}")


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds; a date is measured against the partner's own clock."""
    value = headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        at = parsedate_to_datetime(value)
        now = parsedate_to_datetime(headers.get("Date", ""))
    except ValueError:
        return None
    return max(0.0, (at - now).total_seconds()) if at.tzinfo and now.tzinfo else None
