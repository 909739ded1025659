"""What is written of a lane's progress, and when: one request at a time, and nothing is taken for granted.

What the broker does not take stays dirty and goes again; a commit of an earlier assignment it refuses.
"""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from services.bus import metrics
from services.bus.clock import Clock
from services.bus.cursors import LATE_S, Cursors
from services.bus.membership import Broker
from services.bus.partition import Commit, Owned, Stretch
from services.bus.progress import Snapshot

log = structlog.get_logger()

COMMIT_EVERY_S, COMMIT_PAUSE_S = 0.25, 0.005
LEAST_AHEAD = 4


@dataclass(frozen=True, slots=True)
class Dirty:
    """A stretch whose newest state the broker does not have."""

    owned: Owned
    stretch: Stretch
    snapshot: Snapshot

    @property
    def commit(self) -> Commit:
        return self.snapshot.position, self.snapshot.metadata


class Commits:
    """Writes the commits of one lane.

    Args:
        in_flight: how many records may be at the partner; the reservations reach twice as far in all.
        covered: told of each stretch whose newest commit the broker has acknowledged.
        committed: told of each request whether the broker took all of it.
    """

    def __init__(
        self,
        lane: str,
        broker: Broker,
        cursors: Cursors,
        clock: Clock,
        in_flight: int,
        *,
        covered: Callable[[Owned, Stretch], None],
        committed: Callable[[bool], None],
    ) -> None:
        self._lane = lane
        self._broker = broker
        self._cursors = cursors
        self._clock = clock
        self._in_flight = in_flight
        self._covered = covered
        self._committed = committed
        self._wanted = asyncio.Event()
        self._writing = asyncio.Lock()

    def want(self) -> None:
        """A record waits until a commit covers it."""
        self._wanted.set()

    async def regularly(self, owned: Mapping[TopicPartition, Owned]) -> None:
        """Writes what has changed, soon where it is wanted, until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COMMIT_EVERY_S):
                    await self._wanted.wait()
            await asyncio.sleep(COMMIT_PAUSE_S)  # lets one request carry what many keys want
            self._wanted.clear()
            await self.write([each for each in owned.values() if each.live and each.open])

    async def write(self, partitions: Collection[Owned], *, last: bool = False) -> None:
        """Commits each stretch of these partitions that has changed.

        With `last` nothing more of them will be sent: then a commit names what is in doubt, so that the
        next owner waits for nothing else.
        """
        async with self._writing:
            dirty = self._last(partitions) if last else self._dirty(partitions)
            main = [one for one in dirty if not one.stretch.scope]
            behind = [one for one in dirty if one.stretch.scope]
            await asyncio.gather(self._write_main(main), *map(self._write_cursor, behind))

    def _dirty(self, partitions: Collection[Owned]) -> list[Dirty]:
        stretches = [(each, stretch) for each in partitions for stretch in each.committable]
        waiting = sum(stretch.held > 0 for _, stretch in stretches)
        ahead = max(2 * self._in_flight // max(waiting, 1), LEAST_AHEAD)
        found = [
            Dirty(owned, stretch, stretch.progress.snapshot(ahead, owned.ticket.generation))
            for owned, stretch in stretches
        ]
        now = self._clock.monotonic()
        return [one for one in found if one.stretch.saved != one.commit or again(one.stretch, now)]

    def _last(self, partitions: Collection[Owned]) -> list[Dirty]:
        found = []
        for owned in partitions:
            for stretch in owned.committable:
                progress, generation = stretch.progress, owned.ticket.generation
                named = owned.in_doubt(stretch)
                snapshot = (
                    progress.snapshot(0, generation)
                    if named is None
                    else progress.last_snapshot(named, generation)
                )
                found.append(Dirty(owned, stretch, snapshot))
        return [one for one in found if one.stretch.saved != one.commit]

    async def _write_main(self, dirty: list[Dirty]) -> None:
        if not dirty:
            return
        taken: Collection[TopicPartition] = ()
        try:
            taken = await self._broker.commit(
                dirty[0].owned.ticket, {one.owned.partition: one.commit for one in dirty}
            )
        except (KafkaError, TimeoutError) as error:
            log.warning("commit_failed", lane=self._lane, error=type(error).__name__)
        self._committed(len(taken) == len(dirty))
        if len(taken) < len(dirty):
            metrics.COMMIT_FAILURES.labels(self._lane).inc()
        for one in dirty:
            if one.owned.partition in taken:
                self._saved(one)
            else:
                one.stretch.again_at = self._clock.monotonic() + LATE_S

    async def _write_cursor(self, one: Dirty) -> None:
        if await self._cursors.committed(one.owned, one.stretch.scope, one.commit):
            self._saved(one)
            self._cursors.acknowledged(one.owned, one.stretch, one.snapshot)
        else:
            one.stretch.again_at = self._clock.monotonic() + LATE_S

    def _saved(self, one: Dirty) -> None:
        if again(one.stretch, self._clock.monotonic()):
            one.stretch.again_at = None
        one.stretch.saved = one.commit
        one.stretch.progress.acknowledge(one.snapshot)
        self._covered(one.owned, one.stretch)
        if one.stretch.unreserved:  # nobody else will ask for them: they asked when they came
            self.want()


def again(stretch: Stretch, now: float) -> bool:
    """Whether its newest commit is to be written once more, changed or not."""
    return stretch.again_at is not None and now >= stretch.again_at
