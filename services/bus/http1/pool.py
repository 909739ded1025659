"""The connections to one partner service: so many at once, kept open from one request to the next."""

import asyncio
from collections import deque

from services.bus.http1.connection import Connection
from services.bus.http1.dial import Dialer, Origin

KEPT_S = 4.0
"""An unused connection is closed after this, before most servers do (5 s): few requests meet a closed one."""
_MOST_WAITING = 10_000


class Pool:
    """`limit` places; who has one may use one connection. Unused connections count against the limit too."""

    def __init__(self, limit: int, dialer: Dialer) -> None:
        self._dialer = dialer
        self._free = limit
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._unused: list[Connection] = []  # the one used last is at the end
        self._open: set[Connection] = set()  # until the loop has let go of them
        self._ended = False
        self._sweeping: asyncio.TimerHandle | None = None

    # -- places ----------------------------------------------------------------------------------------

    def try_enter(self) -> bool:
        """Takes a place that is free and that nobody waits for."""
        if self._free == 0 or self._waiting:
            return False
        self._free -= 1
        return True

    async def enter(self, wait_s: float) -> None:
        """Takes the next place, first come first served; raises TimeoutError when there is none in time."""
        if len(self._waiting) >= _MOST_WAITING:
            raise TimeoutError
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(wait_s):
                await turn
        except BaseException:
            if turn.cancelled():
                self._waiting.remove(turn)
            else:
                self.leave()  # it came as we gave up
            raise

    def leave(self) -> None:
        """Gives the place to whoever has waited longest."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    # -- connections -----------------------------------------------------------------------------------

    def take(self, origin: Origin, now: float) -> Connection | None:
        """The connection used last that still seems to be there at the loop's instant `now`."""
        unused = self._unused
        for at in range(len(unused) - 1, -1, -1):
            connection = unused[at]
            if connection.origin == origin:
                del unused[at]
                if connection.expires > now and connection.usable():
                    return connection
                connection.close()
        return None

    async def dial(self, origin: Origin, deadline: float) -> Connection:
        """A new connection; raises OSError, of which TimeoutError is one."""
        while len(self._unused) > self._free:
            self._unused.pop(0).close()
        connection = await self._dialer.dial(origin, deadline)
        self._open.add(connection)
        connection.lost.add_done_callback(lambda _: self._open.discard(connection))
        if self._ended:
            connection.close()
            raise ConnectionAbortedError("closed by us")
        return connection

    def give_back(self, connection: Connection) -> None:
        """After a request, however it ended."""
        if not connection.done():
            return
        loop = asyncio.get_running_loop()
        connection.expires = loop.time() + KEPT_S
        self._unused.append(connection)
        if self._sweeping is None:
            self._sweeping = loop.call_later(KEPT_S, self._sweep)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        kept = [each for each in self._unused if not each.closed and each.expires > now]
        for connection in set(self._unused).difference(kept):
            connection.close()
        self._unused = kept
        self._sweeping = loop.call_later(KEPT_S / 4, self._sweep) if kept else None

    async def aclose(self) -> None:
        """Closes every connection; who waits for an answer gets ConnectionAbortedError."""
        self._ended = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        ending = list(self._open)
        for connection in ending:
            connection.abandon()
        self._unused.clear()
        for connection in ending:
            await connection.lost
