"""The delivery lane: every event of a topic to its partner, in order within a key, many keys at a time.

Read it as one loop: `_fetch` takes records of the partitions we own, `_dispatch` starts one attempt for
each key that is free, `_work` ends or postpones it, `_commit` writes what is done and reserves what may be
sent next. How one record is brought to its end is in `doubt`, what a commit says in `progress`.
"""

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from heapq import heappop, heappush
from typing import Any, Generic

import structlog
from aiokafka import (
    AIOKafkaConsumer,
    ConsumerRebalanceListener,
    ConsumerRecord,
    OffsetAndMetadata,
    TopicPartition,
)
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError

from services.bus import metrics
from services.bus.clock import Clock
from services.bus.codec import Codec, Undecodable
from services.bus.doubt import Attempts, Done, Item, Later
from services.bus.lane import E, Lane
from services.bus.outcomes import OutcomeIndex
from services.bus.progress import Progress, Restored, decode_metadata
from services.bus.publisher import NotAcknowledged, Publisher

log = structlog.get_logger()

WINDOW = 1000
"""Unfinished records of one partition above which it is paused, whatever the lag."""
COMMIT_EVERY_S, COMMIT_PAUSE_S, COMMIT_LIMIT_S = 0.25, 0.02, 5.0
LEAST_AHEAD = 4
REVOKED_DRAIN_S = 1.0
INDEX_GRACE_S = 1.0
STALLED_AFTER_S = 180.0
DEAD_LETTERS_IN_A_ROW = 100
"""So many undecodable records one after another mean that the fault is ours."""


class Stalled(Exception):
    """The lane makes no progress although there is work; the process should end and start again."""


class TooManyDeadLetters(Exception):
    """Record after record cannot be decoded: a wrong schema or topic, not bad records."""


@dataclass
class Owned:
    """One assignment of one partition; another assignment is another object."""

    partition: TopicPartition
    assigned_at: float
    open: bool = False
    live: bool = True
    paused: bool = True
    committed: int = 0
    restored: Restored = field(default_factory=lambda: Restored(0))
    progress: Progress = field(default_factory=lambda: Progress(0, 0))
    saved: tuple[int, str] = (-1, "")
    outcome_ends: dict[int, int] = field(default_factory=dict)
    queues: dict[bytes, deque[Item]] = field(default_factory=dict)
    unreserved: list[tuple[int, bytes]] = field(default_factory=list)
    ahead: int = 0
    halted: str = ""


@dataclass(frozen=True)
class Limits:
    """What a lane may use; see services.bus.settings for the meaning of each."""

    in_flight: int = 200
    session_timeout_ms: int = 6000
    grace_s: float = 25.0


class Delivery(ConsumerRebalanceListener, Generic[E]):  # type: ignore[misc]  # aiokafka ships no types
    """Runs one lane: `await run()` until `await stop()`."""

    def __init__(
        self,
        lane: Lane[E],
        *,
        bootstrap: str,
        codec: Codec,
        publisher: Publisher,
        clock: Clock,
        limits: Limits,
        index: OutcomeIndex | None,
    ) -> None:
        self.lane = lane
        self._publisher = publisher
        self._clock = clock
        self._limits = limits
        self._index = index
        self._attempts = Attempts(lane, codec, publisher, clock, index)
        self._topic = lane.reads.TOPIC
        self._bootstrap = bootstrap
        self._owned: dict[int, Owned] = {}
        self._ready: deque[tuple[Owned, bytes]] = deque()
        self._busy: set[tuple[int, bytes]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._in_flight_most = min(limits.in_flight, lane.in_flight or limits.in_flight)
        self._commit_wanted = asyncio.Event()
        self._committing = asyncio.Lock()
        self._stopping = False
        self._dead_in_a_row = 0
        self._failure: Exception | None = None
        self._progressed_at = clock.monotonic()

    # -- life ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Runs until `stop` or a fault that only a new process mends (raised)."""
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            group_id=self.lane.group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            partition_assignment_strategy=(RangePartitionAssignor,),
            session_timeout_ms=self._limits.session_timeout_ms,
            heartbeat_interval_ms=self._limits.session_timeout_ms // 4,
            max_poll_interval_ms=300_000,
            fetch_max_wait_ms=100,
        )
        self._admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        await self._admin.start()
        if self._index is not None:
            await self._index.start()
        self._consumer.subscribe([self._topic], listener=self)
        await self._consumer.start()
        try:
            async with asyncio.TaskGroup() as group:
                fetching = group.create_task(self._fetch())
                others = [group.create_task(self._commit_regularly()), group.create_task(self._watch())]
                if self._index is not None:
                    others.append(group.create_task(self._index.follow()))
                await fetching
                await self._drain(list(self._owned.values()), self._limits.grace_s)
                for other in others:
                    other.cancel()
            await self._commit(list(self._owned.values()))
        finally:
            for owned in self._owned.values():
                owned.live = False
            for closing in (
                self._consumer.stop,
                self._admin.close,
                *([self._index.stop] if self._index else []),
            ):
                with contextlib.suppress(KafkaError, TimeoutError):
                    async with asyncio.timeout(COMMIT_LIMIT_S):
                        await closing()

    def stop(self) -> None:
        """Ends fetching and dispatch; `run` then finishes what is in flight, commits and returns."""
        self._stopping = True

    def owns(self, partition: int) -> bool:
        """Whether this process has that partition of the topic now."""
        owned = self._owned.get(partition)
        return owned is not None and owned.open and owned.live

    @property
    def not_ready(self) -> str:
        """Why the lane does not run, or ''."""
        halted = [f"partition {n}: {o.halted}" for n, o in sorted(self._owned.items()) if o.halted]
        waiting = [n for n, o in self._owned.items() if not o.open and not o.halted]
        return "; ".join(halted) or (
            f"reading the commits of partitions {sorted(waiting)}" if waiting else ""
        )

    # -- assignment ------------------------------------------------------------------------------------

    async def on_partitions_assigned(self, assigned: list[TopicPartition]) -> None:
        for partition in assigned:
            owned = Owned(partition, self._clock.monotonic())
            self._owned[partition.partition] = owned
            self._consumer.pause(partition)
            self._start(self._restore(owned))

    async def on_partitions_revoked(self, revoked: list[TopicPartition]) -> None:
        given_up = [self._owned[p.partition] for p in revoked if p.partition in self._owned]
        for owned in given_up:
            owned.live = False
        await self._drain(given_up, REVOKED_DRAIN_S)
        await self._commit(given_up)
        for owned in given_up:
            if self._owned.get(owned.partition.partition) is owned:
                del self._owned[owned.partition.partition]

    async def _restore(self, owned: Owned) -> None:
        """Reads what the last commit says; nothing of the partition is dispatched before."""
        while owned.live and not self._stopping:
            try:
                async with asyncio.timeout(COMMIT_LIMIT_S):
                    await self._read_commit(owned)
                return
            except (KafkaError, TimeoutError) as error:
                log.warning("commit_not_read", lane=self.lane.name, error=type(error).__name__)
                await asyncio.sleep(0.5)

    async def _read_commit(self, owned: Owned) -> None:
        partition = owned.partition
        stored = await self._admin.list_consumer_group_offsets(self.lane.group, partitions=[partition])
        begin = (await self._consumer.beginning_offsets([partition]))[partition]
        end = (await self._consumer.end_offsets([partition]))[partition]
        committed = stored[partition].offset
        if committed < 0:
            self._halt(owned, "the group's offset is lost; see the runbook on lost offsets")
            return
        if not begin <= committed <= end:
            self._halt(owned, f"offset {committed} is outside the log ({begin} to {end})")
            return
        if self._index is not None:
            owned.outcome_ends = await self._index.ends()
        restored = decode_metadata(stored[partition].metadata or "", committed, end)
        owned.progress = Progress.resume(committed, restored)
        owned.committed, owned.restored = committed, restored
        owned.saved = (committed, stored[partition].metadata or "")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INDEX_GRACE_S):
                while not self._settled_known(owned):  # noqa: ASYNC110 - the index has no event for this
                    await asyncio.sleep(0.02)
        log.info(
            "partition_opened",
            lane=self.lane.name,
            partition=partition.partition,
            committed=committed,
            in_doubt=restored.reserved - committed - len(restored.done),
            index_whole=self._settled_known(owned),
        )
        owned.open = owned.live

    def _halt(self, owned: Owned, reason: str) -> None:
        owned.halted = reason
        self._consumer.pause(owned.partition)
        # never read from there: without a position every fetch of the other partitions would fail
        self._consumer.seek(owned.partition, 0)
        metrics.HALTED.labels(self.lane.name).set(sum(bool(o.halted) for o in self._owned.values()))
        log.error("partition_halted", lane=self.lane.name, partition=owned.partition.partition, reason=reason)

    def _settled_known(self, owned: Owned) -> bool:
        """The index has read every outcome that existed when the partition came to us."""
        return self._index is None or self._index.passed(owned.outcome_ends)

    # -- fetching --------------------------------------------------------------------------------------

    async def _fetch(self) -> None:
        while not self._stopping:
            if self._failure is not None:
                raise self._failure
            self._regulate()
            try:
                batches = await self._consumer.getmany(timeout_ms=100, max_records=WINDOW)
            except OffsetOutOfRangeError as error:
                for partition in error.args[0]:
                    self._halt_number(partition.partition, "its records are gone from the log")
                continue
            except NoOffsetForPartitionError:
                await asyncio.sleep(0.1)  # the restore finds the same and halts it by name
                continue
            for partition, records in batches.items():
                owned = self._owned.get(partition.partition)
                if owned is not None and owned.live and not owned.paused:
                    self._accept(owned, records)
            self._dispatch()

    def _halt_number(self, number: int, reason: str) -> None:
        if number in self._owned:
            self._halt(self._owned[number], reason)

    def _regulate(self) -> None:
        """Opens what has been restored, pauses what is full, resumes what has room; between two fetches."""
        for owned in self._owned.values():
            if not owned.open or not owned.live or owned.halted:
                continue
            if owned.paused and len(owned.progress.unfinished) < WINDOW // 2:
                # also drops what was fetched before the commit was read, or while it was full
                self._consumer.seek(owned.partition, owned.progress.next)
                self._consumer.resume(owned.partition)
                owned.paused = False
            elif not owned.paused and len(owned.progress.unfinished) >= WINDOW:
                self._consumer.pause(owned.partition)
                owned.paused = True

    def _accept(self, owned: Owned, records: list[ConsumerRecord[bytes, bytes]]) -> None:
        settled_known = self._settled_known(owned)
        for record in records:
            if record.offset < owned.progress.next:
                continue
            owned.progress.see(record.offset)
            if record.offset in owned.restored.done:
                continue
            item = Item(
                topic=record.topic,
                partition=record.partition,
                offset=record.offset,
                key=record.key or b"",
                value=record.value,
                taken_at=datetime.fromtimestamp(record.timestamp / 1000, UTC),
                headers=tuple(record.headers),
                in_doubt=owned.restored.in_doubt(record.offset) or not settled_known,
                believe_from=owned.assigned_at,
            )
            queue = owned.queues.get(item.key)
            if queue is None:
                owned.queues[item.key] = deque((item,))
                self._ready.append((owned, item.key))
            else:
                queue.append(item)
        metrics.UNFINISHED.labels(self.lane.name).set(
            sum(len(o.progress.unfinished) for o in self._owned.values())
        )

    # -- dispatch --------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Starts an attempt for each key that is ready, as far as the limit and the reservation allow."""
        postponed: list[tuple[Owned, bytes]] = []
        while self._ready and self._in_flight < self._in_flight_most and not self._stopping:
            owned, key = self._ready.popleft()
            if not owned.live:
                continue
            if owned.queues[key][0].offset >= owned.progress.reserved:
                heappush(owned.unreserved, (owned.queues[key][0].offset, key))
            elif (owned.partition.partition, key) in self._busy:  # an earlier assignment's call still runs
                postponed.append((owned, key))
            else:
                self._busy.add((owned.partition.partition, key))
                self._in_flight += 1
                owned.progress.send(owned.queues[key][0].offset)
                self._start(self._work(owned, key))
            self._want_reservation(owned)
        self._ready.extend(postponed)
        metrics.IN_FLIGHT.labels(self.lane.name).set(self._in_flight)

    def _want_reservation(self, owned: Owned) -> None:
        """Asks for the next reservation when half of this one is used and records wait beyond it."""
        if owned.unreserved and owned.progress.sent + owned.ahead // 2 >= owned.progress.reserved:
            self._commit_wanted.set()

    async def _work(self, owned: Owned, key: bytes) -> None:
        item = owned.queues[key][0]
        began = self._clock.monotonic()
        try:
            result = await self._attempt(item)
        finally:
            self._in_flight -= 1
            self._busy.discard((owned.partition.partition, key))
        self._progressed_at = self._clock.monotonic()
        metrics.ATTEMPT_SECONDS.labels(self.lane.name).observe(self._progressed_at - began)
        if isinstance(result, Later):
            asyncio.get_running_loop().call_later(result.delay_s, self._make_ready, owned, key)
        else:
            self._finish(owned, key, item, result.state)
        self._dispatch()

    def _make_ready(self, owned: Owned, key: bytes) -> None:
        self._ready.append((owned, key))
        self._dispatch()

    def _finish(self, owned: Owned, key: bytes, item: Item, state: str) -> None:
        """The one way out of the lane for a record, however it ended."""
        biller = item.event.biller if item.event is not None else "?"
        metrics.SETTLED.labels(self.lane.name, biller, state).inc()
        owned.progress.finish(item.offset)
        queue = owned.queues[key]
        queue.popleft()
        if queue:
            self._ready.append((owned, key))
        else:
            del owned.queues[key]

    async def _attempt(self, item: Item) -> Done | Later:
        try:
            result = await self._attempts.attempt(item)
        except Undecodable as error:
            return await self._bury(item, str(error))
        self._dead_in_a_row = 0
        return result

    async def _bury(self, item: Item, reason: str) -> Done | Later:
        """To the dead letters, acknowledged, before the offset counts as done."""
        origin = {"topic": item.topic, "partition": str(item.partition), "offset": str(item.offset)}
        headers = [*item.headers, *((f"billbus_origin_{k}", v.encode()) for k, v in origin.items())]
        headers += [("billbus_reason", reason.encode()), ("billbus_lane", self.lane.name.encode())]
        try:
            await self._publisher.publish_raw(f"{item.topic}.dlq", item.key, item.value, headers)
        except NotAcknowledged:
            return Later(0.5)
        metrics.DEAD_LETTERS.labels(self.lane.name).inc()
        log.error("dead_letter", lane=self.lane.name, **origin, reason=reason)
        self._dead_in_a_row += 1
        if self._dead_in_a_row >= DEAD_LETTERS_IN_A_ROW:
            self._failure = TooManyDeadLetters(
                f"{self.lane.name}: {self._dead_in_a_row} records in a row are undecodable; check the schema"
            )
        return Done("dead_letter")

    # -- commits ---------------------------------------------------------------------------------------

    async def _commit_regularly(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COMMIT_EVERY_S):
                    await self._commit_wanted.wait()
            await asyncio.sleep(COMMIT_PAUSE_S)  # lets one request carry what many keys want
            self._commit_wanted.clear()
            await self._commit([owned for owned in self._owned.values() if owned.live])
            self._dispatch()

    async def _commit(self, partitions: list[Owned]) -> None:
        """One request at a time; what the broker does not take stays dirty and goes again."""
        async with self._committing:
            ahead = max(2 * self._in_flight_most // max(len(self._owned), 1), LEAST_AHEAD)
            taken = {}
            for owned in partitions:
                if owned.open:
                    owned.ahead = ahead
                    taken[owned.partition] = (owned, owned.progress.snapshot(ahead))
            changed = {
                partition: OffsetAndMetadata(snapshot.position, snapshot.metadata)
                for partition, (owned, snapshot) in taken.items()
                if owned.saved != (snapshot.position, snapshot.metadata)
            }
            if not changed:
                return
            try:
                async with asyncio.timeout(COMMIT_LIMIT_S):
                    await self._consumer.commit(changed)
            except (KafkaError, TimeoutError) as error:
                metrics.COMMIT_FAILURES.labels(self.lane.name).inc()
                log.warning("commit_failed", lane=self.lane.name, error=type(error).__name__)
                return
            for partition in changed:
                owned, snapshot = taken[partition]
                owned.saved = (snapshot.position, snapshot.metadata)
                owned.progress.acknowledge(snapshot)
                while owned.unreserved and owned.unreserved[0][0] < owned.progress.reserved:
                    self._ready.append((owned, heappop(owned.unreserved)[1]))

    # -- endings ---------------------------------------------------------------------------------------

    async def _drain(self, partitions: list[Owned], limit_s: float) -> None:
        numbers = {owned.partition.partition for owned in partitions}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while any(number in numbers for number, _ in self._busy):  # noqa: ASYNC110 - a set has no event
                    await asyncio.sleep(0.01)

    async def _watch(self) -> None:
        """Ends the process when there is work and nothing moves."""
        while True:
            await asyncio.sleep(1.0)
            for owned in self._owned.values():
                if owned.open:
                    end = self._consumer.highwater(owned.partition) or owned.progress.next
                    lag = max(end - owned.progress.position, 0)
                    metrics.LAG.labels(self.lane.name, str(owned.partition.partition)).set(lag)
            heads = [queue[0].taken_at for owned in self._owned.values() for queue in owned.queues.values()]
            oldest_s = (self._clock.now() - min(heads)).total_seconds() if heads else 0.0
            metrics.OLDEST_SECONDS.labels(self.lane.name).set(oldest_s)
            idle_s = self._clock.monotonic() - self._progressed_at
            if self._in_flight and idle_s > STALLED_AFTER_S:
                raise Stalled(
                    f"{self.lane.name}: nothing ended for {idle_s:.0f} s with {self._in_flight} in flight"
                )

    def _start(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._failure = error
