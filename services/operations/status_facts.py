"""What the bus itself says of each biller: what is paused, and which batch was closed last."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from services.bus.catalog import Topic
from services.bus.clock import Clock
from services.bus.codec import Codec, Undecodable
from services.bus.connection import kafka_of
from services.bus.pauses import Pauses
from services.bus.place import Place, Unreachable
from services.bus.registry import Registry, RegistryAway
from services.bus.settings import Settings
from services.events import BatchClosed, PauseCurrent
from services.operations.pausing import PausesTopic
from services.operations.topic_reader import TopicReader

LOOKED_BACK = timedelta(days=4)
"""How far back batches are looked for: a biller closes one every day."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """`batches` has each biller's newest of the last LOOKED_BACK."""

    pauses: Pauses
    batches: Mapping[str, BatchClosed]


async def read_facts(settings: Settings, catalog: Mapping[str, Topic], clock: Clock) -> Facts:
    """Raises Unreachable, KafkaException, and ConfigurationError where the broker lacks a topic."""
    names = (PauseCurrent.TOPIC, BatchClosed.TOPIC)
    registry = Registry(settings.registry)
    codec = Codec({name: catalog[name].schema for name in names}, registry)
    try:
        with Place(kafka_of(settings), settings.registry) as place:
            topic = PausesTopic(place, codec, clock)
            (pauses, _), batches = await asyncio.gather(topic.read(), _batches(place, codec, clock))
    except RegistryAway as error:
        raise Unreachable(f"The schema registry does not answer: {error}") from None
    finally:
        registry.close()
    return Facts(pauses=pauses, batches=batches)


async def _batches(place: Place, codec: Codec, clock: Clock) -> dict[str, BatchClosed]:
    newest: dict[str, BatchClosed] = {}
    with await asyncio.to_thread(TopicReader, place, BatchClosed.TOPIC, clock) as reader:
        ends = await asyncio.to_thread(reader.ends)
        starts = await asyncio.to_thread(reader.offsets_at, clock.now() - LOOKED_BACK, ends)
        reader.read(starts, ends)
        while not reader.finished:
            for record in await asyncio.to_thread(reader.fetch):
                closed = await _decoded(codec, record.value())
                known = newest.get(closed.biller) if closed else None
                if closed and (known is None or closed.batch_day >= known.batch_day):
                    newest[closed.biller] = closed
    return newest


async def _decoded(codec: Codec, value: bytes | None) -> BatchClosed | None:
    try:
        event = await codec.decode(BatchClosed.TOPIC, value) if value is not None else None
    except Undecodable:
        return None  # `tail` shows it
    return event if isinstance(event, BatchClosed) else None
