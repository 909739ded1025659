"""Opens connections: a name's addresses, each tried in turn, and TLS with the certificate checked."""

import asyncio
import socket
import ssl
from functools import cached_property
from typing import Any, NamedTuple

from services.bus.http1.connection import Connection

CONNECT_S = 10.0
TLS_S = 10.0
GOODBYE_S = 1.0
"""How long a TLS connection that we close waits for the peer's own goodbye."""
NAMES_KEPT_S = 10.0
_MOST_NAMES = 256

Place = tuple[int, Any]
"""A family and what `connect` takes in it."""


class Origin(NamedTuple):
    """Where a connection goes; what two addresses must have in common to share one."""

    tls: bool
    host: str
    port: int


class Dialer:
    """Trusts what the system trusts, and a certificate only for the host that was asked for."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, int], tuple[float, asyncio.Task[list[Place]]]] = {}

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        """Made when first needed: reading what the system trusts takes some 30 ms."""
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        return context

    async def dial(self, origin: Origin, deadline: float) -> Connection:
        """A new connection before the loop's instant `deadline`; raises OSError, as TimeoutError is one.

        Each address has its share of the time: one that swallows packets does not use up the next one's.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout_at(deadline):
            places = await self._places(loop, origin)
        refused: OSError = TimeoutError()
        for tried, place in enumerate(places):
            share = (deadline - loop.time()) / (len(places) - tried)
            try:
                async with asyncio.timeout(share):
                    return await self._open(loop, origin, place)
            except ssl.SSLError:
                raise
            except OSError as fault:
                refused = fault
        raise refused

    async def _open(self, loop: asyncio.AbstractEventLoop, origin: Origin, place: Place) -> Connection:
        family, address = place
        reached = socket.socket(family, socket.SOCK_STREAM)
        try:
            reached.setblocking(False)
            reached.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            async with asyncio.timeout(CONNECT_S):
                await loop.sock_connect(reached, address)
            tls: dict[str, Any] = {}
            if origin.tls:
                tls = {
                    "ssl": self._tls,
                    "server_hostname": origin.host,
                    "ssl_handshake_timeout": TLS_S,
                    "ssl_shutdown_timeout": GOODBYE_S,
                }
            _, connection = await loop.create_connection(
                lambda: Connection(loop, origin), sock=reached, **tls
            )
        except BaseException:
            reached.close()
            raise
        return connection

    async def _places(self, loop: asyncio.AbstractEventLoop, origin: Origin) -> list[Place]:
        """The host's addresses; one look-up serves all who ask while it runs and some seconds after."""
        name = (origin.host, origin.port)
        until, looking = self._names.get(name, (0.0, None))
        if looking is None or until < loop.time():
            if len(self._names) >= _MOST_NAMES:
                self._names.clear()
            looking = loop.create_task(_look_up(loop, *name))
            looking.add_done_callback(lambda done: self._forget_failed(name, done))
            self._names[name] = (loop.time() + NAMES_KEPT_S, looking)
        return await asyncio.shield(looking)  # who gives up does not take it away from the others

    def _forget_failed(self, name: tuple[str, int], looked: "asyncio.Task[list[Place]]") -> None:
        if (looked.cancelled() or looked.exception() is not None) and name in self._names:
            del self._names[name]


async def _look_up(loop: asyncio.AbstractEventLoop, host: str, port: int) -> list[Place]:
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]
