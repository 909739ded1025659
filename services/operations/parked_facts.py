"""The facts that parked outcomes are about, read back from where they stand on the live topic."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from services.bus.clock import Clock
from services.bus.groups import edge_offsets
from services.bus.place import Place, Unreachable
from services.bus.rights import READER_GROUP

Coordinates = tuple[str, int, int]
"""Topic, partition, offset."""
LIMIT_S, FETCH_S = 30.0, 0.2
AHEAD_BYTES = 64 * 1024
"""One record is wanted of a place, not what follows; a larger one still comes whole."""


class FactReader:
    """Reads single records; use it in `with`. Raises Unreachable where the broker gives nothing."""

    def __init__(self, place: Place, clock: Clock) -> None:
        self._place = place
        self._clock = clock
        self._consumer = Consumer(
            {
                **place.client,
                "group.id": READER_GROUP,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "error",
                "queued.max.messages.kbytes": 1024,
                "fetch.message.max.bytes": AHEAD_BYTES,
                "fetch.wait.max.ms": 50,
            }
        )

    def __enter__(self) -> FactReader:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def read(self, wanted: Iterable[Coordinates]) -> Iterator[tuple[Coordinates, Any]]:
        """Each with its record, None where the log no longer has it; a few partitions at a time."""
        lines: defaultdict[tuple[str, int], deque[int]] = defaultdict(deque)
        for topic, partition, offset in sorted(set(wanted)):
            lines[topic, partition].append(offset)
        kept = self._kept(list(lines))
        while lines:
            asked: dict[tuple[str, int], int] = {}
            for place in list(lines):
                offset = lines[place].popleft()
                if not lines[place]:
                    del lines[place]
                first, end = kept[place]
                if first <= offset < end:
                    asked[place] = offset
                else:
                    yield (*place, offset), None
            yield from self._one_each(asked)

    def _kept(self, places: list[tuple[str, int]]) -> dict[tuple[str, int], tuple[int, int]]:
        wanted = [TopicPartition(topic, partition) for topic, partition in places]
        if not wanted:
            return {}
        firsts = edge_offsets(self._place.admin, wanted, OffsetSpec.earliest())
        ends = edge_offsets(self._place.admin, wanted, OffsetSpec.latest())
        return {(p.topic, p.partition): (firsts[p], ends[p]) for p in wanted}

    def _one_each(self, asked: dict[tuple[str, int], int]) -> Iterator[tuple[Coordinates, Any]]:
        """The first record of each place; another offset than asked for means that this one is gone."""
        if not asked:
            return
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in asked.items()])
        heard = self._clock.monotonic()
        while asked:
            record = self._consumer.poll(FETCH_S)
            if record is None:
                if self._clock.monotonic() - heard > LIMIT_S:
                    raise Unreachable(f"Kafka gave no record for {LIMIT_S:g} s")
                continue
            if (error := record.error()) is not None:
                if error.code() == KafkaError._PARTITION_EOF:
                    continue
                raise KafkaException(error)
            offset = asked.pop((record.topic(), record.partition()), None)
            if offset is not None:
                heard = self._clock.monotonic()
                found = record if record.offset() == offset else None
                yield (record.topic(), record.partition(), offset), found
