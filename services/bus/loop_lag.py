"""How late the event loop is: everything in a process shares it, the heartbeats of its consumers too."""

import asyncio

import structlog

from services.bus import metrics
from services.bus.clock import Clock

log = structlog.get_logger()

TURN_S = 0.25
BLOCKED_S = 1.0
"""Whatever keeps the loop for so long eats a third of a consumer's session."""


async def watch_the_loop(clock: Clock) -> None:
    """Measures until cancelled."""
    while True:
        began = clock.monotonic()
        await asyncio.sleep(TURN_S)
        late_s = max(clock.monotonic() - began - TURN_S, 0.0)
        metrics.LOOP_LATE_SECONDS.set(late_s)
        if late_s > BLOCKED_S:
            metrics.LOOP_BLOCKED.inc()
            log.warning("loop_blocked", seconds=round(late_s, 1))
