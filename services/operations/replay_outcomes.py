"""Outcome topics read for what they say of records: only the fields that it takes, as fast as it goes."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, cast

from fastavro import parse_schema, schemaless_reader

from services.bus.catalog import Topic
from services.bus.clock import Clock
from services.bus.codec import HEADER
from services.bus.place import Place
from services.events import BY_TOPIC, Event
from services.operations.topic_reader import TopicReader

Stopped = Callable[[], bool]
Told = Callable[[int, int], None]
"""Told how many records are done, and of how many."""


class Interrupted(Exception):
    """The operator has ended it; what was done stays done."""


class Ended(NamedTuple):
    """How the delivery of a record ended."""

    biller: str
    natural_id: str
    content: str
    state: str
    attempt: int
    looked_up: bool
    origin_topic: str
    origin_partition: int
    origin_offset: int


class Decoder:
    """Values of one topic as dictionaries of the fields named, or as whole events."""

    def __init__(self, place: Place, topic: Topic, fields: tuple[str, ...] = ()) -> None:
        self._place = place
        self._topic = topic
        wanted = [field for field in topic.schema["fields"] if not fields or field["name"] in fields]
        self._ours = parse_schema(topic.schema | {"fields": wanted})
        self._writers: dict[int, Any] = {}

    def record(self, value: bytes | None) -> dict[str, Any] | None:
        """The fields; None for bytes that are no event of the topic. Raises Unreachable."""
        if value is None or len(value) < HEADER.size or value[0] != 0:
            return None
        number = HEADER.unpack_from(value)[1]
        writer = self._writers.get(number)
        if writer is None:
            writer = self._writers[number] = self._learn(number)
        try:
            return cast(
                "dict[str, Any]", schemaless_reader(io.BytesIO(value[HEADER.size :]), writer, self._ours)
            )
        except Exception:  # whatever the reader fails with, the bytes are not what they claim
            return None

    def event(self, value: bytes | None) -> Event | None:
        """The whole event; None for bytes that are none. Raises Unreachable."""
        record = self.record(value)
        try:
            return None if record is None else BY_TOPIC[self._topic.name].from_record(record)
        except Exception:  # as above
            return None

    def _learn(self, number: int) -> Any:
        found = self._place.ask_registry(self._place.registry.get_schema, number)
        return None if found is None else parse_schema(json.loads(found.schema_str))


class Outcomes:
    """The outcome topic of a lane, from some offsets on; use it in `with`."""

    def __init__(self, place: Place, topic: Topic, clock: Clock) -> None:
        self.topic = topic
        self.reader = TopicReader(place, topic.name, clock)
        self._decoder = Decoder(place, topic, Ended._fields)

    def __enter__(self) -> Outcomes:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.__exit__()

    def between(
        self, starts: Mapping[int, int], until: Mapping[int, int], told: Told, stopped: Stopped
    ) -> Iterator[Ended]:
        """All outcomes of a stretch; raises Interrupted, Unreachable and KafkaException."""
        done, size = 0, sum(max(until[p] - starts[p], 0) for p in starts)
        self.reader.read(starts, until)
        while not self.reader.finished:
            if stopped():
                raise Interrupted
            given = self.reader.fetch()
            done += len(given)
            told(done, size)
            yield from self._ended(given)

    def follow(self, starts: Mapping[int, int]) -> Callable[[], list[Ended]]:
        """Begins there, and gives a function that tells what has come since."""
        self.reader.read(starts)
        return lambda: list(self._ended(self.reader.fetch()))

    def _ended(self, records: list[Any]) -> Iterator[Ended]:
        for record in records:
            fields = self._decoder.record(record.value())
            if fields is not None:  # what no service can have written says nothing of any record
                yield Ended(**fields)
