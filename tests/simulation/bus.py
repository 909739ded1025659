"""What else a lane has of the bus: events for bytes, a publisher whose answers get lost, the index."""

import asyncio
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

from services.bus.codec import Codec, Undecodable
from services.bus.outcomes import SCHEMA, OutcomeIndex
from services.bus.publisher import Header, NotAcknowledged
from services.events import Event, PaymentOutcome, PaymentReceived
from tests.simulation.world import World

OUTCOME_PARTITIONS = 2


class Values:
    """A codec: each event is known by a short value."""

    def __init__(self) -> None:
        self._events: dict[bytes, PaymentReceived] = {}

    def encode(self, event: PaymentReceived) -> bytes:
        value = f"{event.biller}|{event.payment_guid}|{event.content}".encode()
        self._events[value] = event
        return value

    async def decode(self, topic: str, value: bytes | None) -> Event:
        del topic
        if value not in self._events:
            raise Undecodable("nobody wrote this")
        return self._events[value]


@dataclass
class Outcomes:
    """The outcome topic and the dead letters, as far as the brokers have them."""

    logs: list[list[PaymentOutcome]] = field(default_factory=lambda: [[] for _ in range(OUTCOME_PARTITIONS)])
    settled: dict[tuple[str, str, str], PaymentOutcome] = field(default_factory=dict)
    parked: set[tuple[str, str, str]] = field(default_factory=set)
    dead: set[tuple[str, int, int]] = field(default_factory=set)
    told: list[Callable[[PaymentOutcome], None]] = field(default_factory=list)

    def append(self, outcome: PaymentOutcome) -> None:
        self.logs[sum(outcome.account.encode()) % OUTCOME_PARTITIONS].append(outcome)
        fact = outcome.biller, outcome.natural_id.partition("#")[0], outcome.content
        self.settled[fact] = outcome
        if outcome.state == "parked":
            self.parked.add(fact)
        for told in self.told:
            told(outcome)


class Speaker:
    """A `Publisher` of outcomes: what it did not get acknowledged may be there, or come later."""

    def __init__(self, world: World, outcomes: Outcomes, away: Callable[[], bool]) -> None:
        self._world = world
        self._outcomes = outcomes
        self._away = away

    async def publish(self, *events: Event, traceparent: str | None = None) -> None:
        del traceparent
        for event in events:
            assert isinstance(event, PaymentOutcome)
            await self._say(partial(self._outcomes.append, event))

    async def publish_raw(
        self, topic: str, key: bytes | None, value: bytes | None, headers: list[Header]
    ) -> None:
        del key, value
        said = {name: text.decode() for name, text in headers}
        origin = (
            f"{topic.removesuffix('.dlq')}",
            int(said["billbus_origin_partition"]),
            int(said["billbus_origin_offset"]),
        )
        await self._say(lambda: self._outcomes.dead.add(origin))

    async def _say(self, write: Callable[[], Any]) -> None:
        world = self._world
        if world.over:
            raise NotAcknowledged("over")
        if self._away() or world.strikes(0.4):
            await asyncio.sleep(world.random.uniform(0.1, 1.0))
            raise NotAcknowledged("not sent")
        if world.strikes(0.4):
            world.loop.later(world.random.uniform(0.0, 3.0), write)
            await asyncio.sleep(world.random.uniform(0.1, 1.0))
            raise NotAcknowledged("no acknowledgement within the deadline")
        world.loop.later(wait := world.a_moment(), write)
        await asyncio.sleep(wait + world.a_moment())


class Index(OutcomeIndex):
    """The real index over the simulated topic; its database outlives the process, unless it is lost."""

    def __init__(
        self, world: World, outcomes: Outcomes, disk: sqlite3.Connection, away: Callable[[], bool]
    ) -> None:
        super().__init__(Path("index"), "", PaymentOutcome.TOPIC, cast("Codec", None))
        self._world = world
        self._outcomes = outcomes
        self._away = away
        self._lags = not world.calm and world.random.random() < 0.4
        self._db = disk
        rows = disk.execute("SELECT partition, next FROM followed").fetchall()
        self._next = {number: dict(rows).get(number, 0) for number in range(OUTCOME_PARTITIONS)}

    async def start(self) -> None:
        await asyncio.sleep(self._world.a_moment())

    async def follow(self) -> None:
        world = self._world
        while True:
            lags = self._lags and not world.calm
            await asyncio.sleep(world.random.uniform(1.0, 5.0) if lags else 0.3)
            for number, log in enumerate(self._outcomes.logs if not self._away() else ()):
                begin = self._next[number]
                if new := log[begin : begin + world.random.randint(5, 40)]:
                    self.take(number, new, begin + len(new))
            self.write()

    async def ends(self) -> dict[int, int]:
        await asyncio.sleep(self._world.a_moment())
        return {number: len(log) for number, log in enumerate(self._outcomes.logs)}

    async def stop(self) -> None:
        return


def new_disk() -> sqlite3.Connection:
    disk = sqlite3.connect(":memory:", isolation_level=None)
    disk.executescript(SCHEMA)
    return disk
