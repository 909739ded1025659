"""Pausing what calls a biller's partners and letting it go on: one record a biller, on a topic that every
replica of every service follows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec

from services.bus.catalog import Topic
from services.bus.clock import Clock
from services.bus.codec import Codec, Undecodable
from services.bus.connection import kafka_of
from services.bus.groups import edge_offsets
from services.bus.identity import key
from services.bus.partitioning import place_of
from services.bus.pauses import ALL, Pauses
from services.bus.place import Place, Unreachable
from services.bus.publisher import NotAcknowledged, Publisher
from services.bus.registry import Registry, RegistryAway
from services.bus.settings import ConfigurationError, Settings
from services.bus.topics import LANES
from services.events import OperationAudited, PauseCurrent, PausedLane
from services.operations.audit import Act, Audit, publishing
from services.operations.topic_reader import Offsets, TopicReader

CLOCKS = ("poll", "recheck")
"""What calls partners from time to time, by its name in the services' wiring."""
MOST_TRIES = 5
"""How often a change is merged with what another operator wrote in the same moment."""

Paused = tuple[PausedLane, ...]


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What an operator wants: a lane or a clock of a biller `paused` or going on; ALL for every one."""

    paused: bool
    biller: str
    lane: str

    @property
    def target(self) -> str:
        """For people and the audit record."""
        biller = "all billers" if self.biller == ALL else self.biller
        return biller if self.lane == ALL else f"{biller} {self.lane}"


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a wish means: the biller's pauses `before` and `after`, and those that hold all the same.

    `done` is False for what was only looked at; with `before` equal to `after` there is nothing to do.
    """

    wish: Wish
    before: Paused
    after: Paused
    still: tuple[tuple[str, PausedLane], ...]
    done: bool

    @property
    def needed(self) -> bool:
        return self.before != self.after


def wish_of(settings: Settings, biller: str, lane: str, *, paused: bool) -> Wish:
    """Raises ConfigurationError, with the nearest names, where there is no such biller or lane."""
    billers = sorted(path.stem for path in settings.billers.glob("*.yaml"))
    problems = []
    if biller != ALL and biller not in billers:
        problems.append(_unknown("biller", biller, billers))
    if lane != ALL and lane not in (*LANES, *CLOCKS):
        problems.append(_unknown("lane", lane, [*LANES, *CLOCKS]))
    if problems:
        raise ConfigurationError(problems)
    return Wish(paused=paused, biller=biller, lane=lane)


def _unknown(what: str, name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}."
    return f"There is no {what} {name!r}; {hint}"


def merge(wish: Wish, paused: Paused, by: PausedLane) -> Paused:
    """The biller's pauses after the wish; `by` says who, why and since when.

    What is paused stays as it was written; letting ALL lanes go on ends each of the biller's pauses.
    """
    if not wish.paused:
        return () if wish.lane == ALL else tuple(each for each in paused if each.lane != wish.lane)
    if any(each.lane == wish.lane for each in paused):
        return paused
    return (*paused, by)


def still_held(wish: Wish, pauses: Pauses, after: Paused) -> tuple[tuple[str, PausedLane], ...]:
    """The pauses that hold what was let go on all the same, each with its biller."""
    if wish.paused:
        return ()
    held = [(wish.biller, each) for each in after if each.lane == ALL]
    if wish.biller != ALL:
        held += [
            (ALL, each) for each in pauses.of(ALL) if ALL in (wish.lane, each.lane) or each.lane == wish.lane
        ]
    return tuple(held)


class PausesTopic:
    """The topic of the pauses, read whole: it is compacted to one record a biller."""

    def __init__(self, place: Place, codec: Codec, clock: Clock) -> None:
        self._place = place
        self._codec = codec
        self._clock = clock

    async def read(self) -> tuple[Pauses, Offsets]:
        """What is paused now, and up to where that was read; raises Unreachable, ConfigurationError."""
        pauses = Pauses()
        with await asyncio.to_thread(TopicReader, self._place, PauseCurrent.TOPIC, self._clock) as reader:
            ends = await asyncio.to_thread(reader.ends)
            begins = await asyncio.to_thread(_begins, self._place, ends)
            for _, current in await self._records(reader, begins, ends):
                pauses.take(current)
        return pauses, ends

    async def since(self, biller: str, seen: Offsets) -> list[tuple[int, PauseCurrent]]:
        """What was written of a biller from there on, each with its offset."""
        partition = place_of(biller.encode(), len(seen))
        with await asyncio.to_thread(TopicReader, self._place, PauseCurrent.TOPIC, self._clock) as reader:
            ends = await asyncio.to_thread(reader.ends)
            found = await self._records(reader, {partition: seen[partition]}, ends)
        return [(offset, current) for offset, current in found if current.biller == biller]

    async def write(self, publisher: Publisher, current: PauseCurrent) -> None:
        """Like every compacted topic's, the record has no headers. Raises NotAcknowledged."""
        value = self._codec.encode(current)
        await publisher.publish_raw(PauseCurrent.TOPIC, key(current).encode(), value, [])

    async def _records(
        self, reader: TopicReader, starts: Offsets, ends: Offsets
    ) -> list[tuple[int, PauseCurrent]]:
        found: list[tuple[int, PauseCurrent]] = []
        reader.read(starts, ends)
        while not reader.finished:
            records = await asyncio.to_thread(reader.fetch)
            found += [(r.offset(), c) for r in records if (c := await self._decoded(r.value())) is not None]
        return found

    async def _decoded(self, value: bytes | None) -> PauseCurrent | None:
        try:
            event = await self._codec.decode(PauseCurrent.TOPIC, value) if value is not None else None
        except Undecodable:
            return None  # the services pass over it too
        except RegistryAway as error:
            raise Unreachable(f"The schema registry does not answer: {error}") from None
        return event if isinstance(event, PauseCurrent) else None


def _begins(place: Place, ends: Offsets) -> dict[int, int]:
    wanted = [TopicPartition(PauseCurrent.TOPIC, partition) for partition in ends]
    found = edge_offsets(place.admin, wanted, OffsetSpec.earliest())
    return {partition.partition: offset for partition, offset in found.items()}


class PauseDesk:
    """What `open_pauses` opened: looks at what a wish means, and does it."""

    def __init__(self, topic: PausesTopic, publisher: Publisher, clock: Clock) -> None:
        self._topic = topic
        self._publisher = publisher
        self._clock = clock

    async def look(self, wish: Wish) -> Change:
        """What would be done."""
        pauses, _ = await self._topic.read()
        before = pauses.of(wish.biller)
        after = merge(wish, before, self._by(wish, "", ""))
        return Change(
            wish=wish, before=before, after=after, still=still_held(wish, pauses, after), done=False
        )

    async def act(self, wish: Wish, operator: str, reason: str) -> Change:
        """Does it, audited before and after; returns once it stands on the topic. Raises Unreachable."""
        verb: Literal["pause", "resume"] = "pause" if wish.paused else "resume"
        biller = None if wish.biller == ALL else wish.biller
        act = Act(operator=operator, action=verb, target=wish.target, reason=reason, biller=biller)
        audit = Audit(self._publisher, self._clock)
        pauses, seen = await self._topic.read()
        before = pauses.of(wish.biller)
        by = self._by(wish, operator, reason)
        after = merge(wish, before, by)
        if after != before:
            await audit.told(act, "begun")
            try:
                after = await self._write(wish, before, by, seen)
            except Unreachable:
                await audit.told(act, "not known: the broker did not show it in time")
                raise
            await audit.told(act, f"{verb}d")
        return Change(wish=wish, before=before, after=after, still=still_held(wish, pauses, after), done=True)

    async def _write(self, wish: Wish, base: Paused, by: PausedLane, seen: Offsets) -> Paused:
        """Writes it upon `base`, and again upon what another operator wrote in between."""
        partition = place_of(wish.biller.encode(), len(seen))
        for _ in range(MOST_TRIES):
            after = merge(wish, base, by)
            mine = PauseCurrent(biller=wish.biller, paused=after, updated_at=self._clock.now())
            try:
                await self._topic.write(self._publisher, mine)
            except NotAcknowledged as error:
                raise Unreachable(f"Kafka did not take the pause: {error}") from None
            came = await self._topic.since(wish.biller, seen)
            number = next((n for n, (_, current) in enumerate(came) if current == mine), None)
            if number is None:
                raise Unreachable("Kafka took the pause but does not show it; look at: billbus status")
            if number == 0:
                return after
            base = came[number - 1][1].paused
            seen = {**seen, partition: came[number][0] + 1}
        raise Unreachable("Others go on changing this biller's pauses; look at: billbus status")

    def _by(self, wish: Wish, operator: str, reason: str) -> PausedLane:
        return PausedLane(lane=wish.lane, operator=operator, reason=reason, since=self._clock.now())


@asynccontextmanager
async def open_pauses(
    settings: Settings, catalog: Mapping[str, Topic], clock: Clock
) -> AsyncIterator[PauseDesk]:
    """Raises Unreachable, and ConfigurationError where the broker lacks the topic."""
    topics = {name: catalog[name] for name in (PauseCurrent.TOPIC, OperationAudited.TOPIC)}
    registry = Registry(settings.registry)
    codec = Codec({name: topic.schema for name, topic in topics.items()}, registry)
    try:
        with Place(kafka_of(settings), settings.registry) as place:
            async with publishing(settings, topics, clock) as publisher:
                await codec.start()
                yield PauseDesk(PausesTopic(place, codec, clock), publisher, clock)
    finally:
        registry.close()
