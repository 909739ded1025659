"""A broker for one member that does what a test tells it, and a lane on top of it, in one process."""

import asyncio
from bisect import bisect_left
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, cast

from aiokafka import ConsumerRecord, TopicPartition

from services.bus.clock import Clock
from services.bus.codec import Codec, Undecodable
from services.bus.delivery import Delivery, Limits
from services.bus.lane import Answer, Found, Lane, NotFound, Posted, Settlement
from services.bus.membership import NO_OFFSET, Gone, Owner, Record
from services.bus.outcomes import OutcomeIndex
from services.bus.partition import Commit, Ticket
from services.bus.progress import fresh_metadata
from services.bus.publisher import NotAcknowledged, Publisher
from services.events import PaymentOutcome, PaymentReceived
from services.payments.handlers import record_outcome
from tests.unit.parts import FakePublisher
from tests.unit.payments_sample import a_payment

LIVE = PaymentReceived.TOPIC
MADE = a_payment()


def at(number: int, topic: str = LIVE) -> TopicPartition:
    return TopicPartition(topic, number)


def a_record(
    partition: TopicPartition, offset: int, key: bytes | None, value: bytes | None, *, later_ms: int = 0
) -> Record:
    millis = 1_790_000_000_000 + offset + later_ms
    return ConsumerRecord(partition.topic, partition.partition, offset, millis, 1, key, value, None, 0, 0, ())


@dataclass
class Log:
    """One partition's records by offset, in order; `position` is where fetching goes on."""

    records: list[Record] = field(default_factory=list)
    begin: int = 0
    end: int = 0
    position: int = 0
    paused: bool = False

    def read(self, offset: int, most: int) -> Sequence[Record]:
        """The records from an offset on."""
        first = bisect_left(self.records, offset, key=lambda record: record.offset)
        return self.records[first : first + most]


class FakeBroker:
    """Keeps what it is committed and by whom.

    Attributes:
        answers: what the next commits get, one each: partitions to refuse, an error, or an event to wait for
            before the commit counts; then all are taken.
        taken: every commit that counted, with the generation that it was made under.
    """

    def __init__(self, *partitions: TopicPartition) -> None:
        self.logs = {partition: Log() for partition in partitions}
        self.stored: dict[tuple[str, TopicPartition], Commit] = {
            ("", partition): (0, fresh_metadata()) for partition in partitions
        }
        self.answers: list[Collection[TopicPartition] | Exception | asyncio.Event] = []
        self.taken: list[tuple[int, TopicPartition, int]] = []
        self.asked_to_commit = 0
        self.certain_until = float("inf")
        self.reads_commits = asyncio.Event()
        self.reads_commits.set()
        self.generation = 0
        self.at_once = 100
        self.crashed = False

    async def join(self, owner: Owner) -> None:
        self.owner = owner
        self._assign(self.logs)

    async def leave(self) -> None:
        if not self.crashed:
            await self.owner.revoked(list(self.logs))

    def _assign(self, partitions: Collection[TopicPartition]) -> None:
        self.generation += 1
        for partition in partitions:
            self.logs[partition].paused = True
        self.owner.assigned(list(partitions), Ticket(self.generation, "me"))

    async def rebalance(self) -> None:
        """Takes everything away and hands it straight back."""
        await self.owner.revoked(list(self.logs))
        self._assign(self.logs)

    def append(self, partition: TopicPartition, account: str, guid: str, *, gap: int = 0) -> int:
        """A payment's record; its offset comes after a gap, as markers leave one."""
        log = self.logs[partition]
        offset = log.end + gap
        log.records.append(a_record(partition, offset, f"acme/{account}".encode(), guid.encode()))
        log.end = offset + 1
        return offset

    async def fetch(self, most: int) -> Mapping[TopicPartition, Sequence[Record]]:
        await asyncio.sleep(0.002)
        found, most = {}, min(most, self.at_once)
        for partition, log in self.logs.items():
            if log.paused:
                continue
            if not log.begin <= log.position <= log.end:
                raise Gone([partition])
            if records := log.read(log.position, most):
                found[partition] = records
            log.position = records[-1].offset + 1 if len(records) == most else log.end
        return found

    async def read(self, partition: TopicPartition, offset: int, most: int) -> Sequence[Record]:
        if offset < self.logs[partition].begin:
            raise Gone([partition])
        return self.logs[partition].read(offset, most)

    def pause(self, partition: TopicPartition) -> None:
        self.logs[partition].paused = True

    def resume(self, partition: TopicPartition, offset: int) -> None:
        self.logs[partition].position, self.logs[partition].paused = offset, False

    def position(self, partition: TopicPartition) -> int | None:
        return self.logs[partition].position

    def log_end(self, partition: TopicPartition) -> int | None:
        return self.logs[partition].end

    async def edges(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, tuple[int, int]]:
        return {partition: (self.logs[partition].begin, self.logs[partition].end) for partition in partitions}

    async def commits(
        self, partitions: Collection[TopicPartition], scope: str = ""
    ) -> Mapping[TopicPartition, Commit]:
        await self.reads_commits.wait()
        return {p: self.stored.get((scope, p), (NO_OFFSET, "")) for p in partitions}

    async def scopes(self) -> Collection[str]:
        return list(dict.fromkeys(scope for scope, _ in self.stored if scope))

    async def commit(
        self, ticket: Ticket, commits: Mapping[TopicPartition, Commit]
    ) -> Collection[TopicPartition]:
        self.asked_to_commit += 1
        answer = self.answers.pop(0) if self.answers else ()
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, asyncio.Event):
            await asyncio.shield(answer.wait())
            answer = ()
        if ticket.generation != self.generation:
            return ()
        took = [partition for partition in commits if partition not in answer]
        for partition in took:
            self.stored["", partition] = commits[partition]
            self.taken.append((ticket.generation, partition, commits[partition][0]))
        return took

    async def commit_cursor(self, scope: str, partition: TopicPartition, commit: Commit) -> bool:
        self.stored[scope, partition] = commit
        return True

    def committed(self, partition: TopicPartition) -> int:
        return self.stored["", partition][0]


class GuidCodec:
    """A record's value is the payment's GUID, [BILLER/]ACCOUNT-n; 'poison' is no event."""

    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker

    async def decode(self, topic: str, value: bytes | None) -> PaymentReceived:
        assert topic == LIVE
        guid = (value or b"").decode()
        if guid == "poison":
            raise Undecodable("poison")
        biller, _, account = guid.partition("-")[0].rpartition("/")
        return replace(MADE, payment_guid=guid, biller=biller or MADE.biller, account=account)


class DeafIndex(OutcomeIndex):
    """An index that learns only what this process settles."""

    async def start(self) -> None:
        return

    async def follow(self) -> None:
        await asyncio.Event().wait()

    async def ends(self) -> dict[int, int]:
        return {}

    async def stop(self) -> None:
        self._db.close()


class RawPublisher(FakePublisher):
    """Keeps dead letters apart."""

    def __init__(self) -> None:
        super().__init__()
        self.letters: list[bytes | None] = []

    async def publish_raw(
        self, topic: str, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
    ) -> None:
        assert topic.endswith(".dlq")
        assert key is None or headers
        if self.away:
            raise NotAcknowledged("the bus is away")
        self.letters.append(value)


class Partner:
    """Keeps every effect; a call of `slow` waits until it is let go."""

    def __init__(self) -> None:
        self.effects: list[str] = []
        self.running: defaultdict[str, int] = defaultdict(int)
        self.overlaps = self.asked = 0
        self.slow: dict[str, asyncio.Event] = {}
        self.fails: dict[str, Exception] = {}

    async def deliver(self, event: PaymentReceived) -> Settlement:
        self.running[event.account] += 1
        self.overlaps += self.running[event.account] > 1
        try:
            if event.payment_guid in self.slow:
                await self.slow[event.payment_guid].wait()
            if event.payment_guid in self.fails:
                raise self.fails[event.payment_guid]
            self.effects.append(event.payment_guid)
        finally:
            self.running[event.account] -= 1
        return Posted("R")

    async def ask(self, event: PaymentReceived) -> Answer:
        self.asked += 1
        return Found("R") if event.payment_guid in self.effects else NotFound()


class Desk:
    """A lane, its broker and its partner; `clock` and `billers` may be replaced before it starts."""

    numbers = count()
    billers: Collection[str] = ("acme",)

    def __init__(self, folder: Path, *partitions: int) -> None:
        self.folder = folder
        self.broker = FakeBroker(*map(at, partitions or (0,)))
        self.partner, self.publisher = Partner(), RawPublisher()
        self.clock = Clock()

    @asynccontextmanager
    async def lane(self, *, crash: bool = False, **options: Any) -> AsyncIterator[Delivery[PaymentReceived]]:
        """One member, until the end of the block; a crash leaves everything as it is."""
        index = DeafIndex(
            self.folder / f"{next(self.numbers)}.sqlite", "", PaymentOutcome.TOPIC, cast("Codec", None)
        ).open()
        made = Lane(
            name="test", reads=PaymentReceived, deliver=self.partner.deliver, writes=record_outcome,
            **{"ask": self.partner.ask, **options},
        )  # fmt: skip
        delivery = Delivery(
            made, broker=self.broker, codec=cast("Codec", GuidCodec(self.broker)),
            publisher=cast("Publisher", self.publisher), clock=self.clock, limits=Limits(20, grace_s=2),
            index=index, billers=self.billers,
        )  # fmt: skip
        running = asyncio.create_task(delivery.run())
        try:
            yield delivery
        finally:
            self.broker.crashed = crash
            if crash:
                for task in [running, *delivery._tasks]:
                    task.cancel()
                await asyncio.gather(running, return_exceptions=True)
            else:
                delivery.stop()
                with suppress(TimeoutError):
                    await asyncio.wait_for(running, 10)

    def append(self, *guids: str, partition: int = 0, gap: int = 0) -> None:
        """Payments named ACCOUNT-n, in order."""
        for guid in guids:
            self.broker.append(at(partition), guid.partition("-")[0], guid, gap=gap)
