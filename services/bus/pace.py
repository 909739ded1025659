"""How large a body may be and how slowly it may come."""

import asyncio

from starlette.types import Message, Receive

from services.bus.clock import Clock
from services.bus.problem import Problem

FIRST_S = 15.0
"""Seconds in which a body must begin and go on."""
PER_SECOND = 16 * 1024
"""Bytes a second a sender must reach beyond that, so that a trickle cannot hold a place for ever."""


def too_large(limit: int) -> Problem:
    """The answer to a body beyond its limit, in bytes."""
    return Problem(
        413, "Body too large", f"At most {limit} bytes are taken.", headers={"Connection": "close"}
    )


class Pace:
    """A `receive` that counts: 413 past `limit` bytes, 408 when the body comes too slowly.

    The time allowed grows with what has come: FIRST_S plus one second for each PER_SECOND bytes.
    """

    def __init__(self, receive: Receive, clock: Clock, limit: int) -> None:
        self._receive = receive
        self._clock = clock
        self._limit = limit
        self._began = clock.monotonic()
        self._bytes = 0
        self._whole = False

    async def __call__(self) -> Message:
        if self._whole:
            return await self._receive()
        left = self._began + FIRST_S + self._bytes / PER_SECOND - self._clock.monotonic()
        try:
            async with asyncio.timeout(min(left, FIRST_S)):
                message = await self._receive()
        except TimeoutError:
            raise Problem(
                408, "Body too slow", "The body did not come in time.", headers={"Connection": "close"}
            ) from None
        self._bytes += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self._bytes > self._limit:
            raise too_large(self._limit)
        return message

    async def whole(self) -> bytes:
        """The body in one piece; raises Problem 400 when the caller went away before its end."""
        parts: list[bytes] = []
        while not self._whole:
            message = await self()
            if message["type"] == "http.disconnect":
                raise Problem(400, "Body incomplete", "The connection ended before the body did.")
            parts.append(message.get("body", b""))
        return b"".join(parts)
