"""The delivery lane: every event of a topic to its partner, in order within a key, many keys at a time.

Read it as one loop: `_fetch` takes records of the partitions we own, `_dispatch` starts one attempt for
each key that is free, `_work` ends or postpones it. How one record is brought to its end is in `doubt`; what
is done and what may be sent next is written in `commits` (what a commit says: `progress`) and read again in
`takeover`; who has a partition's records is in `partition`, who goes behind a cursor of its own in
`cursors`, who is sent next in `shares`, and the place in the consumer group in `membership`.
"""

import asyncio
import contextlib
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from heapq import heappop, heappush
from typing import Any, Generic

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError
from prometheus_client import Counter

from services.bus import metrics
from services.bus.clock import Clock
from services.bus.closing import end_tasks
from services.bus.codec import Codec, Undecodable
from services.bus.commits import Commits
from services.bus.cursors import WINDOW, Cursors
from services.bus.doubt import Answered, Attempts, Done, Item, Later
from services.bus.lane import E, Lane
from services.bus.membership import Broker, Gone, Record
from services.bus.outcomes import OutcomeIndex
from services.bus.partition import Owned, Stretch, Ticket, biller_of
from services.bus.pauses import Pauses
from services.bus.progress import SPAN, Progress, Restored
from services.bus.publisher import NotAcknowledged, Publisher
from services.bus.replayed import act_of, origin_of
from services.bus.shares import Shares
from services.bus.takeover import Takeover
from services.bus.watchdog import Watchdog

log = structlog.get_logger()

FETCH_MOST = WINDOW
"""Records taken at a time: one fetch must not fill a partition far beyond its window, or whoever is first in
it looks as if it held the others up."""
COMMIT_LIMIT_S = 5.0
REVOKED_DRAIN_S, REVOKED_COMMIT_S = 1.0, 1.0
LONGEST_WAIT_S = 60.0
"""Whoever waits is looked at so often, as a sign of life; a partner's patience may be longer."""
DEAD_LETTERS_IN_A_ROW = 100
"""So many undecodable records one after another mean that the fault is ours."""


class TooManyDeadLetters(Exception):
    """Record after record cannot be decoded: a wrong schema or topic, not bad records."""


@lru_cache(maxsize=4096)
def settled(lane: str, biller: str, state: str) -> Counter:
    """The counter of one way of ending."""
    return metrics.SETTLED.labels(lane, biller, state)


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
        pauses: Pauses | None = None,
    ) -> None:
        self.lane = lane
        self._broker = broker
        self._publisher = publisher
        self._clock = clock
        self._limits = limits
        self._index = index
        self._attempts = Attempts(lane, codec, publisher, clock, index, pauses or Pauses())
        self._cursors = Cursors(
            lane.name, broker, clock, billers, away=self._attempts.away, start=self._start,
            enqueue=self._enqueue, release=self._release, moved=self._moved, halt=self._halt,
        )  # fmt: skip
        self._shares = Shares(min(limits.in_flight, lane.in_flight or limits.in_flight))
        self._owned: dict[TopicPartition, Owned] = {}
        self._watchdog = Watchdog(
            lane.name, lane.reads.TOPIC, broker, clock, self._owned.values, retention_s or {}
        )
        self._commits = Commits(
            lane.name, broker, self._cursors, clock, self._shares.most,
            covered=self._covered, committed=self._watchdog.committed,
        )  # fmt: skip
        self._takeover = Takeover(
            lane.name, broker, self._cursors, self._commits, index, exact=lane.exact, halt=self._halt
        )
        self._busy: dict[tuple[int, bytes], list[tuple[Owned, bytes]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False
        self._dead_in_a_row = 0
        self._failure: Exception | None = None
        # looked up once: a label costs more than what it counts
        self._flying = metrics.IN_FLIGHT.labels(lane.name)
        self._attempted = metrics.ATTEMPT_SECONDS.labels(lane.name).observe

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
                    group.create_task(self._commits.regularly(self._owned)),
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
                    await self._commits.write(list(self._owned.values()), last=True)
        finally:
            self.stop()
            for owned in self._owned.values():
                owned.live = False
            # what the grace was too short for is in doubt; a takeover just begun would connect again
            await end_tasks(self._tasks)
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
        if self._stopping:
            return  # we leave: whoever gets them next opens them
        now = self._clock.monotonic()
        taken = []
        for partition in partitions:
            nothing = Stretch("", Progress(0, 0), Restored(0))
            self._owned[partition] = Owned(partition, ticket, now, nothing)
            taken.append(self._owned[partition])
        self._start(self._takeover.open(taken))

    async def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Bounded, well within the time in which the group waits for us."""
        given_up = [self._owned[partition] for partition in partitions if partition in self._owned]
        for owned in given_up:
            owned.live = False
        await self._drain(given_up, REVOKED_DRAIN_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REVOKED_COMMIT_S):
                await self._commits.write(given_up, last=True)
        for owned in given_up:
            for stretch in owned.stretches:
                waited, stretch.unreserved = stretch.unreserved, []
                self._moved(owned, [key for _, key in waited])
            if self._owned.get(owned.partition) is owned:
                del self._owned[owned.partition]

    def _ours(self, owned: Owned) -> bool:
        """Whether it is certain, now, that nobody else has the partition."""
        return owned.live and self._clock.monotonic() < self._broker.certain_until

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
            if not owned.paused and not owned.cursors and not owned.suspended:
                progress.skip_to(self._broker.position(owned.partition))
            far = progress.next - progress.position if progress.unfinished else 0
            room = owned.main.held < WINDOW // 2 and far < SPAN * 3 // 4
            if owned.paused and room and not owned.behind:
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
            if not main.progress.has_room(record.offset):
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
            act=act_of(record),
        )
        if owned.enqueue(item):
            self._ready(owned, key)

    # -- dispatch --------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        """Starts an attempt for each key that is ready, as far as the shares and the reservations allow."""
        if self._stopping:
            return
        for owned, key in self._shares.take():
            self._try(owned, key)
        self._flying.set(self._shares.in_flight)

    def _ready(self, owned: Owned, key: bytes) -> None:
        self._shares.add(biller_of(key), (owned, key), owned.waits_since(key))

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
        self._commits.want()

    def _covered(self, owned: Owned, stretch: Stretch) -> None:
        """Goes on with what the newest commit covers."""
        progress = stretch.progress
        while stretch.unreserved and progress.may_send(stretch.unreserved[0][0]):
            _, key = heappop(stretch.unreserved)
            if progress.exact:
                self._try(owned, key)
            else:
                self._ready(owned, key)
        self._dispatch()

    def _moved(self, owned: Owned, keys: Collection[bytes]) -> None:
        """What waited for a commit of one stretch is another's business now, or nobody's."""
        for key in keys if self.lane.exact else ():
            self._shares.free(biller_of(key))
        self._release(owned, keys)

    def _release(self, owned: Owned, keys: Collection[bytes]) -> None:
        for key in keys:
            self._ready(owned, key)
        self._dispatch()

    def _begin(self, owned: Owned, item: Item) -> None:
        self._busy[owned.partition.partition, item.key] = []
        item.stretch.progress.send(item.at)
        self._start(self._work(owned, item))

    async def _work(self, owned: Owned, item: Item) -> None:
        """One attempt. The place is free once the partner has answered, the key once the outcome is told."""
        began = self._clock.monotonic()
        try:
            try:
                result = await self._attempt(owned, item)
            finally:
                self._shares.free(item.biller)
            self._attempted(self._clock.monotonic() - began)
            if isinstance(result, Answered):
                self._dispatch()
                result = await self._attempts.tell(item)
        finally:
            for waiting, key in self._busy.pop((owned.partition.partition, item.key)):
                self._ready(waiting, key)
        self._watchdog.moved()
        if isinstance(result, Later):
            delay_s = min(result.delay_s, LONGEST_WAIT_S)
            asyncio.get_running_loop().call_later(delay_s, partial(self._release, owned, (item.key,)))
        else:
            self._finish(owned, item, result.state)
        self._dispatch()

    def _finish(self, owned: Owned, item: Item, state: str) -> None:
        """The one way out of the lane for a record, however it ended."""
        settled(self.lane.name, item.biller, state).inc()
        item.stretch.progress.finish(item.at)
        queue = owned.queues[item.key]
        queue.popleft()
        if queue:
            self._ready(owned, item.key)
        else:
            del owned.queues[item.key]

    async def _attempt(self, owned: Owned, item: Item) -> Done | Later | Answered:
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
