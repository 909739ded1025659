"""The delivery lane: every event of a topic to its partner, in order within a key, many keys at a time.

Read it as one loop: `_fetch` takes records of the partitions we own, `_dispatch` starts one attempt for
each key that is free, `_work` ends or postpones it, `_commit` writes what is done and reserves what may be
sent next. How one record is brought to its end is in `doubt`, what a commit says in `progress`, who has a
partition's records in `partition`, who goes behind a cursor of its own in `cursors`, who is sent next in
`shares`, and the place in the consumer group in `membership`.
"""

import asyncio
import contextlib
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from heapq import heappop, heappush
from typing import Any, Generic

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from services.bus import metrics
from services.bus.clock import Clock
from services.bus.codec import Codec, Undecodable
from services.bus.cursors import WINDOW, Cursors
from services.bus.doubt import Attempts, Done, Item, Later
from services.bus.landmark import why_another_log
from services.bus.lane import E, Lane
from services.bus.membership import NO_OFFSET, Broker, Gone, Record
from services.bus.outcomes import OutcomeIndex
from services.bus.partition import Commit, Owned, Stretch, Ticket, biller_of
from services.bus.progress import SPAN, Progress, Restored, Snapshot, decode_metadata
from services.bus.publisher import NotAcknowledged, Publisher
from services.bus.replayed import origin_of
from services.bus.shares import Shares
from services.bus.watchdog import Watchdog

log = structlog.get_logger()

FETCH_MOST = 2000
COMMIT_EVERY_S, COMMIT_PAUSE_S, COMMIT_LIMIT_S = 0.25, 0.005, 5.0
LEAST_AHEAD = 4
REVOKED_DRAIN_S, REVOKED_COMMIT_S = 1.0, 1.0
INDEX_GRACE_S = 1.0
LONGEST_WAIT_S = 60.0
"""Whoever waits is looked at so often, as a sign of life; a partner's patience may be longer."""
DEAD_LETTERS_IN_A_ROW = 100
"""So many undecodable records one after another mean that the fault is ours."""


class TooManyDeadLetters(Exception):
    """Record after record cannot be decoded: a wrong schema or topic, not bad records."""


@dataclass(frozen=True)
class Limits:
    """What a lane may use; see services.bus.settings for the meaning of each."""

    in_flight: int = 200
    grace_s: float = 25.0


class Delivery(Generic[E]):
    """Runs one lane: `await run()` until `stop()`."""

    def __init__(
        self,
        lane: Lane[E],
        *,
        broker: Broker,
        codec: Codec,
        publisher: Publisher,
        clock: Clock,
        limits: Limits,
        index: OutcomeIndex | None,
        billers: Collection[str] = (),
        retention_s: Mapping[str, float] | None = None,
    ) -> None:
        self.lane = lane
        self._broker = broker
        self._publisher = publisher
        self._clock = clock
        self._limits = limits
        self._index = index
        self._attempts = Attempts(lane, codec, publisher, clock, index)
        self._cursors = Cursors(
            lane.name,
            broker,
            clock,
            billers,
            away=self._attempts.away,
            start=self._start,
            enqueue=self._enqueue,
            release=self._release,
            halt=self._halt,
        )
        self._owned: dict[TopicPartition, Owned] = {}
        self._shares = Shares(min(limits.in_flight, lane.in_flight or limits.in_flight))
        self._busy: dict[tuple[int, bytes], list[tuple[Owned, bytes]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._commit_wanted = asyncio.Event()
        self._committing = asyncio.Lock()
        self._stopping = False
        self._dead_in_a_row = 0
        self._failure: Exception | None = None
        self._watchdog = Watchdog(
            lane.name, lane.reads.TOPIC, broker, clock, self._owned.values, retention_s or {}
        )

    # -- life ------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Runs until `stop` or a fault that only a new process mends (raised)."""
        if self._index is not None:
            await self._index.start()
        await self._broker.join(self)
        try:
            async with asyncio.TaskGroup() as group:
                fetching = group.create_task(self._fetch())
                others = [
                    group.create_task(self._commit_regularly()),
                    group.create_task(self._watchdog.run()),
                ]
                if self._index is not None:
                    others.append(group.create_task(self._index.follow()))
                await fetching
                await self._drain(self._owned.values(), self._limits.grace_s)
                for other in others:
                    other.cancel()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COMMIT_LIMIT_S):
                    await self._commit(list(self._owned.values()))
        finally:
            for owned in self._owned.values():
                owned.live = False
            await self._broker.leave()
            if self._index is not None:
                await self._index.stop()

    def stop(self) -> None:
        """Ends fetching and dispatch; `run` then finishes what is in flight, commits and returns."""
        self._stopping = True

    def owns(self, number: int) -> bool:
        """Whether this process has that partition of the topic now."""
        owned = self._owned.get(TopicPartition(self.lane.reads.TOPIC, number))
        return owned is not None and owned.open and owned.live

    @property
    def not_ready(self) -> str:
        """Why the lane does not run, or ''."""
        halted = [
            f"{'' if p.topic == self.lane.reads.TOPIC else p.topic + ' '}partition {p.partition}: {o.halted}"
            for p, o in sorted(self._owned.items())
            if o.halted
        ]
        waiting = sorted({p.partition for p, o in self._owned.items() if not o.open and not o.halted})
        if halted:
            return "; ".join(halted)
        return f"reading the commits of partitions {waiting}" if waiting else self._watchdog.not_well

    # -- ownership -------------------------------------------------------------------------------------

    def assigned(self, partitions: Collection[TopicPartition], ticket: Ticket) -> None:
        now = self._clock.monotonic()
        taken = []
        for partition in partitions:
            nothing = Stretch("", Progress(0, 0), Restored(0))
            self._owned[partition] = Owned(partition, ticket, now, nothing)
            taken.append(self._owned[partition])
        self._start(self._restore(taken))

    async def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Bounded, well within the time in which the group waits for us."""
        given_up = [self._owned[partition] for partition in partitions if partition in self._owned]
        for owned in given_up:
            owned.live = False
        await self._drain(given_up, REVOKED_DRAIN_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REVOKED_COMMIT_S):
                await self._commit(given_up)
        for owned in given_up:
            if self._owned.get(owned.partition) is owned:
                del self._owned[owned.partition]

    def _ours(self, owned: Owned) -> bool:
        """Whether it is certain, now, that nobody else has the partition."""
        return owned.live and self._clock.monotonic() < self._broker.certain_until

    async def _restore(self, taken: list[Owned]) -> None:
        """Reads what the last commits say; nothing of the partitions is dispatched before."""
        while any(owned.live for owned in taken) and not self._stopping:
            try:
                await self._read_commits([owned for owned in taken if owned.live])
                return
            except (KafkaError, TimeoutError) as error:
                log.warning("commits_not_read", lane=self.lane.name, error=type(error).__name__)
                await asyncio.sleep(0.5)

    async def _read_commits(self, taken: list[Owned]) -> None:
        partitions = [owned.partition for owned in taken]
        stored = await self._broker.commits(partitions)
        edges = await self._broker.edges(partitions)
        outcome_ends = await self._index.ends() if self._index is not None else {}
        found = await asyncio.gather(
            *(
                self._place(owned, stored.get(owned.partition, (NO_OFFSET, "")), *edges[owned.partition])
                for owned in taken
            )
        )
        restored = {owned: place for owned, place in zip(taken, found, strict=True) if place is not None}
        for owned in restored:
            owned.outcome_ends = outcome_ends
        ends = {owned: edges[owned.partition][1] for owned in restored}
        await self._cursors.restore(list(restored), restored, ends)
        await self._committed_anew(list(restored))
        await self._index_caught_up(outcome_ends)
        for owned in restored:
            owned.open = owned.live
            log.info(
                "partition_opened",
                lane=self.lane.name,
                topic=owned.partition.topic,
                partition=owned.partition.partition,
                committed=owned.main.progress.position,
                in_doubt=max(owned.main.progress.reserved - owned.main.progress.position, 0),
                behind_cursors=len(owned.cursors),
            )

    async def _place(self, owned: Owned, commit: Commit, begin: int, end: int) -> Restored | None:
        """Where the lane goes on with a partition; None where it is halted instead."""
        offset, metadata = commit
        found = decode_metadata(metadata, offset, end)
        if offset == NO_OFFSET:
            reason = "the group's offset is lost; see the runbook on lost offsets"
        elif not begin <= offset <= end:
            reason = f"offset {offset} is outside the log ({begin} to {end})"
        else:
            reason = await why_another_log(self._broker, owned.partition, found.landmark, begin, end)
        if reason:
            self._halt(owned, reason)
            return None
        owned.main = Stretch("", Progress.resume(offset, found, exact=self.lane.exact), found)
        owned.cursors.clear()
        owned.floors.clear()
        return found

    async def _committed_anew(self, taken: list[Owned]) -> None:
        """Nothing is sent before the commit names our generation: it tells a stale cursor from a true one."""
        await self._commit(taken)
        if any(owned.main.saved is None and owned.live and not owned.halted for owned in taken):
            raise KafkaError("the broker did not take the first commit")

    async def _index_caught_up(self, ends: Mapping[int, int]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INDEX_GRACE_S):
                while self._index is not None and not self._index.passed(ends):  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.02)

    def _halt(self, owned: Owned, reason: str) -> None:
        owned.halted = reason
        # never read from there: without a position every fetch of the other partitions would fail
        self._broker.resume(owned.partition, 0)
        self._broker.pause(owned.partition)
        metrics.HALTED.labels(self.lane.name).set(sum(bool(o.halted) for o in self._owned.values()))
        log.error("partition_halted", lane=self.lane.name, partition=owned.partition.partition, reason=reason)

    # -- fetching --------------------------------------------------------------------------------------

    async def _fetch(self) -> None:
        while not self._stopping:
            if self._failure is not None:
                raise self._failure
            self._regulate()
            try:
                batches = await self._broker.fetch(FETCH_MOST)
            except Gone as gone:
                for partition in gone.partitions:
                    if partition in self._owned:
                        self._halt(self._owned[partition], "its records are gone from the log")
                continue
            except KafkaError as error:
                log.warning("not_fetched", lane=self.lane.name, error=type(error).__name__)
                await asyncio.sleep(0.2)
                continue
            for partition, records in batches.items():
                owned = self._owned.get(partition)
                if owned is not None and owned.live and not owned.paused:
                    self._accept(owned, records)
            self._dispatch()

    def _regulate(self) -> None:
        """Opens what has been restored, pauses what is full, resumes what has room; between two fetches."""
        for owned in self._owned.values():
            if not owned.open or not owned.live or owned.halted:
                continue
            progress = owned.main.progress
            if not owned.paused:
                progress.skip_to(self._broker.position(owned.partition))
            far = progress.next - progress.position if progress.unfinished else 0
            if owned.paused and owned.main.held < WINDOW // 2 and far < SPAN * 3 // 4:
                # also drops what was fetched before the commit was read, or while it was full
                self._broker.resume(owned.partition, progress.next)
                owned.paused = False
            elif not owned.paused and (owned.main.held >= WINDOW or far >= SPAN):
                self._pause(owned)
            self._cursors.tend(owned, crowded=owned.main.held >= WINDOW // 2 or far > SPAN // 2)

    def _pause(self, owned: Owned) -> None:
        self._broker.pause(owned.partition)
        owned.paused = True

    def _accept(self, owned: Owned, records: Sequence[Record]) -> None:
        """Takes records of the main stretch, and passes those that are somebody else's."""
        main = owned.main
        for record in records:
            if record.offset < main.progress.next:
                continue
            if main.progress.unfinished and record.offset >= main.progress.position + SPAN:
                self._pause(owned)
                break
            if owned.owner_of(record.key or b"", record.offset) is main:
                self._enqueue(owned, main, record)
            else:
                main.progress.next = record.offset + 1
            main.progress.landmark = record.offset, record.timestamp
        metrics.UNFINISHED.labels(self.lane.name).set(
            sum(stretch.held for owned in self._owned.values() for stretch in owned.stretches)
        )

    def _enqueue(self, owned: Owned, stretch: Stretch, record: Record) -> None:
        stretch.progress.see(record.offset)
        if record.offset not in stretch.progress.unfinished:
            return  # done before we came
        origin = origin_of(record)
        key = record.key or b""
        item = Item(
            topic=origin.topic,
            partition=origin.partition,
            offset=origin.offset,
            key=key,
            value=record.value,
            taken_at=origin.taken_at,
            headers=tuple(record.headers),
            in_doubt=stretch.doubt.in_doubt(record.offset),
            believe_from=owned.assigned_at,
            at=record.offset,
            logged_at=record.timestamp,
            biller=biller_of(key),
            stretch=stretch,
            held_since=self._clock.monotonic(),
            outcome_ends=owned.outcome_ends,
        )
        if owned.enqueue(item):
            self._shares.add(item.biller, (owned, key))

    # -- dispatch --------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Starts an attempt for each key that is ready, as far as the shares and the reservations allow."""
        if self._stopping:
            return
        for owned, key in self._shares.take():
            self._try(owned, key)
        metrics.IN_FLIGHT.labels(self.lane.name).set(self._shares.in_flight)

    def _try(self, owned: Owned, key: bytes) -> None:
        """Begins with a key that has got a place, or gives the place back and says what the key waits for."""
        suspended = owned.suspended_scope(key)
        at_work = self._busy.get((owned.partition.partition, key))
        if owned.live and suspended is None and at_work is None:
            item = owned.queues[key][0]
            if item.stretch.progress.may_send(item.at):
                self._begin(owned, item)
            else:
                self._await_commit(item.stretch, item)
            return
        self._shares.free(biller_of(key))
        if owned.live and suspended is not None:
            owned.suspended[suspended].append(key)
        elif owned.live and at_work is not None:  # another topic's record of it, or an earlier assignment's
            at_work.append((owned, key))

    def _await_commit(self, stretch: Stretch, item: Item) -> None:
        """Until a commit covers it; one reserved by name keeps its place, so that no more are than fly."""
        heappush(stretch.unreserved, (item.at, item.key))
        if stretch.progress.exact:
            stretch.progress.wanted.add(item.at)
        else:
            self._shares.free(item.biller)
        self._commit_wanted.set()

    def _covered(self, owned: Owned, stretch: Stretch) -> None:
        """Goes on with what the newest commit covers."""
        progress = stretch.progress
        while stretch.unreserved and progress.may_send(stretch.unreserved[0][0]):
            _, key = heappop(stretch.unreserved)
            if progress.exact:
                self._try(owned, key)
            else:
                self._shares.add(biller_of(key), (owned, key))

    def _release(self, owned: Owned, keys: Collection[bytes]) -> None:
        for key in keys:
            self._shares.add(biller_of(key), (owned, key))
        self._dispatch()

    def _begin(self, owned: Owned, item: Item) -> None:
        self._busy[owned.partition.partition, item.key] = []
        item.stretch.progress.send(item.at)
        self._start(self._work(owned, item))

    async def _work(self, owned: Owned, item: Item) -> None:
        began = self._clock.monotonic()
        try:
            result = await self._attempt(owned, item)
        finally:
            self._shares.free(item.biller)
            for waiting, key in self._busy.pop((owned.partition.partition, item.key)):
                self._shares.add(item.biller, (waiting, key))
        self._watchdog.moved()
        metrics.ATTEMPT_SECONDS.labels(self.lane.name).observe(self._clock.monotonic() - began)
        if isinstance(result, Later):
            delay_s = min(result.delay_s, LONGEST_WAIT_S)
            asyncio.get_running_loop().call_later(delay_s, partial(self._release, owned, (item.key,)))
        else:
            self._finish(owned, item, result.state)
        self._dispatch()

    def _finish(self, owned: Owned, item: Item, state: str) -> None:
        """The one way out of the lane for a record, however it ended."""
        metrics.SETTLED.labels(self.lane.name, item.biller, state).inc()
        item.stretch.progress.finish(item.at)
        queue = owned.queues[item.key]
        queue.popleft()
        if queue:
            self._shares.add(item.biller, (owned, item.key))
        else:
            del owned.queues[item.key]

    async def _attempt(self, owned: Owned, item: Item) -> Done | Later:
        try:
            result = await self._attempts.attempt(item, partial(self._ours, owned))
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
            await self._publisher.publish_raw(f"{self.lane.reads.TOPIC}.dlq", item.key, item.value, headers)
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
            await self._commit([owned for owned in self._owned.values() if owned.live and owned.open])
            self._dispatch()

    async def _commit(self, partitions: list[Owned]) -> None:
        """One request at a time; what the broker does not take stays dirty and goes again."""
        async with self._committing:
            stretches = [
                (owned, stretch) for owned in partitions if not owned.halted for stretch in owned.stretches
            ]
            waiting = sum(stretch.held > 0 for _, stretch in stretches)
            ahead = max(2 * self._shares.most // max(waiting, 1), LEAST_AHEAD)
            dirty: list[tuple[Owned, Stretch, Snapshot]] = []
            for owned, stretch in stretches:
                snapshot = stretch.progress.snapshot(ahead, owned.ticket.generation)
                if stretch.saved != (snapshot.position, snapshot.metadata):
                    dirty.append((owned, stretch, snapshot))
            if not dirty:
                return
            cursors = [one for one in dirty if one[1].scope]
            main = [one for one in dirty if not one[1].scope]
            await asyncio.gather(self._commit_main(main), *(self._commit_cursor(*one) for one in cursors))

    async def _commit_main(self, dirty: list[tuple[Owned, Stretch, Snapshot]]) -> None:
        if not dirty:
            return
        commits: dict[TopicPartition, Commit] = {
            owned.partition: (snapshot.position, snapshot.metadata) for owned, _, snapshot in dirty
        }
        try:
            taken = await self._broker.commit(dirty[0][0].ticket, commits)
        except (KafkaError, TimeoutError) as error:
            taken = ()
            log.warning("commit_failed", lane=self.lane.name, error=type(error).__name__)
        self._watchdog.committed(len(taken) == len(commits))
        if len(taken) < len(commits):
            metrics.COMMIT_FAILURES.labels(self.lane.name).inc()
        for owned, stretch, snapshot in dirty:
            if owned.partition in taken:
                self._saved(owned, stretch, snapshot)

    async def _commit_cursor(self, owned: Owned, cursor: Stretch, snapshot: Snapshot) -> None:
        if await self._cursors.committed(owned, cursor.scope, (snapshot.position, snapshot.metadata)):
            self._saved(owned, cursor, snapshot)
            self._cursors.acknowledged(owned, cursor)

    def _saved(self, owned: Owned, stretch: Stretch, snapshot: Snapshot) -> None:
        stretch.saved = (snapshot.position, snapshot.metadata)
        stretch.progress.acknowledge(snapshot)
        self._covered(owned, stretch)

    # -- endings ---------------------------------------------------------------------------------------

    async def _drain(self, partitions: Collection[Owned], limit_s: float) -> None:
        numbers = {owned.partition.partition for owned in partitions}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while any(number in numbers for number, _ in self._busy):  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.01)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self._failure = error
