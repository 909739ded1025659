"""Ends a process whose tables stand still though there is work: nobody sees a stall, everybody a restart.

What Faust thinks of itself is not asked: a rebalance that never ends looks healthy from within. The group's
commits and the ends of the topics are, now and then, from the broker.
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from faust.exceptions import ConsumerNotStarted

from services.bus.clock import Clock
from services.bus.closing import start_consumer, stop_consumer
from services.bus.connection import Brokers, aiokafka_client
from services.bus.views import whole

log = structlog.get_logger()
LIMIT_S, EVERY_S, ANSWER_S = 60.0, 5.0, 10.0


class TableStalled(Exception):
    """A partition has records, and its agent has finished none of them for too long."""


@dataclass(frozen=True, slots=True)
class Standing:
    """The next offset that the group would read, and the one after the last record."""

    next: int
    end: int


@dataclass(slots=True)
class Stall:
    """How long each partition has stood still while it was behind, in seconds of `now`."""

    limit_s: float = LIMIT_S
    _moved: dict[TopicPartition, tuple[int, float]] = field(default_factory=dict)
    _elsewhere: int = 0

    def look(self, standing: Mapping[TopicPartition, Standing], elsewhere: int, now: float) -> str | None:
        """A sentence when a partition stands still for too long.

        `elsewhere` is any number that moves while the tables are read back, which takes as long as it takes.
        """
        if elsewhere != self._elsewhere:
            self.forget()
            self._elsewhere = elsewhere
        behind = {partition: place for partition, place in standing.items() if place.next < place.end}
        for gone in self._moved.keys() - behind.keys():
            del self._moved[gone]
        for partition, place in behind.items():
            before, since = self._moved.get(partition, (None, now))
            since = since if place.next == before else now
            self._moved[partition] = (place.next, since)
            if now - since >= self.limit_s:
                return (
                    f"{partition.topic}/{partition.partition} stands at {place.next} of {place.end}"
                    f" for {now - since:.0f} s"
                )
        return None

    def forget(self) -> None:
        """Begins anew, as when the broker was away."""
        self._moved.clear()


async def watch_tables(
    app: Any, topics: Collection[str], bootstrap: Brokers, clock: Clock, limit_s: float = LIMIT_S
) -> None:
    """Looks every few seconds until cancelled; raises TableStalled.

    A replica looks at the partitions that it owns; one that owns none looks at all, since then the group
    itself may be stuck.
    """
    consumer = AIOKafkaConsumer(**aiokafka_client(bootstrap), group_id=app.conf.id, enable_auto_commit=False)
    await start_consumer(consumer)
    try:
        partitions = [partition for topic in topics for partition in await whole(consumer, topic)]
        stall = Stall(limit_s)
        while True:
            try:
                async with asyncio.timeout(ANSWER_S):
                    standing = await _standing(consumer, _watched(app, partitions))
            except (KafkaError, TimeoutError) as error:
                log.warning("tables_not_watched", error=type(error).__name__)
                stall.forget()
            else:
                if (sentence := stall.look(standing, _read_back(app), clock.monotonic())) is not None:
                    raise TableStalled(sentence)
            await asyncio.sleep(min(EVERY_S, limit_s / 2))
    finally:
        await stop_consumer(consumer)


def _watched(app: Any, partitions: list[TopicPartition]) -> list[TopicPartition]:
    owned = _owned(app)
    return [each for each in partitions if (each.topic, each.partition) in owned] or partitions


def _owned(app: Any) -> set[tuple[str, int]]:
    """What the tables' own consumer has; nothing until it has started, which comes after the app itself."""
    try:
        return {(each.topic, each.partition) for each in app.consumer.assignment()} if app.started else set()
    except ConsumerNotStarted:
        return set()


def _read_back(app: Any) -> int:
    """How far the tables have been read back from their topics."""
    return sum(offset or 0 for offset in app.tables.recovery.active_offsets.values())


async def _standing(
    consumer: AIOKafkaConsumer, partitions: list[TopicPartition]
) -> dict[TopicPartition, Standing]:
    begins, ends = await consumer.beginning_offsets(partitions), await consumer.end_offsets(partitions)
    committed = await asyncio.gather(*(consumer.committed(partition) for partition in partitions))
    return {
        partition: Standing(max(done or 0, begins[partition]), ends[partition])
        for partition, done in zip(partitions, committed, strict=True)
    }
