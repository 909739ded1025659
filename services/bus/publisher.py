"""Events onto the bus: answered only when all in-sync replicas have them."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import prometheus_client
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from services.bus import metrics
from services.bus.clock import Clock
from services.bus.closing import stop_producer
from services.bus.codec import Codec
from services.bus.connection import Brokers, aiokafka_client
from services.bus.identity import event_id_text, key
from services.bus.partitioning import partition_of, place_of
from services.bus.trace import current_traceparent
from services.events import BY_TOPIC, Event

Header = tuple[str, bytes]
Record = tuple[str, bytes, bytes, list[Header]]
"""Topic, key, value, headers."""
TOGETHER = 100
"""From so many records on, those of a partition are handed over and waited for as one."""


class NotAcknowledged(Exception):
    """The bus did not acknowledge in time; the event may or may not be on it, so say it again."""


@dataclass(slots=True)
class Handed:
    """Events that were given to the producer.

    Attributes:
        topics: of each, in order.
        waiting: by their numbers, what is done once the bus has acknowledged them.
        refused: why the others were not taken.
    """

    topics: list[str]
    waiting: list[tuple[Sequence[int], asyncio.Future[object]]] = field(default_factory=list)
    refused: str = "not sent"


class Publisher:
    """One idempotent producer (acks=all) with CloudEvents headers in binary mode.

    Args:
        bootstrap: broker addresses.
        source: ce_source, such as `billbus/payments`.
        deadline_s: how long an acknowledgement may take.
    """

    def __init__(
        self, bootstrap: Brokers, source: str, codec: Codec, clock: Clock, deadline_s: float = 10
    ) -> None:
        self._codec = codec
        self._clock = clock
        self._deadline_s = deadline_s
        self._source = source.encode()
        self._bootstrap = bootstrap
        self._constant: dict[str, list[Header]] = {topic: self._of_topic(topic) for topic in BY_TOPIC}
        self._producer: Any = None

    async def start(self) -> None:
        self._producer = AIOKafkaProducer(
            **aiokafka_client(self._bootstrap),
            client_id=self._source.decode(),
            acks="all",
            enable_idempotence=True,
            linger_ms=5,
            max_batch_size=256 * 1024,
            max_request_size=4 * 1024 * 1024,
            request_timeout_ms=int(self._deadline_s * 1000),
            retry_backoff_ms=100,
            partitioner=partition_of,
        )
        await self._producer.start()

    async def stop(self) -> None:
        if self._producer is not None:
            await stop_producer(self._producer)

    async def answers(self) -> bool:
        """Whether a broker gives its metadata now."""
        return bool(await self._producer.client.force_metadata_update())

    async def publish(self, *events: Event, traceparent: str | None = None) -> None:
        """Returns when every event is acknowledged; raises NotAcknowledged when one is not."""
        if len(events) == 1:
            (record,) = self._records(events, traceparent)
            await self._send_one(*record)
            return
        for failure in await self.publish_each(events, traceparent):
            if failure is not None:
                raise failure

    async def publish_each(
        self, events: Sequence[Event], traceparent: str | None = None
    ) -> list[NotAcknowledged | None]:
        """Publishes all and tells for each, in order, whether it was acknowledged (None) or not.

        Events of one key come onto the bus in the order given.
        """
        return await self.acknowledged(await self._hand_over(events, traceparent))

    async def hand_over(self, events: Sequence[Event], traceparent: str | None = None) -> Handed:
        """Gives events to the producer: what is handed over after them comes onto the bus after them."""
        return await self._hand_over(events, traceparent)

    async def acknowledged(self, handed: Handed) -> list[NotAcknowledged | None]:
        """Waits for what was handed over; tells for each, in order, whether it was acknowledged (None)."""
        results: list[NotAcknowledged | None] = [NotAcknowledged(handed.refused)] * len(handed.topics)
        if handed.waiting:
            # wait, not gather: giving up must not cancel what the producer still sends
            await asyncio.wait([future for _, future in handed.waiting], timeout=self._deadline_s)
        for numbers, future in handed.waiting:
            told = verdict(future)
            for number in numbers:
                results[number] = told
        for (topic, failed), count in Counter(
            (topic, result is not None) for topic, result in zip(handed.topics, results, strict=True)
        ).items():
            (metrics.NOT_ACKNOWLEDGED if failed else metrics.PUBLISHED).labels(topic).inc(count)
        return results

    async def publish_raw(
        self, topic: str, key: bytes | None, value: bytes | None, headers: list[Header]
    ) -> None:
        """Publishes bytes as they are, such as a dead letter; raises NotAcknowledged."""
        await self._send_one(topic, key, value, headers)

    def _records(self, events: Sequence[Event], traceparent: str | None) -> list[Record]:
        """What is the same for all of them, their time and trace, is made once."""
        common: list[Header] = [("ce_time", self._clock.now().isoformat().encode())]
        if trace := traceparent or current_traceparent():
            common.append(("traceparent", trace.encode()))
        return [
            (
                event.TOPIC,
                key(event).encode(),
                self._codec.encode(event),
                [("ce_id", event_id_text(event).encode()), *self._constant[event.TOPIC], *common],
            )
            for event in events
        ]

    async def _send_one(
        self, topic: str, record_key: bytes | None, value: bytes | None, headers: list[Header]
    ) -> None:
        """The same for one record, at half the cost: a lane tells outcomes one by one."""
        future: asyncio.Future[object] | None = None
        try:
            async with asyncio.timeout(self._deadline_s):
                future = await self._producer.send(topic, value, record_key, headers=headers)
                await asyncio.shield(future)
        except (KafkaError, TimeoutError) as error:
            metrics.NOT_ACKNOWLEDGED.labels(topic).inc()
            failure = verdict(future) if future is not None else None
            raise failure or NotAcknowledged(f"{type(error).__name__}: not sent") from None
        published(topic).inc()

    async def _hand_over(self, events: Sequence[Event], traceparent: str | None) -> Handed:
        records = self._records(events, traceparent)
        handed = Handed([topic for topic, *_ in records])
        hand = self._hand_together if len(records) >= TOGETHER else self._hand_each
        try:
            async with asyncio.timeout(self._deadline_s):
                await hand(records, handed)
        except (KafkaError, TimeoutError) as error:
            handed.refused = f"{type(error).__name__}: not sent"
        return handed

    async def _hand_each(self, records: Sequence[Record], handed: Handed) -> None:
        for number, (topic, record_key, value, headers) in enumerate(records):
            future = await self._producer.send(topic, value, record_key, headers=headers)
            handed.waiting.append(((number,), future))

    async def _hand_together(self, records: Sequence[Record], handed: Handed) -> None:
        """The same for many: one future a batch instead of one a record."""

        async def hand_part(topic: str, partition: int, numbers: Sequence[int]) -> None:
            for batch, held in self._batches(records, numbers):
                future = await self._producer.send_batch(batch, topic, partition=partition)
                handed.waiting.append((held, future))

        parts = await self._parts(records)
        handing = [hand_part(*place, numbers) for place, numbers in parts.items()]
        for error in await asyncio.gather(*handing, return_exceptions=True):
            if isinstance(error, BaseException):
                raise error

    async def _parts(self, records: Sequence[Record]) -> dict[tuple[str, int], list[int]]:
        """The numbers of the records of each topic and partition, in order."""
        counts = {
            topic: len(await self._producer.partitions_for(topic))
            for topic in {topic for topic, *_ in records}
        }
        parts: defaultdict[tuple[str, int], list[int]] = defaultdict(list)
        for number, (topic, record_key, *_) in enumerate(records):
            parts[topic, place_of(record_key, counts[topic])].append(number)
        return parts

    def _batches(
        self, records: Sequence[Record], numbers: Sequence[int]
    ) -> Iterator[tuple[BatchBuilder, list[int]]]:
        """Batches of the records so numbered, and the numbers of those in each; a full one begins another."""
        batch: BatchBuilder = self._producer.create_batch()
        held: list[int] = []
        for number in numbers:
            _, record_key, value, headers = records[number]
            while batch.append(timestamp=None, key=record_key, value=value, headers=headers) is None:
                yield batch, held
                batch, held = self._producer.create_batch(), []
            held.append(number)
        batch.close()
        yield batch, held

    def _of_topic(self, topic: str) -> list[Header]:
        return [
            ("ce_specversion", b"1.0"),
            ("ce_source", self._source),
            ("ce_type", topic.encode()),
            ("content-type", b"application/avro"),
        ]


@lru_cache(maxsize=256)
def published(topic: str) -> prometheus_client.Counter:
    """The topic's own counter: looking it up by label costs more than counting."""
    return metrics.PUBLISHED.labels(topic)


def verdict(future: asyncio.Future[object]) -> NotAcknowledged | None:
    if not future.done():
        future.add_done_callback(lambda late: late.cancelled() or late.exception())
        return NotAcknowledged("no acknowledgement within the deadline")
    if future.cancelled():
        return NotAcknowledged("the producer was closed")
    error = future.exception()
    return NotAcknowledged(f"{type(error).__name__}") if error is not None else None
