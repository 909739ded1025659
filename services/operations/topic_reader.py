"""The records of a topic from one instant to another, read without a group: nothing is committed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec

from services.bus.clock import Clock
from services.bus.groups import edge_offsets
from services.bus.place import Place, Unreachable
from services.bus.rights import READER_GROUP
from services.bus.settings import ConfigurationError

AT_ONCE = 500
FETCH_S = 0.2
BROKER_WAIT_MS = 50
"""How long the broker may hold back an answer; the next partition's first records wait behind it."""
LIMIT_S = 30.0
BUFFER_KIB = 8192
"""What the client fetches ahead, for all partitions together."""
BACKOFF_MS = 10
"""How long a partition whose records fill that is left alone; the client's own second would be most of the
time of a long read."""
RESPONSE_BYTES = 4 * 1024 * 1024

Offsets = Mapping[int, int]
"""By partition."""


class TopicReader:
    """Reads partitions of one topic; use it in `with`.

    Args:
        topic: its full name.
        clock: says when a broker that gives nothing is taken for away.

    Raises Unreachable where the broker does not answer, ConfigurationError where it has no such topic.
    """

    def __init__(self, place: Place, topic: str, clock: Clock) -> None:
        partitions = place.topics().get(topic)
        if partitions is None:
            raise ConfigurationError([f"{topic} is not on the broker; run: billbus topics apply --yes"])
        self.topic = topic
        self._place = place
        self._clock = clock
        self._partitions = range(partitions)
        self._until: dict[int, int] | None = None
        self._next: dict[int, int] = {}
        self._heard = 0.0
        self._consumer = Consumer(
            {
                **place.client,
                "group.id": READER_GROUP,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
                "queued.max.messages.kbytes": BUFFER_KIB,
                "fetch.queue.backoff.ms": BACKOFF_MS,
                "fetch.max.bytes": RESPONSE_BYTES,
                "fetch.wait.max.ms": BROKER_WAIT_MS,
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def ends(self) -> dict[int, int]:
        """The offset that the next record of each partition will have."""
        wanted = [TopicPartition(self.topic, partition) for partition in self._partitions]
        found = edge_offsets(self._place.admin, wanted, OffsetSpec.latest())
        return {partition.partition: offset for partition, offset in found.items()}

    def offsets_at(self, instant: datetime, ends: Offsets) -> dict[int, int]:
        """The first record that the broker took at the instant or later; `ends` (asked before) where none."""
        at = round(instant.timestamp() * 1000)
        asked = [TopicPartition(self.topic, partition, at) for partition in self._partitions]
        found = self._consumer.offsets_for_times(asked, timeout=LIMIT_S)
        return {p.partition: p.offset if p.offset >= 0 else ends[p.partition] for p in found}

    def read(self, starts: Offsets, until: Offsets | None = None) -> None:
        """Begins at these offsets; `until` (the first ones not read) makes it come to an end."""
        if until is not None:
            self._until = {p: end for p, end in until.items() if p in starts and starts[p] < end}
            starts = {partition: starts[partition] for partition in self._until}
            self._next = dict(starts)
        self._heard = self._clock.monotonic()
        self._consumer.assign([TopicPartition(self.topic, p, offset) for p, offset in starts.items()])

    @property
    def finished(self) -> bool:
        """Whether everything before `until` was fetched."""
        return self._until is not None and not self._until

    def fetch(self) -> list[Any]:
        """The next records, each partition's in order; none after FETCH_S seconds without any.

        Raises KafkaException, and Unreachable where an end is to be reached and the broker gives nothing.
        """
        given = self._consumer.consume(self._at_once(), timeout=FETCH_S)
        if given:
            self._heard = self._clock.monotonic()
        elif self._until and self._clock.monotonic() - self._heard > LIMIT_S:
            raise Unreachable(f"Kafka gave nothing of {self.topic} for {LIMIT_S:g} s")
        return [record for record in given if self._wanted(record)]

    def _at_once(self) -> int:
        """No more than can be left: the client waits for as many as it is asked for."""
        if self._until is None:
            return AT_ONCE
        return max(1, min(AT_ONCE, sum(end - self._next[p] for p, end in self._until.items())))

    def _wanted(self, record: Any) -> bool:
        """Whether it is a record before the end; closes the partition that has reached its end."""
        error = record.error()
        if error is not None and error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
        if self._until is None:
            return error is None
        end = self._until.get(record.partition())
        if end is None:
            return False
        # a topic's last offsets may hold no record: then the partition's end says that all were fetched
        self._next[record.partition()] = record.offset() + (error is None)
        if self._next[record.partition()] >= end:
            del self._until[record.partition()]
            self._consumer.incremental_unassign([TopicPartition(self.topic, record.partition())])
        return error is None and record.offset() < end
