"""Puts events on topics, as our own services do."""

from __future__ import annotations

import asyncio

from deploy.local import Stack
from deploy.local.processes import ROOT
from services.bus.catalog import load_catalog
from services.bus.clock import Clock
from services.bus.codec import Codec
from services.bus.publisher import Publisher
from services.bus.registry import Registry
from services.events import BY_TOPIC, Event
from tests.contract.examples import Example, typed

CATALOG = load_catalog(ROOT / "schemas")


class Writer:
    """Writes events to `stack` with the codec and the publisher of our services."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    def publish(self, *events: Event) -> None:
        asyncio.run(self._publish(events))

    def encode(self, *events: Event) -> list[bytes]:
        """The values that would be published."""
        return asyncio.run(self._encode(events))

    async def _publish(self, events: tuple[Event, ...]) -> None:
        codec = await self._codec()
        publisher = Publisher(self.stack.bootstrap, "billbus/test", codec, Clock())
        await publisher.start()
        try:
            await publisher.publish(*events)
        finally:
            await publisher.stop()
            codec.close()

    async def _encode(self, events: tuple[Event, ...]) -> list[bytes]:
        codec = await self._codec()
        try:
            return [codec.encode(event) for event in events]
        finally:
            codec.close()

    async def _codec(self) -> Codec:
        codec = Codec({name: topic.schema for name, topic in CATALOG.items()}, Registry(self.stack.registry))
        await codec.start()
        return codec


def event_of(example: Example) -> Event:
    return BY_TOPIC[example.topic].from_record(typed(CATALOG[example.topic].schema, example.value))
