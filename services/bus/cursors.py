"""Who holds others up goes behind a cursor of its own: a biller that is away or slow, an account that fails.

Opened: the cursor's commit (first unfinished offset, what above it is done, what may have been sent) is
acknowledged under the group `<lane>.<scope>`; from then on the main lane passes its records. Drained: the
live topic is read again from there, this scope only. Closed: where it meets the lane it came from, that
offset is committed, and only from there the lane delivers the scope again. An open cursor is the whole
state: whoever takes the partition over reads it and goes on. Nothing is copied.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any

import structlog
from aiokafka.errors import KafkaError

from services.bus import metrics
from services.bus.clock import Clock
from services.bus.membership import Broker, Gone, Record
from services.bus.partition import Owned, Stretch, account_scope, biller_of
from services.bus.progress import SPAN, Progress, Restored, Snapshot, decode_metadata

log = structlog.get_logger()

WINDOW = 500
"""Unfinished records of one partition above which it is paused, whatever the lag."""
BILLERS_PART, OTHERS_PART = WINDOW // 4, WINDOW // 16
"""A biller with a quarter of the window is in the way of one with next to nothing in it."""
ACCOUNTS_PART = 16
"""Records of one account that are held behind a cursor of its own."""
NEARLY_EMPTY = 8
"""A cursor that has met the lane closes once it holds no more than this part of what it may."""
HELD_LONG_S, HELD_LONG_AWAY_S = 5.0, 0.5
"""Records of a biller that is merely busy get longer than those of one whose partner is away: a backlog that
moves is in nobody's way, and a cursor would read the topic twice."""
LOOK_EVERY_S = 0.25
"""Between two looks at a full partition for somebody in the way: each passes over all that it holds."""
READ_AT_ONCE = 500
RETRY_S = 0.25
LATE_S = 3.0
"""How late a commit may land whose connection broke: what the broker had read of it waits in its queue."""
MOST_CURSORS = 64
"""Of one partition; beyond that it is paused when it is full."""


class Cursors:
    """Opens, drains and closes the cursors of one lane.

    Args:
        billers: every biller there is; one alone is in nobody's way.
        away: whether a biller's partner is taken to be away.
        start: runs a coroutine as a task whose failure ends the lane.
        enqueue: takes a record into a stretch's queues.
        release: makes keys ready that had to wait.
        moved: the same for keys that waited for a commit of the stretch which they left.
        halt: stops a partition by name until an operator acts.
    """

    def __init__(
        self,
        lane: str,
        broker: Broker,
        clock: Clock,
        billers: Collection[str],
        *,
        away: Callable[[str], bool],
        start: Callable[[Coroutine[Any, Any, None]], None],
        enqueue: Callable[[Owned, Stretch, Record], None],
        release: Callable[[Owned, Collection[bytes]], None],
        moved: Callable[[Owned, Collection[bytes]], None],
        halt: Callable[[Owned, str], None],
    ) -> None:
        self._lane = lane
        self._broker = broker
        self._clock = clock
        self._billers = billers
        self._away = away
        self._start = start
        self._enqueue = enqueue
        self._release = release
        self._moved = moved
        self._halt = halt

    def tend(self, owned: Owned, crowded: bool) -> None:
        """Opens a cursor where somebody is in the way, feeds those that have room, closes those that met."""
        now = self._clock.monotonic()
        if crowded and now >= owned.look_at:
            owned.look_at = now + LOOK_EVERY_S
            self._open_each(owned, self._in_the_way(owned, now))
        for cursor in list(owned.cursors.values()):
            narrow = "." in cursor.scope
            room = ACCOUNTS_PART if narrow else BILLERS_PART
            if not narrow and cursor.held >= room:
                self._open_each(owned, self._failing_account(owned, cursor))
            if cursor.refilling or cursor.held > room // 2 or owned.follows_one_unread(cursor):
                continue
            if cursor.progress.next < owned.end_of(cursor):
                cursor.refilling = True
                self._start(self._refill(owned, cursor, room))
            elif (
                cursor.progress.until is None
                and cursor.held <= room // NEARLY_EMPTY
                and cursor.scope not in owned.suspended
                and owned.may_close(cursor)
            ):
                cursor.progress.until = cursor.progress.next = owned.parent_of(cursor.scope).progress.next
                owned.suspended[cursor.scope] = []  # until the commit that says so is acknowledged

    # -- who is in the way -----------------------------------------------------------------------------

    def _in_the_way(self, owned: Owned, now: float) -> list[str]:
        """The scopes that should go behind a cursor of their own, if any."""
        main = owned.main.progress
        if main.unfinished and main.next - main.position > SPAN // 2:
            item = next(i for queue in owned.queues.values() for i in queue if i.at == main.position)
            return self._not_yet(owned, [account_scope(item.key)])
        if failing := self._failing_account(owned, owned.main):
            return failing
        held = Counter(
            biller_of(key)
            for key, queue in owned.queues.items()
            for item in queue
            if item.stretch is owned.main
            and now - item.held_since > (HELD_LONG_AWAY_S if self._away(item.biller) else HELD_LONG_S)
        )
        full = [biller for biller, count in held.items() if count >= BILLERS_PART]
        others = [biller for biller in self._billers if held[biller] < OTHERS_PART]
        return self._not_yet(owned, full if others else [])

    def _failing_account(self, owned: Owned, stretch: Stretch) -> list[str]:
        """Of those whose first record fails while their biller's partner is there, the one with the most."""
        failing = {
            key: len(queue)
            for key, queue in owned.queues.items()
            if queue[0].stretch is stretch and queue[0].attempt > 1 and not self._away(queue[0].biller)
        }
        most = max(failing, key=lambda key: (failing[key], key), default=None)
        return self._not_yet(owned, [account_scope(most)]) if most is not None else []

    def _not_yet(self, owned: Owned, scopes: list[str]) -> list[str]:
        """Without those that are behind a cursor, or whose closed one is still being read."""
        return [
            scope
            for scope in scopes
            if scope not in owned.suspended
            and (scope not in owned.cursors or owned.cursors[scope].read_to_its_end)
        ]

    # -- opening ---------------------------------------------------------------------------------------

    def _open_each(self, owned: Owned, scopes: list[str]) -> None:
        for scope in scopes:
            if len(owned.cursors) + len(owned.suspended) < MOST_CURSORS:
                owned.suspended[scope] = []
                owned.opening.add(scope)
                self._start(self._open(owned, scope))

    async def _open(self, owned: Owned, scope: str) -> None:
        """Until it is acknowledged nothing of the scope is sent: what is sent later must be in it."""
        while owned.live:
            planned = owned.plan_cursor(scope)
            snapshot = planned.snapshot(0, owned.ticket.generation)
            if await self.committed(owned, scope, (snapshot.position, snapshot.metadata)):
                break
            await asyncio.sleep(RETRY_S)
        if not owned.live:
            return
        now = owned.plan_cursor(scope)
        now.reserved, now.named = snapshot.reserved, now.named & snapshot.named
        cursor = Stretch(scope, now, owned.parent_of(scope).doubt)
        cursor.saved = (snapshot.position, snapshot.metadata)
        cursor.again_at = self._clock.monotonic() + LATE_S
        self._moved(owned, owned.move_behind(cursor))
        owned.opening.discard(scope)
        self._release(owned, owned.suspended.pop(scope))
        metrics.CURSORS_OPENED.labels(self._lane, biller_of(scope.partition(".")[0].encode())).inc()
        log.warning(
            "cursor_opened",
            lane=self._lane,
            partition=owned.partition.partition,
            scope=scope,
            held=cursor.held,
        )

    async def committed(self, owned: Owned, scope: str, commit: tuple[int, str]) -> bool:
        try:
            return await self._broker.commit_cursor(scope, owned.partition, commit)
        except (KafkaError, TimeoutError) as error:
            metrics.COMMIT_FAILURES.labels(self._lane).inc()
            log.warning("commit_failed", lane=self._lane, scope=scope, error=type(error).__name__)
            return False

    # -- draining --------------------------------------------------------------------------------------

    async def _refill(self, owned: Owned, cursor: Stretch, room: int) -> None:
        """Reads on from where the cursor is, until it is full or has met the lane it came from."""
        most = room - cursor.held  # at first no more than fits: what is not taken has to be read again
        try:
            while owned.live and cursor.held < room and cursor.progress.next < owned.end_of(cursor):
                records = await self._broker.read(owned.partition, cursor.progress.next, most)
                most = min(2 * most, READ_AT_ONCE)  # much of it was not the cursor's
                if not owned.live or not self._take(owned, cursor, records, room):
                    return
        except (KafkaError, TimeoutError) as error:
            log.warning("cursor_not_read", lane=self._lane, scope=cursor.scope, error=type(error).__name__)
            await asyncio.sleep(RETRY_S)
        except Gone:
            self._halt(owned, f"records behind the cursor of {cursor.scope} are gone")
        finally:
            cursor.refilling = False

    def _take(self, owned: Owned, cursor: Stretch, records: Collection[Record], room: int) -> bool:
        """Takes what is the cursor's; False once there is no more room."""
        progress = cursor.progress
        end = owned.end_of(cursor)
        for record in records:
            if record.offset < progress.next:
                continue
            if record.offset >= end:
                progress.next = end
                break
            if owned.owner_of(record.key or b"", record.offset) is not cursor:
                progress.next = record.offset + 1
                continue
            if cursor.held >= room or not progress.has_room(record.offset):
                return False
            self._enqueue(owned, cursor, record)
        return True

    # -- closing ---------------------------------------------------------------------------------------

    def acknowledged(self, owned: Owned, cursor: Stretch, snapshot: Snapshot) -> None:
        """The broker has this commit of the cursor; one made before it closed does not close it."""
        if (
            snapshot.until is None
            or cursor.scope in owned.opening
            or owned.cursors.get(cursor.scope) is not cursor
        ):
            return
        if cursor.scope in owned.suspended:
            self._release(owned, owned.suspended.pop(cursor.scope))
        if cursor.over and snapshot.position >= snapshot.until and cursor.again_at is None:
            owned.cursors.pop(cursor.scope, None)
            owned.floors[cursor.scope] = snapshot.until
            log.info(
                "cursor_closed",
                lane=self._lane,
                partition=owned.partition.partition,
                scope=cursor.scope,
                at=snapshot.until,
            )

    # -- taking over -----------------------------------------------------------------------------------

    async def restore(self, main: Mapping[Owned, Restored], ends: Mapping[Owned, int]) -> None:
        """Reads the cursors of partitions that have just come to us, and makes them ours.

        Args:
            main: what the main commit of each partition says.
            ends: the end of each one's log.

        A cursor written under an older generation than the main commit came from an owner that had lost
        the partition: then all from its offset on is in doubt, as where the main commit cannot be read.
        Raises KafkaError or TimeoutError.
        """
        by_partition = {owned.partition: owned for owned in main}
        for scope in await self._broker.scopes():
            found = await self._broker.commits(by_partition.keys(), scope)
            for partition, (offset, metadata) in found.items():
                if offset < 0:
                    continue
                owned = by_partition[partition]
                if offset > ends[owned]:
                    self._halt(owned, f"the cursor of {scope} stands at {offset}, beyond the log's end")
                    continue
                restored = decode_metadata(metadata, offset, ends[owned])
                if restored.generation < main[owned].generation or not main[owned].readable:
                    restored = Restored(reserved=ends[owned])
                await self._resume(owned, scope, offset, restored)

    async def _resume(self, owned: Owned, scope: str, offset: int, restored: Restored) -> None:
        """Commits it under our generation, also one long closed: the next owner would take it for stale."""
        progress = Progress.resume(offset, restored, exact=owned.main.progress.exact)
        cursor = Stretch(scope, progress, restored)
        snapshot = progress.snapshot(0, owned.ticket.generation)
        if not await self.committed(owned, scope, (snapshot.position, snapshot.metadata)):
            raise KafkaError(f"the cursor of {scope} was not committed")
        cursor.saved = (snapshot.position, snapshot.metadata)
        cursor.again_at = self._clock.monotonic() + LATE_S
        if restored.until is not None and offset >= restored.until:
            owned.floors[scope] = restored.until
        else:
            owned.cursors[scope] = cursor
