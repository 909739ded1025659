"""What says that a lane is not well, and what ends it when only a new process mends it.

A consumer can stop without a word: its fetching task gone, its place in the group lost. Nothing in it can
be asked then, so what counts is what moves: records that end, commits that are taken, the end of the log as
the broker names it.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from services.bus import metrics
from services.bus.clock import Clock
from services.bus.membership import Broker
from services.bus.partition import Owned

log = structlog.get_logger()

LOOK_S, ASK_S = 1.0, 15.0
UNWELL_AFTER_S = 30.0
STALLED_AFTER_S = 180.0


class Stalled(Exception):
    """The lane makes no progress although there is work; the process should end and start again."""


class Watchdog:
    """Looks at one lane every second.

    Args:
        owned: the partitions that the lane has now.
        topic: the lane's live topic, whose lag is told by partition.
        retention_s: how long a topic keeps its records, by name; one not named keeps them for ever.
    """

    def __init__(
        self,
        lane: str,
        topic: str,
        broker: Broker,
        clock: Clock,
        owned: Callable[[], Collection[Owned]],
        retention_s: Mapping[str, float],
    ) -> None:
        self._lane = lane
        self._topic = topic
        self._broker = broker
        self._clock = clock
        self._owned = owned
        self._retention_s = retention_s
        self._ends: dict[TopicPartition, int] = {}
        self._began = self._moved_at = clock.monotonic()
        self._refused_since: float | None = None
        self._lag = 0
        self._said = False

    def moved(self) -> None:
        """An attempt has ended, however it ended."""
        self._moved_at = self._clock.monotonic()

    def committed(self, taken: bool) -> None:
        """Whether the broker took a commit."""
        if taken:
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = self._clock.monotonic()

    async def run(self) -> None:
        """Looks until cancelled; raises Stalled."""
        asked_at = self._began
        while True:
            await asyncio.sleep(LOOK_S)
            if self._clock.monotonic() - asked_at >= ASK_S:
                asked_at = self._clock.monotonic()
                await self.ask()
            self.look()

    async def ask(self) -> None:
        """Asks the broker where the logs end: what the consumer has seen stands still when it does."""
        partitions = [owned.partition for owned in self._owned() if owned.live]
        try:
            edges = await self._broker.edges(partitions) if partitions else {}
        except (KafkaError, TimeoutError) as error:
            log.warning("log_ends_not_read", lane=self._lane, error=type(error).__name__)
            return
        self._ends = {partition: end for partition, (_, end) in edges.items()}

    def look(self) -> None:
        """Sets the metrics; raises Stalled when nothing has moved for too long."""
        now = self._clock.monotonic()
        owned = [each for each in self._owned() if not each.halted]
        self._lag = sum(self._lag_of(each) if each.open else 1 for each in owned)
        self._set_ages(owned)
        if (reason := self.not_well) and not self._said:
            log.warning("lane_not_well", lane=self._lane, reason=reason)
        self._said = bool(reason)
        if not self._lag:
            self._moved_at = now
        elif now - self._moved_at > STALLED_AFTER_S:
            raise Stalled(f"{self._lane}: nothing ended for {self._idle_s:.0f} s, {self._lag} records behind")
        if self._alone_s > STALLED_AFTER_S:
            raise Stalled(f"{self._lane}: for {self._alone_s:.0f} s no member of its group")

    @property
    def not_well(self) -> str:
        """Why the lane should not count as ready, or ''."""
        now = self._clock.monotonic()
        if self._refused_since is not None and now - self._refused_since > UNWELL_AFTER_S:
            return f"no commit was taken for {now - self._refused_since:.0f} s"
        if self._alone_s > UNWELL_AFTER_S:
            return f"no member of its group for {self._alone_s:.0f} s"
        if self._lag and self._idle_s > UNWELL_AFTER_S:
            return f"nothing moved for {self._idle_s:.0f} s with {self._lag} records behind"
        return ""

    @property
    def _idle_s(self) -> float:
        return self._clock.monotonic() - self._moved_at

    @property
    def _alone_s(self) -> float:
        """Seconds since the coordinator's last word on us ran out."""
        return self._clock.monotonic() - max(self._broker.certain_until, self._began)

    def _lag_of(self, owned: Owned) -> int:
        progress, partition = owned.main.progress, owned.partition
        end = max(self._broker.log_end(partition) or 0, self._ends.get(partition, 0), progress.next)
        lag = end - progress.position
        if partition.topic == self._topic:
            metrics.LAG.labels(self._lane, str(partition.partition)).set(lag)
        return lag

    def _set_ages(self, owned: Collection[Owned]) -> None:
        """The age of the oldest record not settled, and how near its topic is to forgetting it."""
        now = self._clock.now().timestamp()
        oldest_s, nearest = 0.0, 0.0
        for each in owned:
            heads = [queue[0].logged_at for queue in each.queues.values()]
            if heads:
                age_s = now - min(heads) / 1000
                oldest_s = max(oldest_s, age_s)
                nearest = max(nearest, age_s / self._retention_s.get(each.partition.topic, float("inf")))
        metrics.OLDEST_SECONDS.labels(self._lane).set(oldest_s)
        metrics.RETENTION_USED.labels(self._lane).set(nearest)
