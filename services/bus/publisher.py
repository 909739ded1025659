"""Events onto the bus: answered only when all in-sync replicas have them."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder
from prometheus_client import Counter

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
        records = self._records(events, traceparent)
        return await (self._send_together(records) if len(records) >= TOGETHER else self._send(records))

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
        """The same as `_send` for one record, at half the cost: a lane tells outcomes one by one."""
        sending = self._producer.send(topic, value, record_key, headers=headers)
        if (failure := await self._acknowledged(topic, 1, sending)) is not None:
            raise failure

    async def _acknowledged(
        self, topic: str, count: int, sending: Awaitable[asyncio.Future[object]]
    ) -> NotAcknowledged | None:
        """Waits for `count` records that are sent, and acknowledged or not, as one."""
        future: asyncio.Future[object] | None = None
        try:
            async with asyncio.timeout(self._deadline_s):
                future = await sending
                await asyncio.shield(future)  # giving up must not cancel what the producer still sends
        except (KafkaError, TimeoutError) as error:
            metrics.NOT_ACKNOWLEDGED.labels(topic).inc(count)
            failure = verdict(future) if future is not None else None
            return failure or NotAcknowledged(f"{type(error).__name__}: not sent")
        published(topic).inc(count)
        return None

    async def _send(self, records: Sequence[Record]) -> list[NotAcknowledged | None]:
        results: list[NotAcknowledged | None] = [NotAcknowledged("not sent")] * len(records)
        waiting: list[tuple[int, asyncio.Future[object]]] = []
        try:
            async with asyncio.timeout(self._deadline_s):
                for number, (topic, record_key, value, headers) in enumerate(records):
                    future = await self._producer.send(topic, value, record_key, headers=headers)
                    waiting.append((number, future))
        except (KafkaError, TimeoutError) as error:
            results = [NotAcknowledged(f"{type(error).__name__}: not sent")] * len(records)
        if waiting:
            # wait, not gather: giving up must not cancel what the producer still sends
            await asyncio.wait([future for _, future in waiting], timeout=self._deadline_s)
        for number, future in waiting:
            results[number] = verdict(future)
        for (topic, *_), result in zip(records, results, strict=True):
            (metrics.PUBLISHED if result is None else metrics.NOT_ACKNOWLEDGED).labels(topic).inc()
        return results

    async def _send_together(self, records: Sequence[Record]) -> list[NotAcknowledged | None]:
        """The same for many: one future a partition instead of one a record."""
        results: list[NotAcknowledged | None] = [None] * len(records)

        async def send_part(topic: str, partition: int, numbers: Sequence[int]) -> None:
            for batch, held in self._batches(records, numbers):
                sending = self._producer.send_batch(batch, topic, partition=partition)
                failure = await self._acknowledged(topic, len(held), sending)
                for number in held:
                    results[number] = failure

        try:
            parts = await self._parts(records)
        except (KafkaError, TimeoutError) as error:
            for topic, *_ in records:
                metrics.NOT_ACKNOWLEDGED.labels(topic).inc()
            return [NotAcknowledged(f"{type(error).__name__}: not sent")] * len(records)
        await asyncio.gather(*(send_part(*place, numbers) for place, numbers in parts.items()))
        return results

    async def _parts(self, records: Sequence[Record]) -> dict[tuple[str, int], list[int]]:
        """The numbers of the records of each topic and partition, in order."""
        async with asyncio.timeout(self._deadline_s):
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
def published(topic: str) -> Counter:
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
