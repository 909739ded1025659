"""Ticks that ask a partner: no biller waits for another's partner."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from services.bus.biller import Biller


@dataclass(slots=True)
class SideBySide:
    """Runs `run` for each biller beside the others, and never twice at once for one.

    A run that fails with what it does not handle itself raises at that biller's next tick.
    """

    run: Callable[[Biller], Awaitable[None]]
    _running: dict[str, asyncio.Future[None]] = field(default_factory=dict)

    async def tick(self, biller: Biller) -> None:
        """Starts a run, unless the last one still goes on."""
        last = self._running.get(biller.slug)
        if last is not None and not last.done():
            return
        if last is not None:
            last.result()
        self._running[biller.slug] = asyncio.ensure_future(self.run(biller))
