"""HTTP to the partners: one pooled client that says of every failure what may have happened."""

import asyncio
import json as jsonlib
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

from services.bus import trace
from services.bus.faults import Call, Outage, PartnerError, Retryable, Unknown, require_ours
from services.bus.http1.address import Address, BadAddress, read_address
from services.bus.http1.answer import Answer
from services.bus.http1.connection import Connection
from services.bus.http1.dial import Dialer
from services.bus.http1.pool import Pool
from services.bus.http1.request import BrokenRequest, write_request
from services.bus.replies import SAYS_NO, Reply, Stream, fault_of, refuse

__all__ = ["Outage", "PartnerError", "PartnerHttp", "Reply", "Retryable", "Stream", "Unknown"]

MIB = 1024 * 1024
_ALWAYS_SENT = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "billbus"}


class PartnerHttp:
    """The one HTTP client of a process; `async with` it.

    `limit` is how many requests may be open to one biller's one service: a slow one never takes another's
    place. `plain_http` names the billers whose file allows addresses without TLS beyond this machine.
    """

    def __init__(self, *, limit: int = 200, plain_http: Collection[str] = ()) -> None:
        self._limit = limit
        self._plain_http = frozenset(plain_http)
        self._pools: dict[tuple[str, str], Pool] = {}
        self._dialer: Dialer | None = None

    async def __aenter__(self) -> Self:
        self._dialer = Dialer()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, where: TracebackType | None
    ) -> None:
        self._dialer = None
        pools, self._pools = self._pools, {}
        for pool in pools.values():
            await pool.aclose()

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
        pool = self._pool(call)
        address = self._address(call, url)
        message = _message(call, address, _headers(headers, traceparent, json is not None), body)
        if not pool.try_enter():
            await _enter(pool, call, deadline_s)
        try:
            stream = await _ask(pool, call, address, message, deadline_s, max_bytes)
            try:
                refuse(call, stream, content_types)
                stream.refuse_unusable()
                content = await stream.whole()
            finally:
                stream.aclose()
        finally:
            pool.leave()
        if not content and 200 <= stream.status < 300 and content_types and call.method != "HEAD":
            raise call.doubt("an empty answer to a request that should have one")
        return Reply(stream.status, stream.headers, content, call)

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
        pool = self._pool(call)
        address = self._address(call, url)
        message = _message(call, address, _headers(headers, traceparent, False), None)
        if not pool.try_enter():
            await _enter(pool, call, deadline_s)
        try:
            stream = await _ask(pool, call, address, message, deadline_s, max_bytes)
            try:
                refuse(call, stream, {*content_types, *SAYS_NO})
                stream.refuse_unusable()
                yield stream
            finally:
                stream.aclose()
        finally:
            pool.leave()

    def _pool(self, call: Call) -> Pool:
        if self._dialer is None:
            raise RuntimeError("PartnerHttp is not open: use it in `async with`")
        pool = self._pools.get((call.biller, call.service))
        if pool is None:
            pool = self._pools[call.biller, call.service] = Pool(self._limit, self._dialer)
        return pool

    def _address(self, call: Call, url: str) -> Address:
        """The address exactly as given (quoted parts stay quoted); plain HTTP only where it is allowed."""
        try:
            address = read_address(url)
        except BadAddress:
            raise call.outage("its address in the biller's file is not valid") from None
        if not (address.origin.tls or address.here or call.biller in self._plain_http):
            raise call.outage("its address has no TLS and the biller's file does not allow that")
        return address


async def _enter(pool: Pool, call: Call, wait_s: float) -> None:
    """A place in the pool of this biller's service; none in time is our fault, not the partner's."""
    try:
        await pool.enter(wait_s)
    except TimeoutError:
        raise call.retryable("no free connection in our own pool") from None


async def _ask(
    pool: Pool, call: Call, address: Address, message: bytes, deadline_s: float, max_bytes: int
) -> Stream:
    """The answer, once its head is here.

    A read that met a connection which the partner had just closed is asked again, once, on a new one.
    """
    loop = asyncio.get_running_loop()
    now = loop.time()
    deadline = now + deadline_s
    connection = pool.take(address.origin, now) or await _dial(pool, call, address, deadline)
    while True:
        answer = connection.answer = Answer(call.method)
        connection.start_clock(deadline)
        try:
            if not call.reads:
                require_ours()
            call.sent = True  # just before the first byte: what has not come here was certainly never sent
            connection.ask(message, answer)
            while answer.status == 0 and connection.fault is None:
                await connection.progress()
        except BaseException:
            pool.give_back(connection)
            raise
        connection.stop_clock()
        if answer.status:
            return Stream(connection, answer, call, pool, deadline - loop.time(), max_bytes)
        pool.give_back(connection)
        if not (connection.reused and call.reads and connection.died_unheard):
            raise fault_of(call, connection)
        connection = await _dial(pool, call, address, deadline)


async def _dial(pool: Pool, call: Call, address: Address, deadline: float) -> Connection:
    try:
        return await pool.dial(address.origin, deadline)
    except TimeoutError:
        if call.sent:
            raise call.doubt("no answer within the deadline") from None
        raise call.outage("no connection within the deadline") from None
    except OSError as fault:
        raise call.broken(fault) from None


def _message(call: Call, address: Address, headers: Mapping[str, str], body: bytes | None) -> bytes:
    try:
        return write_request(call.method, address.target, address.host, headers, body)
    except BrokenRequest as fault:
        raise call.outage(f"it cannot be asked: {fault}") from None


@lru_cache(maxsize=256)
def _unnamed(given: tuple[str, ...], is_json: bool) -> Mapping[str, str]:
    """What is sent beside the headers that a caller names."""
    always = _ALWAYS_SENT | ({"Content-Type": "application/json"} if is_json else {})
    named = {name.lower() for name in given}
    return {name: value for name, value in always.items() if name.lower() not in named}


def _headers(given: Mapping[str, str] | None, traceparent: str | None, is_json: bool) -> dict[str, str]:
    given = given or {}
    headers = {**_unnamed(tuple(given), is_json), **given}
    traceparent = traceparent or trace.current_traceparent()
    if traceparent:
        headers.setdefault("traceparent", traceparent)
    return headers
