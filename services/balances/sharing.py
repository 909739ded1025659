"""What enquiries share: one call for a burst, and announcements for which no enquirer waits."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from services.balances.current import CurrentBalances
from services.balances.imt import Balance, NoBalance
from services.bus.partner import Retryable
from services.bus.publisher import NotAcknowledged, Publisher
from services.events import BalanceChanged

log = structlog.get_logger()


@dataclass(slots=True)
class Coalesced:
    """Calls under way, by what they ask: whoever asks the same meanwhile gets the same answer.

    `limit` bounds the calls, not those who wait for them.
    """

    limit: int = 256
    _calls: dict[tuple[str, str], asyncio.Task[Balance | NoBalance]] = field(default_factory=dict)

    async def call(
        self, what: tuple[str, str], ask: Callable[[], Awaitable[Balance | NoBalance]]
    ) -> Balance | NoBalance:
        """Raises what the call raises, and Retryable when too many other calls are under way."""
        running = self._calls.get(what)
        if running is None:
            if len(self._calls) >= self.limit:
                raise Retryable(what[0], "rtdr", "too many calls under way", never_sent=True, retry_after=1)
            running = self._calls[what] = asyncio.ensure_future(ask())
            running.add_done_callback(lambda done: self._over(what, done))
        # the one who came first may hang up; the others still wait for the answer
        return await asyncio.shield(running)

    def _over(self, what: tuple[str, str], done: asyncio.Task[Balance | NoBalance]) -> None:
        del self._calls[what]
        if not done.cancelled():
            done.exception()  # seen here, so that nobody waiting is no complaint


@dataclass(slots=True)
class Announcements:
    """Events on their way to the bus, for which nobody waits; at most `limit` at a time.

    One that is not acknowledged is named in the log: the poll finds the same change again.
    """

    publisher: Publisher
    balances: CurrentBalances
    limit: int = 1000
    _under_way: set[asyncio.Task[None]] = field(default_factory=set)

    def announce(self, event: BalanceChanged) -> None:
        if len(self._under_way) >= self.limit:
            log.error("balances.not_announced", biller=event.biller, reason="too many under way")
            return
        task = asyncio.ensure_future(self._publish(event))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _publish(self, event: BalanceChanged) -> None:
        try:
            await self.publisher.publish(event)
            self.balances.learn(event)
        except NotAcknowledged as error:
            log.error("balances.not_announced", biller=event.biller, reason=str(error))
