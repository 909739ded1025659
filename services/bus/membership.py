"""A lane's place in its consumer group: what it owns, for how long that is certain, and its commits.

The only file that reaches below aiokafka's public surface (0.14, pinned; each reach is held by
tests/integration/lane/test_membership.py): its `commit` raises the first partition's error for all, retries
without end, and under whatever generation is current by then; its `committed` drops the metadata; it tells
nobody when it was last recognised by the coordinator.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, TypeAlias

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError, for_code
from aiokafka.protocol.commit import OffsetCommitRequest
from aiokafka.protocol.group import HeartbeatRequest, SyncGroupRequest

from services.bus.clock import Clock
from services.bus.closing import close, start_consumer, stop_consumer
from services.bus.connection import Brokers, aiokafka_client
from services.bus.partition import Commit, Ticket

log = structlog.get_logger()
Record: TypeAlias = ConsumerRecord
NO_OFFSET = -1
CALL_LIMIT_S = 10.0
POLL_S = 0.1
FETCH_BYTES = 128 * 1024
"""Of a partition in one fetch: a few hundred records, about what a lane takes of it at a time."""


class Owner(Protocol):
    """Who is told what it owns."""

    def assigned(self, partitions: Collection[TopicPartition], ticket: Ticket) -> None: ...
    async def revoked(self, partitions: Collection[TopicPartition]) -> None: ...


class Gone(Exception):
    """The position of `partitions` is not in the log: truncated, deleted, or made anew."""

    def __init__(self, partitions: Collection[TopicPartition]) -> None:
        super().__init__(f"{len(partitions)} partitions")
        self.partitions = partitions


class Broker(Protocol):
    """What a lane needs of Kafka; KafkaError or TimeoutError where it gives no answer."""

    certain_until: float

    async def join(self, owner: Owner) -> None: ...
    async def leave(self) -> None: ...
    async def fetch(self, most: int) -> Mapping[TopicPartition, Sequence[Record]]: ...
    async def read(self, partition: TopicPartition, offset: int, most: int) -> Sequence[Record]: ...
    def pause(self, partition: TopicPartition) -> None: ...
    def resume(self, partition: TopicPartition, offset: int) -> None: ...
    def position(self, partition: TopicPartition) -> int | None: ...
    def log_end(self, partition: TopicPartition) -> int | None: ...
    async def edges(
        self, partitions: Collection[TopicPartition]
    ) -> Mapping[TopicPartition, tuple[int, int]]: ...
    async def commits(
        self, partitions: Collection[TopicPartition], scope: str = ""
    ) -> Mapping[TopicPartition, Commit]: ...
    async def scopes(self) -> Collection[str]: ...
    async def commit(
        self, ticket: Ticket, commits: Mapping[TopicPartition, Commit]
    ) -> Collection[TopicPartition]: ...
    async def commit_cursor(self, scope: str, partition: TopicPartition, commit: Commit) -> bool: ...


class Membership(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    """The real thing, for one group and the topics that its members all subscribe to.

    Args:
        session_s: how long the coordinator waits for a silent member.
        margin_s: how long before that we take ourselves for replaced.
    """

    def __init__(
        self,
        bootstrap: Brokers,
        group: str,
        topics: Sequence[str],
        clock: Clock,
        *,
        session_s: float,
        margin_s: float,
    ) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._topics = topics
        self._clock = clock
        self._session_s = session_s
        self._certain_s = session_s - margin_s
        self._coordinators: dict[str, int] = {}
        self._readers = Readers(bootstrap)
        self.certain_until = 0.0

    async def join(self, owner: Owner) -> None:
        """Connects and subscribes; from now on `owner` is told. Raises KafkaError."""
        self._owner = owner
        self._consumer = AIOKafkaConsumer(
            **aiokafka_client(self._bootstrap),
            group_id=self._group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            # live and .replay of a partition with one member, whatever their number
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=int(self._session_s * 1000),
            rebalance_timeout_ms=max(int(self._session_s * 1000), 5000),
            # often: who is left learns by it that another is gone, and their accounts stand still until then
            heartbeat_interval_ms=int(self._session_s * 100),
            max_poll_interval_ms=300_000,
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        self._admin = AIOKafkaAdminClient(**aiokafka_client(self._bootstrap))
        await self._admin.start()
        await start_consumer(self._consumer)
        self._listen(self._consumer._coordinator)
        self._consumer.subscribe(list(self._topics), listener=self)

    async def leave(self) -> None:
        """Leaves the group; each step bounded, whatever the brokers do."""
        await stop_consumer(self._consumer)
        await close(self._admin.close)
        await self._readers.stop()

    # -- ownership -------------------------------------------------------------------------------------

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        coordinator = self._consumer._coordinator
        for partition in assigned:
            self._consumer.pause(partition)
        self._owner.assigned(assigned, Ticket(coordinator.generation, coordinator.member_id))

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        if revoked:
            await self._owner.revoked(revoked)

    def _listen(self, coordinator: Any) -> None:
        """Notes when the coordinator last recognised us, by the instant at which we asked it."""
        ask: Callable[[Any], Awaitable[Any]] = coordinator._send_req

        async def listening(request: Any) -> Any:
            asked_at = self._clock.monotonic()
            answer = await ask(request)
            if isinstance(request, HeartbeatRequest | SyncGroupRequest) and answer.error_code == 0:
                self.certain_until = max(self.certain_until, asked_at + self._certain_s)
            return answer

        coordinator._send_req = listening

    # -- records ---------------------------------------------------------------------------------------

    async def fetch(self, most: int) -> Mapping[TopicPartition, Sequence[Record]]:
        """Records of what is not paused, waiting a short while for the first; raises Gone or KafkaError."""
        try:
            batches: Mapping[TopicPartition, Sequence[Record]] = await self._consumer.getmany(
                timeout_ms=int(POLL_S * 1000), max_records=most
            )
        except OffsetOutOfRangeError as error:
            raise Gone(list(error.args[0])) from None
        except NoOffsetForPartitionError:
            await asyncio.sleep(POLL_S)  # who reads the commits finds the same, and halts it by name
            return {}
        return batches

    async def read(self, partition: TopicPartition, offset: int, most: int) -> Sequence[Record]:
        """Records from an offset, beside the group; raises Gone, KafkaError or TimeoutError."""
        return await self._readers.read(partition, offset, most)

    def pause(self, partition: TopicPartition) -> None:
        if partition in self._consumer.assignment():
            self._consumer.pause(partition)

    def resume(self, partition: TopicPartition, offset: int) -> None:
        """Goes on from this offset; what was fetched before is dropped."""
        if partition in self._consumer.assignment():
            self._consumer.seek(partition, offset)
            self._consumer.resume(partition)

    def position(self, partition: TopicPartition) -> int | None:
        """The offset from which the next fetch reads: past all that was handed out, and past markers."""
        if partition not in self._consumer.assignment():
            return None
        state = self._consumer._subscription.subscription.assignment.state_value(partition)
        return int(state.position) if state.has_valid_position else None

    def log_end(self, partition: TopicPartition) -> int | None:
        """The end of the log as the last fetch saw it."""
        if partition not in self._consumer.assignment():
            return None
        end: int | None = self._consumer.highwater(partition)
        return end

    async def edges(self, partitions: Collection[TopicPartition]) -> Mapping[TopicPartition, tuple[int, int]]:
        """The first and the next offset of each log."""
        async with asyncio.timeout(CALL_LIMIT_S):
            first = await self._consumer.beginning_offsets(list(partitions))
            after = await self._consumer.end_offsets(list(partitions))
        return {partition: (first[partition], after[partition]) for partition in partitions}

    # -- commits ---------------------------------------------------------------------------------------

    async def commits(
        self, partitions: Collection[TopicPartition], scope: str = ""
    ) -> Mapping[TopicPartition, Commit]:
        """Offset and metadata of the group, or of one of its cursors; NO_OFFSET where there is none."""
        async with asyncio.timeout(CALL_LIMIT_S):
            found = await self._admin.list_consumer_group_offsets(
                self._name(scope), partitions=list(partitions)
            )
        return {partition: (found[partition].offset, found[partition].metadata or "") for partition in found}

    async def scopes(self) -> Collection[str]:
        """The scopes that ever went behind a cursor of their own."""
        begin = self._name(" ").removesuffix(" ")
        async with asyncio.timeout(CALL_LIMIT_S):
            groups = await self._admin.list_consumer_groups()
        return [name.removeprefix(begin) for name, *_ in groups if name.startswith(begin)]

    async def commit(
        self, ticket: Ticket, commits: Mapping[TopicPartition, Commit]
    ) -> Collection[TopicPartition]:
        """Those that the broker took. It refuses all once another generation counts."""
        coordinator = self._consumer._coordinator
        async with asyncio.timeout(CALL_LIMIT_S):
            await coordinator.ensure_coordinator_known()
        request = _request(self._group, ticket.generation, ticket.member, commits)
        # never cancelled: a request given up could arrive after the next one
        answer = await asyncio.shield(coordinator._send_req(request))
        taken, refused = _sorted_out(answer)
        if any(error.retriable for error in refused):
            coordinator.coordinator_dead()  # it is looked for anew before the next one
        return taken

    async def commit_cursor(self, scope: str, partition: TopicPartition, commit: Commit) -> bool:
        """Commits for a cursor; its group has no members, so any owner of the partition can."""
        group = self._name(scope)
        async with asyncio.timeout(CALL_LIMIT_S):
            if group not in self._coordinators:
                self._coordinators[group] = await self._admin.find_coordinator(group)
        request = _request(group, -1, "", {partition: commit})
        try:
            answer = await asyncio.shield(self._admin._send_request(request, self._coordinators[group]))
        except KafkaError:
            self._coordinators.pop(group, None)
            raise
        taken, _ = _sorted_out(answer)
        if partition not in taken:
            self._coordinators.pop(group, None)
        return partition in taken

    def _name(self, scope: str) -> str:
        return f"{self._group}.{scope}" if scope else self._group


def _request(
    group: str, generation: int, member: str, commits: Mapping[TopicPartition, Commit]
) -> OffsetCommitRequest:
    topics = defaultdict(list)
    for partition, (offset, metadata) in commits.items():
        topics[partition.topic].append((partition.partition, offset, metadata))
    return OffsetCommitRequest(
        group, generation, member, OffsetCommitRequest.DEFAULT_RETENTION_TIME, list(topics.items())
    )


def _sorted_out(answer: Any) -> tuple[set[TopicPartition], list[KafkaError]]:
    """The partitions that were taken, and the errors of the others."""
    taken, refused = set(), []
    for topic, partitions in answer.topics:
        for number, code in partitions:
            if code == 0:
                taken.add(TopicPartition(topic, number))
            else:
                refused.append(for_code(code)())
    for name in {type(error).__name__ for error in refused}:
        log.warning("commit_refused", error=name)
    return taken, refused


class Readers:
    """A few consumers without a group, for reading a partition again from some offset.

    One that goes on where it left off still has what it fetched beyond. Bounded: who finds none free waits.
    """

    MOST = 12

    def __init__(self, bootstrap: Brokers) -> None:
        self._bootstrap = bootstrap
        self._idle: list[AIOKafkaConsumer] = []
        self._there_are = 0
        self._places = asyncio.Semaphore(self.MOST)

    async def read(self, partition: TopicPartition, offset: int, most: int) -> Sequence[Record]:
        async with self._places:
            consumer = await self._one_for(partition)
            try:
                async with asyncio.timeout(CALL_LIMIT_S):
                    if partition not in consumer.assignment():
                        consumer.assign([partition])
                        consumer.seek(partition, offset)
                    elif await consumer.position(partition) != offset:
                        consumer.seek(partition, offset)
                    found = await consumer.getmany(partition, timeout_ms=int(POLL_S * 1000), max_records=most)
            except BaseException as error:
                self._there_are -= 1
                await stop_consumer(consumer)
                if isinstance(error, OffsetOutOfRangeError):
                    raise Gone([partition]) from None
                raise
            self._idle.append(consumer)
            records: Sequence[Record] = found.get(partition, [])
            return records

    async def _one_for(self, partition: TopicPartition) -> AIOKafkaConsumer:
        """The one that was last at this partition; else a new one, or whichever has idled longest."""
        known = next((each for each in self._idle if partition in each.assignment()), None)
        if known is None and self._there_are < self.MOST:
            return await self._new()
        known = known or self._idle[0]
        self._idle.remove(known)
        return known

    async def _new(self) -> AIOKafkaConsumer:
        consumer = AIOKafkaConsumer(
            **aiokafka_client(self._bootstrap),
            enable_auto_commit=False,
            auto_offset_reset="none",
            max_partition_fetch_bytes=FETCH_BYTES,
        )
        self._there_are += 1
        try:
            await start_consumer(consumer)
        except BaseException:
            self._there_are -= 1
            raise
        return consumer

    async def stop(self) -> None:
        while self._idle:
            await stop_consumer(self._idle.pop())
