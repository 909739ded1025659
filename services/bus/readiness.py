"""What /readyz asks of broker and registry: now and then, one question at a time, and never for long."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from services.bus.clock import Clock

log = structlog.get_logger()
AGAIN_S = 2.0
LIMIT_S = 1.5  # less than /readyz gives a check, so that the answer is remembered


@dataclass(slots=True)
class Asked:
    """A check that asks at most every `AGAIN_S` seconds; a fault, or silence for `limit_s`, is a no."""

    ask: Callable[[], Awaitable[bool]]
    clock: Clock
    limit_s: float = LIMIT_S
    _answer: bool = False
    _again: float = float("-inf")
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __call__(self) -> bool:
        async with self._one:
            if self.clock.monotonic() >= self._again:
                self._answer = await self._answered()
                self._again = self.clock.monotonic() + AGAIN_S
            return self._answer

    async def _answered(self) -> bool:
        try:
            async with asyncio.timeout(self.limit_s):
                return await self.ask()
        except Exception as error:  # whatever the client raises, it is no answer
            log.warning("readyz.no_answer", error=type(error).__name__)
            return False
