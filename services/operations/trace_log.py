"""What a trace reads of the log: stretches of time, a key's partition or all, decoded where found."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import aiokafka
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec

from services.bus.catalog import DLQ, REPLAY, Topic
from services.bus.clock import Clock
from services.bus.codec import Codec, Undecodable
from services.bus.connection import Brokers, aiokafka_client, kafka_of
from services.bus.groups import edge_offsets
from services.bus.partitioning import place_of
from services.bus.place import Place, Unreachable
from services.bus.registry import Registry, RegistryAway
from services.bus.settings import Settings
from services.bus.trace import parse
from services.events import Event
from services.operations.day import Window
from services.operations.trace_scan import Hit, Scan, Stretch, Told

ANSWER_MS = 10_000
EVERY = ("",)
"""As needles: each record has them."""


@dataclass(frozen=True, slots=True)
class Part:
    """A topic, in the partition of `key` or in all, within `window` or from its beginning."""

    topic: str
    window: Window | None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """A record that was found; `event` is None where it cannot be read, or forgets a key."""

    hit: Hit
    event: Event | None
    unreadable: str | None = None

    @property
    def key(self) -> str:
        return self.hit.key.decode(errors="replace")

    @property
    def at(self) -> datetime:
        return datetime.fromtimestamp(self.hit.timestamp / 1000, UTC)

    @property
    def live_topic(self) -> str:
        """The topic without `.replay` and `.dlq`."""
        return self.hit.topic.removesuffix(REPLAY).removesuffix(DLQ)

    @property
    def replayed(self) -> bool:
        return self.hit.topic.endswith(REPLAY)

    @property
    def dead(self) -> bool:
        return self.hit.topic.endswith(DLQ)

    @property
    def headers(self) -> dict[str, str]:
        return {name: text.decode(errors="replace") for name, text in self.hit.headers}

    @property
    def trace_id(self) -> str:
        """The trace it belongs to; '' where none is told."""
        found = parse(dict(self.hit.headers).get("traceparent"))
        return found.trace_id if found else ""


class Log:
    """The topics of a broker, searched and decoded; `open_log` makes one."""

    def __init__(
        self, brokers: Brokers, place: Place, scan: Scan, codec: Codec, catalog: Mapping[str, Topic]
    ) -> None:
        self._brokers = brokers
        self.place = place
        self.scan = scan
        self.catalog = catalog
        self._codec = codec
        self._there = place.topics()

    def beside(self, topic: Topic) -> Iterator[str]:
        """A topic with its `.replay` and `.dlq`, as far as the broker has them."""
        for suffix, wanted in (("", True), (REPLAY, topic.replay), (DLQ, topic.dlq)):
            if wanted and topic.name + suffix in self._there:
                yield topic.name + suffix

    async def find(
        self, parts: Iterable[Part], needles: Collection[str], told: Told | None = None
    ) -> AsyncIterator[Seen]:
        """The records that hold one of the needles somewhere. Raises Unreachable, KafkaException."""
        stretches = await asyncio.to_thread(self._stretches, [p for p in parts if p.topic in self._there])
        raw = {needle.encode() for needle in needles if needle or needles is EVERY}
        if not raw:
            return
        async for hit in self.scan.find(stretches, raw, told):
            yield await self._seen(hit)

    async def committed(self, group: str, topic: str, partition: int) -> tuple[int, str]:
        """A group's offset, -1 where it has none, and the metadata beside it. Raises Unreachable."""
        # not by librdkafka: it gives the metadata together with whatever follows it in memory
        admin = AIOKafkaAdminClient(**aiokafka_client(self._brokers), request_timeout_ms=ANSWER_MS)
        place = aiokafka.TopicPartition(topic, partition)
        try:
            await admin.start()
            found = (await admin.list_consumer_group_offsets(group, partitions=[place]))[place]
        except KafkaError as error:
            raise Unreachable(f"Kafka does not say where {group} stands: {type(error).__name__}") from None
        finally:
            await admin.close()
        return found.offset, found.metadata or ""

    async def at(self, topic: str, partition: int, offset: int) -> Hit | None:
        """One record; None where the log has none there."""
        found = [hit async for hit in self.scan.find([Stretch(topic, partition, offset, offset + 1)], [b""])]
        return found[0] if found else None

    def partition(self, topic: str, key: str) -> int:
        """The partition of a key."""
        return place_of(key.encode(), self._there[topic])

    def ends(self, places: Collection[TopicPartition]) -> dict[TopicPartition, int]:
        """The offset that the next record of each will have."""
        return edge_offsets(self.place.admin, list(places), OffsetSpec.latest())

    async def _seen(self, hit: Hit) -> Seen:
        topic = hit.topic.removesuffix(REPLAY)
        if hit.value is None or topic not in self.catalog:
            return Seen(hit, None)
        try:
            return Seen(hit, await self._codec.decode(topic, hit.value))
        except Undecodable as error:
            return Seen(hit, None, str(error))
        except RegistryAway as error:
            raise Unreachable(f"The schema registry does not answer: {error}") from None

    def _stretches(self, parts: Collection[Part]) -> list[Stretch]:
        by_window: dict[Window | None, list[TopicPartition]] = {}
        for part in parts:
            count = self._there[part.topic]
            numbers = range(count) if part.key is None else [place_of(part.key.encode(), count)]
            by_window.setdefault(part.window, []).extend(TopicPartition(part.topic, n) for n in numbers)
        found: list[Stretch] = []
        for window, places in by_window.items():
            found += self._within(window, list(dict.fromkeys(places)))
        return found

    def _within(self, window: Window | None, places: list[TopicPartition]) -> Iterator[Stretch]:
        ends = self.ends(places)
        if window is None:
            begins = edge_offsets(self.place.admin, places, OffsetSpec.earliest())
            untils = ends
        else:
            begins, untils = self._at(window.begin, ends), self._at(window.end, ends)
        for place in places:
            yield Stretch(place.topic, place.partition, begins[place], untils[place])

    def _at(self, instant: datetime, ends: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        spec = OffsetSpec.for_timestamp(round(instant.timestamp() * 1000))
        found = edge_offsets(self.place.admin, list(ends), spec)
        return {place: offset if offset >= 0 else ends[place] for place, offset in found.items()}


@asynccontextmanager
async def open_log(settings: Settings, catalog: Mapping[str, Topic], clock: Clock) -> AsyncIterator[Log]:
    """Connects to broker and registry; raises Unreachable."""
    brokers, registry = kafka_of(settings), Registry(settings.registry)
    codec = Codec({name: topic.schema for name, topic in catalog.items()}, registry)
    try:
        with Place(brokers, settings.registry) as place:
            place.topics()
            async with Scan(brokers, clock) as scan:
                yield Log(brokers, place, scan, codec, catalog)
    finally:
        codec.close()
