"""Events onto the bus: answered only when all in-sync replicas have them."""

import asyncio
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner
from prometheus_client import Counter

from services.bus import metrics
from services.bus.clock import Clock
from services.bus.closing import stop_producer
from services.bus.codec import Codec
from services.bus.identity import event_id_text, key
from services.bus.trace import current_traceparent
from services.events import BY_TOPIC, Event

Header = tuple[str, bytes]
Record = tuple[str, bytes | None, bytes | None, list[Header]]
"""Topic, key, value, headers."""
PLACES_KEPT = 65_536
"""Keys whose partition is remembered: hashing one in Python costs as much as encoding half an event."""


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
        self, bootstrap: str, source: str, codec: Codec, clock: Clock, deadline_s: float = 10
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
            bootstrap_servers=self._bootstrap,
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
            await self._send_one(*self._record(events[0], traceparent))
            return
        for failure in await self.publish_each(events, traceparent):
            if failure is not None:
                raise failure

    async def publish_each(
        self, events: Sequence[Event], traceparent: str | None = None
    ) -> list[NotAcknowledged | None]:
        """Publishes all and tells for each, in order, whether it was acknowledged (None) or not."""
        return await self._send([self._record(event, traceparent) for event in events])

    async def publish_raw(
        self, topic: str, key: bytes | None, value: bytes | None, headers: list[Header]
    ) -> None:
        """Publishes bytes as they are, such as a dead letter; raises NotAcknowledged."""
        await self._send_one(topic, key, value, headers)

    def _record(self, event: Event, traceparent: str | None) -> Record:
        return event.TOPIC, key(event).encode(), self._codec.encode(event), self._headers(event, traceparent)

    async def _send_one(
        self, topic: str, record_key: bytes | None, value: bytes | None, headers: list[Header]
    ) -> None:
        """The same as `_send` for one record, at half the cost: a lane tells outcomes one by one."""
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

    def _of_topic(self, topic: str) -> list[Header]:
        return [
            ("ce_specversion", b"1.0"),
            ("ce_source", self._source),
            ("ce_type", topic.encode()),
            ("content-type", b"application/avro"),
        ]

    def _headers(self, event: Event, traceparent: str | None) -> list[Header]:
        headers = [
            *self._constant[event.TOPIC],
            ("ce_id", event_id_text(event).encode()),
            ("ce_time", self._clock.now().isoformat().encode()),
        ]
        if trace := traceparent or current_traceparent():
            headers.append(("traceparent", trace.encode()))
        return headers


@lru_cache(maxsize=256)
def published(topic: str) -> Counter:
    """The topic's own counter: looking it up by label costs more than counting."""
    return metrics.PUBLISHED.labels(topic)


def partition_of(key: bytes | None, partitions: list[int], available: list[int]) -> int:
    """The partition of a key among all `partitions`, as every Kafka client chooses it (murmur2)."""
    if key is None:
        return int(DefaultPartitioner()(None, partitions, available))
    return partitions[_place(key, len(partitions))]


@lru_cache(maxsize=PLACES_KEPT)
def _place(key: bytes, count: int) -> int:
    numbers = list(range(count))
    return int(DefaultPartitioner()(key, numbers, numbers))


def verdict(future: asyncio.Future[object]) -> NotAcknowledged | None:
    if not future.done():
        future.add_done_callback(lambda late: late.cancelled() or late.exception())
        return NotAcknowledged("no acknowledgement within the deadline")
    if future.cancelled():
        return NotAcknowledged("the producer was closed")
    error = future.exception()
    return NotAcknowledged(f"{type(error).__name__}") if error is not None else None
