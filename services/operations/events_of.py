"""The events of a stretch of a topic, decoded: those whose keys are wanted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from services.bus.codec import Codec, Undecodable
from services.events import Event
from services.operations.topic_reader import TopicReader


async def events_of(
    reader: TopicReader,
    codec: Codec,
    wanted: Callable[[bytes], bool],
    told: Callable[[int], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
) -> AsyncIterator[tuple[Any, Event | None]]:
    """Each record (confluent_kafka.Message) and its event, None where it forgets its key.

    Starts where `reader.read` did and ends at its end, or once `stopped`; what nobody can read is passed
    over. `told` hears how many records were read since it last heard.

    Raises RegistryAway, KafkaException and Unreachable.
    """
    while not (reader.finished or stopped()):
        records = await asyncio.to_thread(reader.fetch)
        for record in records:
            if not wanted(record.key() or b""):
                continue  # decoding it would cost more than reading it
            if record.value() is None:
                yield record, None
                continue
            try:
                event = await codec.decode(reader.topic, record.value())
            except Undecodable:
                continue
            yield record, event
        told(len(records))
