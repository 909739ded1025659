"""A process's end of the brokers: the `Broker` that a lane is given, behaving as aiokafka's consumer does."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from functools import partial

from aiokafka import TopicPartition
from aiokafka.errors import IllegalGenerationError, KafkaConnectionError, KafkaError, UnknownMemberIdError

from services.bus.membership import Owner, Record
from services.bus.partition import Commit, Ticket
from services.bus.progress import SPAN, decode_metadata
from tests.simulation.broker import SESSION_S, Brokers
from tests.simulation.world import Link, World

MARGIN_S = 0.5
POLL_S = 0.4
AT_ONCE = 6
FENCED = (IllegalGenerationError, UnknownMemberIdError)


class Client:
    """One consumer in the group, its admin client and its readers.

    Attributes:
        pinned: commits carry the generation of the assignment that they were made under.
    """

    def __init__(self, world: World, brokers: Brokers, *, pinned: bool = True) -> None:
        self._world = world
        self._brokers = brokers
        self.pinned = pinned
        self.certain_until = 0.0
        self.link, self._cursor_link = Link(world), Link(world)
        self.link.away = self._cursor_link.away = self.away
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._ticket = Ticket(0, "")
        self._rejoin = asyncio.Event()
        self._cut_until = 0.0
        self._sequence = 0
        self._written: dict[tuple[str, TopicPartition], int] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def cut(self, seconds: float) -> None:
        self._cut_until = self._world.loop.time() + seconds

    def away(self) -> bool:
        """Whether the brokers are out of reach, for all or for this process."""
        return self._brokers.away or self._world.loop.time() < self._cut_until

    async def join(self, owner: Owner) -> None:
        self._owner = owner
        self._tasks = [
            self._world.loop.create_task(self._coordinate()),
            self._world.loop.create_task(self._heartbeats()),
        ]
        for task in self._tasks:
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._world.broken(f"the simulated client failed: {error!r}")

    async def leave(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._world.over:
            return
        try:
            await self.link.send(lambda: self._brokers.leave(self._ticket.member))
        except KafkaError:
            self._world.note("leaving was not acknowledged")

    # -- ownership -------------------------------------------------------------------------------------

    async def _coordinate(self) -> None:
        while True:
            if self._positions:
                try:
                    await self._owner.revoked(list(self._positions))
                except Exception as swallowed:  # aiokafka logs it and goes on
                    self._world.broken(f"revoked raised {swallowed!r}")
            assignment = await self._form_group()
            await self._assign(assignment)
            await self._rejoin.wait()

    async def _form_group(self) -> list[TopicPartition]:
        while True:
            try:
                generation, name = await self.link.send(partial(self._brokers.join, self._ticket.member))
                self._ticket = Ticket(generation, name)
                asked_at = self._world.loop.time()
                found: list[TopicPartition] = await self.link.send(
                    partial(self._brokers.sync, generation, name)
                )
            except FENCED:
                self._ticket = Ticket(0, "")
            except KafkaError:
                await asyncio.sleep(0.1)
            else:
                self._recognised(asked_at)
                self._rejoin.clear()
                return found

    async def _assign(self, assignment: list[TopicPartition]) -> None:
        """The new assignment counts, and its records may be handed out, before the owner is told."""
        ticket = self._ticket
        stored = self._brokers.commits(assignment, "")
        self._positions = {partition: stored[partition][0] for partition in assignment}
        self._paused.clear()
        if self._world.strikes():
            await asyncio.sleep(self._world.random.uniform(0, 0.3))
        self._paused.update(assignment)
        self._world.note(f"assigned {len(assignment)} under {ticket.generation}")
        self._owner.assigned(assignment, ticket)

    async def _heartbeats(self) -> None:
        while True:
            await asyncio.sleep(SESSION_S / 4)
            ticket = self._ticket
            if not ticket.member:
                continue
            asked_at = self._world.loop.time()
            try:
                stays = await self.link.send(
                    partial(self._brokers.heartbeat, ticket.generation, ticket.member)
                )
            except FENCED:
                if ticket == self._ticket:
                    self._ticket = Ticket(0, "")
                    self._rejoin.set()
            except KafkaError:
                continue
            else:
                if stays:
                    self._recognised(asked_at)
                elif ticket == self._ticket:
                    self._rejoin.set()

    def _recognised(self, asked_at: float) -> None:
        self.certain_until = max(self.certain_until, asked_at + SESSION_S - MARGIN_S)

    # -- records ---------------------------------------------------------------------------------------

    async def fetch(self, most: int) -> Mapping[TopicPartition, Sequence[Record]]:
        await asyncio.sleep(self._world.a_moment())
        if self._world.strikes(0.2):
            raise KafkaConnectionError("fetching")
        if not (batches := self._ready(most)) and not self._world.over:
            arrived: asyncio.Future[None] = self._world.loop.create_future()
            self._brokers.waiting.append(arrived)
            timer = self._world.loop.later(POLL_S, _wake, arrived)
            await arrived
            timer.cancel()
            batches = self._ready(most)
        return batches

    def _ready(self, most: int) -> dict[TopicPartition, Sequence[Record]]:
        batches: dict[TopicPartition, Sequence[Record]] = {}
        if self.away():
            return batches
        for partition, position in self._positions.items():
            if partition in self._paused or position < 0:
                continue
            log = self._brokers.logs[partition]
            records = log.read(position, min(most, self._world.random.randint(1, AT_ONCE)))
            if records:
                batches[partition] = records
                self._positions[partition] = records[-1].offset + 1
            else:
                self._positions[partition] = log.end  # markers and gaps are passed without a record
        return batches

    async def read(self, partition: TopicPartition, offset: int, most: int) -> Sequence[Record]:
        log = self._brokers.logs[partition]
        records: Sequence[Record] = await self.link.send(lambda: log.read(offset, most))
        return records

    def pause(self, partition: TopicPartition) -> None:
        if partition in self._positions:
            self._paused.add(partition)

    def resume(self, partition: TopicPartition, offset: int) -> None:
        if partition in self._positions:
            self._positions[partition] = offset
            self._paused.discard(partition)

    def position(self, partition: TopicPartition) -> int | None:
        at = self._positions.get(partition, -1)
        return at if at >= 0 else None

    def log_end(self, partition: TopicPartition) -> int | None:
        return self._brokers.logs[partition].end if partition in self._positions else None

    async def edges(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, tuple[int, int]]:
        logs = self._brokers.logs
        asked = list(partitions)
        found: Mapping[TopicPartition, tuple[int, int]] = await self.link.send(
            lambda: {partition: (logs[partition].begin, logs[partition].end) for partition in asked}
        )
        return found

    # -- commits ---------------------------------------------------------------------------------------

    async def commits(
        self, partitions: Collection[TopicPartition], scope: str = ""
    ) -> Mapping[TopicPartition, Commit]:
        asked = list(partitions)
        found: Mapping[TopicPartition, Commit] = await self.link.send(
            lambda: self._brokers.commits(asked, scope)
        )
        return found

    async def scopes(self) -> Collection[str]:
        found: Collection[str] = await self.link.send(self._brokers.scopes)
        return found

    async def commit(
        self, ticket: Ticket, commits: Mapping[TopicPartition, Commit]
    ) -> Collection[TopicPartition]:
        if not self.pinned:
            ticket = self._ticket
        taken: Collection[TopicPartition] = await asyncio.shield(
            self.link.send(lambda: self._brokers.commit(ticket.generation, ticket.member, commits))
        )
        return taken

    async def commit_cursor(self, scope: str, partition: TopicPartition, commit: Commit) -> bool:
        """Nothing fences it: one of an owner that is gone by now is taken as well, however late."""
        self._sequence += 1
        write = partial(self._write_cursor, self._sequence, self._ticket.generation, scope, partition, commit)
        if self._world.strikes(3.0):
            self._world.loop.later(self._world.random.uniform(0.3, 6.0), write)
            await asyncio.sleep(self._world.random.uniform(0.1, 1.0))
            raise KafkaConnectionError("no answer")
        return bool(await asyncio.shield(self._cursor_link.send(write)))

    def _write_cursor(
        self, sequence: int, generation: int, scope: str, partition: TopicPartition, commit: Commit
    ) -> bool:
        """Commits of one owner overtake each other only once a later owner has made itself known."""
        offset, metadata = self._brokers.offsets["", partition]
        known = decode_metadata(metadata, offset, offset + SPAN).generation
        newest = self._written.get((scope, partition), 0)
        if self._world.over or (sequence < newest and known <= generation):
            return False
        self._written[scope, partition] = max(sequence, newest)
        for told in self._brokers.overwritten if known > generation else ():
            told()
        return self._brokers.write(scope, partition, commit)


def _wake(arrived: "asyncio.Future[None]") -> None:
    if not arrived.done():
        arrived.set_result(None)
