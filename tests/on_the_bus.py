"""What a test puts onto the bus and reads off it, as the services do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

from aiokafka import AIOKafkaConsumer

from deploy.local.processes import ROOT
from services.bus.catalog import load_catalog
from services.bus.clock import Clock
from services.bus.codec import Codec
from services.bus.connection import Brokers, aiokafka_client
from services.bus.publisher import Publisher
from services.bus.registry import Registry
from services.bus.views import whole
from services.events import Event

E = TypeVar("E", bound=Event)


class Parts(Protocol):
    """Where the broker and the registry are."""

    @property
    def bootstrap(self) -> Brokers: ...
    @property
    def registry(self) -> str: ...


def publish(stack: Parts, *events: Event) -> None:
    """Puts events on their topics; returns when they are acknowledged."""
    asyncio.run(_publish(stack, events))


def encode(stack: Parts, *events: Event) -> list[bytes]:
    """The values that `publish` would write."""
    return asyncio.run(_encode(stack, events))


def read(stack: Parts, kind: type[E]) -> list[E]:
    """Every event of a kind that is on its topic now, partition by partition in order."""
    return asyncio.run(_read(stack, kind))


@contextmanager
def _codec(stack: Parts) -> Iterator[Codec]:
    registry = Registry(stack.registry)
    try:
        yield Codec({name: topic.schema for name, topic in load_catalog(ROOT / "schemas").items()}, registry)
    finally:
        registry.close()


async def _publish(stack: Parts, events: tuple[Event, ...]) -> None:
    with _codec(stack) as codec:
        await codec.start()
        publisher = Publisher(stack.bootstrap, "billbus/test", codec, Clock())
        await publisher.start()
        try:
            await publisher.publish(*events)
        finally:
            await publisher.stop()


async def _encode(stack: Parts, events: tuple[Event, ...]) -> list[bytes]:
    with _codec(stack) as codec:
        await codec.start()
        return [codec.encode(event) for event in events]


async def _read(stack: Parts, kind: type[E]) -> list[E]:
    consumer = AIOKafkaConsumer(**aiokafka_client(stack.bootstrap), enable_auto_commit=False)
    await consumer.start()
    try:
        with _codec(stack) as codec:
            return await _from_the_beginning(consumer, codec, kind)
    finally:
        await consumer.stop()


async def _from_the_beginning(consumer: AIOKafkaConsumer, codec: Codec, kind: type[E]) -> list[E]:
    found: list[E] = []
    partitions = await whole(consumer, kind.TOPIC)
    consumer.assign(partitions)
    await consumer.seek_to_beginning(*partitions)
    ends = await consumer.end_offsets(partitions)
    while any([await consumer.position(partition) < end for partition, end in ends.items()]):
        for records in (await consumer.getmany(timeout_ms=200)).values():
            for record in records:
                event = await codec.decode(kind.TOPIC, record.value) if record.value else None
                if isinstance(event, kind):
                    found.append(event)
    return found
