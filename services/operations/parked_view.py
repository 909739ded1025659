"""What is parked now, across payments, invoices and settings: followed on the outcome topics, kept on disk.

A console, `status` and the commands stand on it: `refresh` reads on from where the last reader of this
machine stopped, the rest answers from the file.
"""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from confluent_kafka import TopicCollection, TopicPartition
from confluent_kafka.admin import OffsetSpec

from services.bus.catalog import Topic
from services.bus.clock import Clock
from services.bus.codec import Codec, Undecodable
from services.bus.connection import kafka_of
from services.bus.groups import edge_offsets
from services.bus.identity import Outcome
from services.bus.place import Place, Unreachable
from services.bus.registry import Registry, RegistryAway
from services.bus.settings import Settings
from services.events import InvoiceOutcome, PaymentOutcome, SettingOutcome
from services.operations.parked_file import ParkedFile
from services.operations.parked_records import FAMILIES, Family, Filters, ParkedRecord, Tally
from services.operations.topic_reader import TopicReader

OUTCOMES: Mapping[Family, type[Outcome]] = {
    "payment": PaymentOutcome,
    "invoice": InvoiceOutcome,
    "setting": SettingOutcome,
}
Told = Callable[[int, int | None], None]
WAIT_S, LOOK_S = 60.0, 0.1
"""How long one waits for another process that reads, and how often it looks."""
ANSWER_S = 10.0


class ParkedView:
    """What `open_view` opened."""

    def __init__(
        self, settings: Settings, catalog: Mapping[str, Topic], clock: Clock, file: ParkedFile
    ) -> None:
        self._settings = settings
        self._catalog = catalog
        self._clock = clock
        self._file = file

    async def refresh(self, told: Told) -> None:
        """Reads what came since; `told` hears how many outcomes were read, and of how many.

        Raises Unreachable, KafkaException for what the broker refuses, ConfigurationError where it lacks a
        topic. What was read before stays read.
        """
        names = {family: OUTCOMES[family].TOPIC for family in FAMILIES}
        registry = Registry(self._settings.registry)
        codec = Codec({name: self._catalog[name].schema for name in names.values()}, registry)
        try:
            async with self._alone():
                with Place(kafka_of(self._settings), self._settings.registry) as place:
                    made = await asyncio.to_thread(_made, place, list(names.values()))
                    with _readers(place, names, self._clock) as readers:
                        await self._read(place, readers, made, codec, told)
        except RegistryAway as error:
            raise Unreachable(f"The schema registry does not answer: {error}") from None
        finally:
            registry.close()

    async def _read(
        self,
        place: Place,
        readers: Mapping[Family, TopicReader],
        made: Mapping[str, str],
        codec: Codec,
        told: Told,
    ) -> None:
        plans = {
            family: self._plan(family, place, each, made[each.topic]) for family, each in readers.items()
        }
        total = sum(ends[p] - starts[p] for starts, ends in plans.values() for p in starts)
        done = 0
        told(done, total)
        for family, reader in readers.items():
            starts, ends = plans[family]
            reader.read(starts, ends)
            while not reader.finished:
                records = await asyncio.to_thread(reader.fetch)
                outcomes = await _decoded(codec, reader.topic, records)
                self._file.take(family, outcomes, {r.partition(): r.offset() + 1 for r in records})
                told(done := done + len(records), total)
            self._file.take(family, [], ends)
            self._file.finish(family)

    def _plan(
        self, family: Family, place: Place, reader: TopicReader, made: str
    ) -> tuple[dict[int, int], dict[int, int]]:
        """By partition where to go on, and the end; what was read of another topic is forgotten."""
        ends = reader.ends()
        wanted = [TopicPartition(reader.topic, partition) for partition in ends]
        found = edge_offsets(place.admin, wanted, OffsetSpec.earliest())
        followed = self._file.followed(family)
        known = self._file.of_topic(family)
        anew = known not in (None, made) or any(followed.get(p, 0) > end for p, end in ends.items())
        self._file.begin(family, made, anew=anew)
        if anew:
            followed = {}
        return {p.partition: max(followed.get(p.partition, 0), first) for p, first in found.items()}, ends

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """One process reads at a time: the next one goes on from what it wrote."""
        path = folder_of(self._settings) / "parked.lock"
        until = self._clock.monotonic() + WAIT_S
        with path.open("a") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if self._clock.monotonic() > until:
                        raise Unreachable(
                            "Another billbus on this machine is still reading what is parked; try again later"
                        ) from None
                await asyncio.sleep(LOOK_S)
            yield

    def find(self, filters: Filters, most: int) -> list[ParkedRecord]:
        """The oldest `most` that match, the oldest first."""
        return self._file.find(filters, most)

    def named(self, name: str, biller: str = "") -> list[ParkedRecord]:
        """Those of a natural id (a PaymentGUID in any case, an invoice's number, a change's id)."""
        return self._file.named(name, biller)

    def tallies(self, filters: Filters | None = None) -> list[Tally]:
        """How many match, by biller, family and reason."""
        return self._file.tallies(filters or Filters())


@contextmanager
def open_view(settings: Settings, catalog: Mapping[str, Topic], clock: Clock) -> Iterator[ParkedView]:
    """What was parked when the view was read last; `refresh` it."""
    file = ParkedFile(folder_of(settings) / "parked.sqlite").open()
    try:
        yield ParkedView(settings, catalog, clock, file)
    finally:
        file.close()


def folder_of(settings: Settings) -> Path:
    """Where operations keep what they can read again."""
    return settings.state / "operations"


@contextmanager
def _readers(place: Place, names: Mapping[Family, str], clock: Clock) -> Iterator[dict[Family, TopicReader]]:
    readers: dict[Family, TopicReader] = {}
    try:
        for family, name in names.items():
            readers[family] = TopicReader(place, name, clock)
        yield readers
    finally:
        for reader in readers.values():
            reader.__exit__()


def _made(place: Place, topics: list[str]) -> dict[str, str]:
    """Which topic it is that has a name now, by the broker's own id."""
    place.topics()  # says where a broker does not answer
    found = place.admin.describe_topics(TopicCollection(topics), request_timeout=ANSWER_S)
    return {name: str(future.result(ANSWER_S).topic_id) for name, future in found.items()}


async def _decoded(codec: Codec, topic: str, records: list[Any]) -> list[Outcome]:
    outcomes: list[Outcome] = []
    for record in records:
        try:
            event = await codec.decode(topic, record.value())
        except Undecodable:
            continue  # `tail` shows it; what nobody can read parks nothing
        if isinstance(event, Outcome):
            outcomes.append(event)
    return outcomes
