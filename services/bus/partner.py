"""HTTP to the partners: one pooled client that says of every failure what may have happened."""

import asyncio
import json as jsonlib
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from types import SimpleNamespace, TracebackType
from typing import Any, NoReturn, Self

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from services.bus import trace
from services.bus.faults import Call, Outage, PartnerError, Retryable, Unknown, require_ours

__all__ = ["Outage", "PartnerError", "PartnerHttp", "Reply", "Retryable", "Stream", "Unknown"]

MIB = 1024 * 1024
_CLOSED_DOOR = frozenset({401, 403, 407, 503})
_LATER = frozenset({408, 425, 429})
_CHUNK = 64 * 1024


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
            return jsonlib.loads(self.body, parse_float=Decimal)
        except ValueError:
            raise self._call.doubt("the answer is not JSON") from None

    def refused(self, reason: str) -> Retryable | Unknown:
        """The error to raise when the answer is well-formed but makes no sense."""
        return self._call.doubt(reason)


class Stream:
    """An answer whose body is read in pieces; `aclose` it whatever happens.

    The deadline counts the time spent waiting for the partner, not what the reader does between pieces.
    """

    def __init__(self, response: aiohttp.ClientResponse, call: Call, left_s: float, max_bytes: int) -> None:
        self._response = response
        self._call = call
        self._left_s = left_s
        self._max_bytes = max_bytes
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    def refuse_too_large(self) -> None:
        """Raises before anything is read when the partner says itself that it is more than the limit."""
        if self._call.method != "HEAD" and (self._response.content_length or 0) > self._max_bytes:
            raise self._too_large()

    def _too_large(self) -> PartnerError:
        return self._call.doubt(f"the answer is larger than {self._max_bytes} bytes")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body; raises PartnerError past the deadline or the size, or when it breaks off."""
        taken = 0
        while True:
            chunk = await self._read()
            if not chunk:
                return
            taken += len(chunk)
            if taken > self._max_bytes:
                raise self._too_large()
            yield chunk

    async def _read(self) -> bytes:
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(self._left_s):
                return await self._response.content.read(_CHUNK)
        except TimeoutError:
            raise self._call.doubt("no whole answer within the deadline") from None
        except (aiohttp.ClientError, OSError) as fault:
            raise self._call.broken(fault) from None
        finally:
            self._left_s -= loop.time() - began

    def aclose(self) -> None:
        """Gives the connection up when the body was not read to its end."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


class PartnerHttp:
    """The one HTTP client of a process; `async with` it.

    `limit` is how many requests may be open to one biller's one service: a slow one never takes another's
    place. `plain_http` names the billers whose file allows addresses without TLS beyond this machine.
    """

    def __init__(self, *, limit: int = 200, plain_http: Collection[str] = ()) -> None:
        self._limit = limit
        self._plain_http = frozenset(plain_http)
        self._places: dict[tuple[str, str], asyncio.Semaphore] = {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        watch = aiohttp.TraceConfig()
        watch.on_request_headers_sent.append(_mark_sent)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=20),
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity", "User-Agent": "billbus"},
            trace_configs=[watch],
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, where: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def request(
        self,
        method: str,
        url: str,
        *,
        biller: str,
        service: str,
        deadline_s: float,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        data: bytes | None = None,
        max_bytes: int = MIB,
        content_types: Collection[str] = ("application/json",),
        traceparent: str | None = None,
    ) -> Reply:
        """Sends one request and reads the whole answer within `deadline_s` seconds.

        The deadline starts when a place in the pool is free; waiting for one is bounded by the same time
        again and is never held against the partner. Raises PartnerError; business answers (4xx in one of
        `content_types`, and a SOAP fault where XML is one of them) are returned.
        """
        call = Call(method.upper(), biller, service)
        body = jsonlib.dumps(json).encode() if json is not None else data
        sent_headers = _headers(headers, traceparent, json is not None)
        async with self._place(call, deadline_s):
            stream, response = await self._open(call, url, sent_headers, body, deadline_s, max_bytes)
            try:
                _refuse(call, response, content_types)
                stream.refuse_too_large()
                content = b"".join([chunk async for chunk in stream.chunks()])
            finally:
                stream.aclose()
        if not content and 200 <= response.status < 300 and content_types and method.upper() != "HEAD":
            raise call.doubt("an empty answer to a request that should have one")
        return Reply(response.status, response.headers, content, call)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        biller: str,
        service: str,
        deadline_s: float,
        headers: Mapping[str, str] | None = None,
        max_bytes: int = 20 * MIB,
        content_types: Collection[str] = ("application/pdf",),
        traceparent: str | None = None,
    ) -> AsyncIterator[Stream]:
        """Like `request`, with the body left to be read in pieces under the same deadline and size."""
        call = Call(method.upper(), biller, service)
        async with self._place(call, deadline_s):
            sent_headers = _headers(headers, traceparent, False)
            stream, response = await self._open(call, url, sent_headers, None, deadline_s, max_bytes)
            try:
                _refuse(call, response, {*content_types, *_SAYS_NO})
                stream.refuse_too_large()
                yield stream
            finally:
                stream.aclose()

    @asynccontextmanager
    async def _place(self, call: Call, wait_s: float) -> AsyncIterator[None]:
        """A place in the pool of this biller's service; none in time is our fault, not the partner's."""
        places = self._places.setdefault((call.biller, call.service), asyncio.Semaphore(self._limit))
        try:
            async with asyncio.timeout(wait_s):
                await places.acquire()
        except TimeoutError:
            raise call.retryable("no free connection in our own pool") from None
        try:
            yield
        finally:
            places.release()

    async def _open(
        self,
        call: Call,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        deadline_s: float,
        max_bytes: int,
    ) -> tuple[Stream, aiohttp.ClientResponse]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        response = await self._send(call, url, headers, body, deadline_s)
        return Stream(response, call, deadline_s - (loop.time() - began), max_bytes), response

    async def _send(
        self, call: Call, url: str, headers: Mapping[str, str], body: bytes | None, deadline_s: float
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            raise RuntimeError("PartnerHttp is not open: use it in `async with`")
        address = self._address(call, url)
        try:
            async with asyncio.timeout(deadline_s):
                return await self._session.request(
                    call.method,
                    address,
                    headers=headers,
                    data=body,
                    allow_redirects=False,
                    trace_request_ctx=call,
                )
        except TimeoutError:
            if call.sent:
                raise call.doubt("no answer within the deadline") from None
            raise call.outage("no connection within the deadline") from None
        except (aiohttp.ClientError, OSError) as fault:
            raise call.broken(fault) from None

    def _address(self, call: Call, url: str) -> URL:
        """The address exactly as given (quoted parts stay quoted); plain HTTP only where it is allowed."""
        try:
            address = URL(url, encoded=True)
        except ValueError:
            raise call.outage("its address in the biller's file is not valid") from None
        if address.scheme == "https" and address.host:
            return address
        if address.scheme != "http" or not address.host:
            raise call.outage("its address in the biller's file is not valid")
        if not _loopback(address.host) and call.biller not in self._plain_http:
            raise call.outage("its address has no TLS and the biller's file does not allow that")
        return address


_SAYS_NO = ("application/json", "application/problem+json")
_FAULTS = frozenset({"text/xml", "application/soap+xml"})


async def _mark_sent(session: aiohttp.ClientSession, context: SimpleNamespace, params: object) -> None:
    """Runs just before the first byte is written: what has not come here was certainly never sent."""
    del session, params
    if not context.trace_request_ctx.reads:
        require_ours()
    context.trace_request_ctx.sent = True


def _headers(given: Mapping[str, str] | None, traceparent: str | None, is_json: bool) -> CIMultiDict[str]:
    headers = CIMultiDict(given or {})
    traceparent = traceparent or trace.current_traceparent()
    if traceparent:
        headers.setdefault("traceparent", traceparent)
    if is_json:
        headers.setdefault("Content-Type", "application/json")
    return headers


def _refuse(call: Call, response: aiohttp.ClientResponse, content_types: Collection[str]) -> None:
    """Raises for every answer that is not the partner's own word on this request."""
    status = call.status = response.status
    wait = _retry_after(response.headers)
    kind = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if status in _CLOSED_DOOR:
        raise call.outage(f"answered {status}", wait)
    if status in _LATER:
        raise call.retryable(f"answered {status}", wait)
    if status == 500 and kind in _FAULTS and kind in content_types:
        return  # SOAP 1.1 says no with 500: the caller reads the fault
    if status >= 500:
        raise call.doubt(f"answered {status}")
    if 300 <= status < 400:
        raise call.away(f"answered {status}, a redirect, which is not followed")
    if status >= 400 and kind not in {*content_types, *_SAYS_NO}:
        raise call.outage(f"answered {status} with {kind or 'no content type'}, not in its own words")
    if status < 300 and content_types and not _acceptable(call, response, kind, content_types):
        _wrong_kind(call, kind)


def _acceptable(
    call: Call, response: aiohttp.ClientResponse, kind: str, content_types: Collection[str]
) -> bool:
    """An empty success has no content type to judge; it is named by itself once the body is known."""
    empty = call.method != "HEAD" and response.headers.get("Content-Length") == "0"
    return empty or kind in content_types


def _wrong_kind(call: Call, kind: str) -> NoReturn:
    if kind in {"text/html", "application/xhtml+xml"}:
        raise call.away("answered with an HTML page, as a proxy does")
    raise call.doubt(f"answered with {kind or 'no content type'}")


def _retry_after(headers: CIMultiDictProxy[str]) -> float | None:
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


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
