"""A view that is whole in every replica: a topic read from its beginning, without a group."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from services.bus import metrics
from services.bus.closing import start_consumer, stop_consumer
from services.bus.codec import Codec, Undecodable
from services.bus.connection import Brokers, aiokafka_client
from services.bus.registry import RegistryAway
from services.events import Event

log = structlog.get_logger()
E = TypeVar("E", bound=Event)


class View(Generic[E]):
    """What a service keeps of one topic.

    Args:
        reads: the event of that topic.
        apply: takes each event, in order within a key; must not fail.

    `ready` turns true once everything that was there at the start has been read.
    """

    def __init__(self, reads: type[E], apply: Callable[[E], None]) -> None:
        self.reads = reads
        self.apply = apply
        self.ready = False


async def follow(view: View[E], bootstrap: Brokers, codec: Codec) -> None:
    """Feeds a view until cancelled; LookupError when its topic is missing."""
    topic = view.reads.TOPIC
    consumer = AIOKafkaConsumer(
        **aiokafka_client(bootstrap),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
    )
    await start_consumer(consumer)
    try:
        partitions = await whole(consumer, topic)
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        missing = {p: end for p, end in (await consumer.end_offsets(partitions)).items() if end > 0}
        while True:
            for partition in [p for p, end in missing.items() if await consumer.position(p) >= end]:
                del missing[partition]
            if not missing and not view.ready:
                view.ready = True
                metrics.VIEW_READY.labels(topic).set(1)
            batches = await consumer.getmany(timeout_ms=100, max_records=5000)
            for records in batches.values():
                for record in records:
                    await take(view, codec, record.value, record.offset)
                await asyncio.sleep(0)
    finally:
        await stop_consumer(consumer)


async def take(view: View[E], codec: Codec, value: bytes | None, offset: int) -> None:
    """Applies one record; a tombstone is passed over, and what nobody can decode is named and passed over."""
    topic = view.reads.TOPIC
    metrics.VIEW_RECORDS.labels(topic).inc()
    while value is not None:
        try:
            event = await codec.decode(topic, value)
        except Undecodable as error:
            log.error("view_record_undecodable", topic=topic, offset=offset, reason=str(error))
            return
        except RegistryAway:
            await asyncio.sleep(1.0)
            continue
        if isinstance(event, view.reads):
            view.apply(event)
        return


async def whole(consumer: AIOKafkaConsumer, topic: str) -> list[TopicPartition]:
    """All partitions of a topic; LookupError when the broker does not have it."""
    try:
        # the public call answers from metadata that may not know the topic yet
        await consumer._client.set_topics([topic])
    except KafkaError as error:
        raise LookupError(f"topic {topic}: {type(error).__name__}") from error
    numbers = consumer.partitions_for_topic(topic) or set()
    if not numbers:
        raise LookupError(f"topic {topic} is missing; run `billbus topics apply`")
    return [TopicPartition(topic, number) for number in sorted(numbers)]
