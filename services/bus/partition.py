"""One assignment of one partition: which of its records wait, and whose business each of them is.

A record belongs to the main stretch, or to the cursor of its biller or of its account once that has gone
behind one. Cursors go by scope: the biller's slug, or slug and a hash of the key for one account.
"""

from collections import deque
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from heapq import heapify
from math import inf

from aiokafka import TopicPartition

from services.bus.doubt import Item
from services.bus.progress import SPAN, Progress, Restored

Commit = tuple[int, str]
"""A committed offset and its metadata."""


@lru_cache(maxsize=50_000)
def biller_of(key: bytes) -> str:
    """The biller in a record's key, `biller/account`."""
    return key.partition(b"/")[0].decode("utf-8", "replace")


@lru_cache(maxsize=50_000)
def account_scope(key: bytes) -> str:
    """The scope of one account: the number itself stays out of group names, which anyone may list."""
    return f"{biller_of(key)}.{blake2b(key, digest_size=6).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Ticket:
    """One joining of the group; commits made with it are refused once a later one counts."""

    generation: int
    member: str


@dataclass(slots=True, eq=False)
class Stretch:
    """Records with a commit of their own: the main one of a partition, or one behind a cursor.

    Attributes:
        scope: whose records; "" for the main stretch.
        doubt: what the commit of an earlier owner said.
        saved: what the broker has of it; None where nothing is known.
        unreserved: offset and key of records that wait until a commit covers them.
        refilling: its records are being read again.
        again_at: a commit of it had no answer and may yet land over a later one: from this monotonic
            instant on the newest is written once more.
    """

    scope: str
    progress: Progress
    doubt: Restored
    saved: Commit | None = None
    unreserved: list[tuple[int, bytes]] = field(default_factory=list)
    refilling: bool = False
    again_at: float | None = None

    def has(self, offset: int) -> bool:
        """Whether a record of its scope at this offset is its business."""
        return self.progress.until is None or offset < self.progress.until

    @property
    def held(self) -> int:
        """How many of its records wait or are at work."""
        return len(self.progress.unfinished)

    @property
    def read_to_its_end(self) -> bool:
        """Closed, and everything before that read."""
        return self.progress.until is not None and self.progress.next >= self.progress.until

    @property
    def over(self) -> bool:
        """Closed, and everything before that done."""
        return self.read_to_its_end and not self.progress.unfinished


@dataclass(slots=True, eq=False)
class Owned:
    """One assignment of one partition; another assignment is another object.

    Attributes:
        restored: its commits have been read, so ours do not rewind them.
        open: and ours are acknowledged, so its records may be dispatched.
        live: still ours as far as we know; once False it never turns true again.
        halted: why nothing of it is delivered until an operator acts.
        outcome_ends: what the index of outcomes must have read before it can say 'never attempted'.
        queues: by key, its records in order; the first one is at work or waits.
        cursors: by scope. `floors`: by scope, below which a closed cursor has done everything.
        suspended: scopes whose cursor is being opened or closed, with the keys that wait for it.
        opening: those of them that are being opened.
        look_at: monotonic instant of the next look for somebody who is in the way.
    """

    partition: TopicPartition
    ticket: Ticket
    assigned_at: float
    main: Stretch
    restored: bool = False
    open: bool = False
    live: bool = True
    paused: bool = True
    halted: str = ""
    outcome_ends: dict[int, int] = field(default_factory=dict)
    queues: dict[bytes, deque[Item]] = field(default_factory=dict)
    cursors: dict[str, Stretch] = field(default_factory=dict)
    floors: dict[str, int] = field(default_factory=dict)
    suspended: dict[str, list[bytes]] = field(default_factory=dict)
    opening: set[str] = field(default_factory=set)
    look_at: float = 0.0

    @property
    def stretches(self) -> list[Stretch]:
        return [self.main, *self.cursors.values()]

    @property
    def committable(self) -> list[Stretch]:
        """The stretches whose state may be written; the commit that opens a cursor anew must be its last."""
        if not self.restored or self.halted:
            return []
        return [stretch for stretch in self.stretches if stretch.scope not in self.opening]

    @property
    def behind(self) -> bool:
        """Whether a cursor came to us closed and is not yet read: what follows its records has to wait."""
        return any(c.progress.until is not None and not c.read_to_its_end for c in self.cursors.values())

    def follows_one_unread(self, cursor: Stretch) -> bool:
        """Whether a cursor that came to us closed, and ends before this one, is not yet read.

        Both may have records of one account, and the earlier ones come first.
        """
        ends = inf if cursor.progress.until is None else cursor.progress.until
        return any(
            other.progress.until is not None and other.progress.until < ends and not other.read_to_its_end
            for other in self.cursors.values()
        )

    def owner_of(self, key: bytes, offset: int) -> Stretch | None:
        """Whose business a record is; None where a closed cursor has done it already."""
        if not self.cursors and not self.floors:
            return self.main
        for scope in (account_scope(key), biller_of(key)):
            cursor = self.cursors.get(scope)
            if cursor is not None and cursor.has(offset):
                return cursor
            if offset < self.floors.get(scope, 0):
                return None
        return self.main

    def parent_of(self, scope: str) -> Stretch:
        """Who has the records of a scope while it is behind no cursor of its own."""
        biller, _, account = scope.partition(".")
        above = self.cursors.get(biller) if account else None
        return above if above is not None and above.progress.until is None else self.main

    def end_of(self, cursor: Stretch) -> int:
        """Up to where the records of a cursor's scope are its business for now."""
        until = cursor.progress.until
        return self.parent_of(cursor.scope).progress.next if until is None else until

    def enqueue(self, item: Item) -> bool:
        """Adds a record behind those of its key; True where it is the first."""
        queue = self.queues.get(item.key)
        if queue is None:
            self.queues[item.key] = deque((item,))
            return True
        queue.append(item)
        return False

    def waits_since(self, key: bytes) -> float:
        """The monotonic instant at which the first record of a key came; 0 where none waits."""
        queue = self.queues.get(key)
        return queue[0].held_since if queue else 0.0

    def in_doubt(self, stretch: Stretch) -> set[int] | None:
        """The offsets of a stretch for which a request may have left; None where they are too many."""
        progress, doubt = stretch.progress, stretch.doubt
        doubt_ends = max(doubt.reserved, max(doubt.only or (), default=-1) + 1)
        if doubt_ends > progress.position + SPAN:
            return None
        unread = {offset for offset in range(progress.next, doubt_ends) if doubt.in_doubt(offset)}
        held = {
            item.at
            for queue in self.queues.values()
            for item in queue
            if item.stretch is stretch and (item.in_doubt or item.outcome is not None)
        }
        return unread | held

    def suspended_scope(self, key: bytes) -> str | None:
        """The scope for whose cursor a key has to wait."""
        if not self.suspended:
            return None
        return next((s for s in (account_scope(key), biller_of(key)) if s in self.suspended), None)

    def waiting_of(self, scope: str) -> list[Item]:
        """The records of a scope in the order of the topic, without those behind a narrower cursor."""
        narrow = "." in scope
        found = [
            item
            for key, queue in self.queues.items()
            if (account_scope(key) if narrow else biller_of(key)) == scope
            for item in queue
            if narrow or "." not in item.stretch.scope
        ]
        return sorted(found, key=lambda item: item.at)

    def plan_cursor(self, scope: str) -> Progress:
        """The progress that a scope's cursor has now, taken from those that have its records."""
        parent, own = self.parent_of(scope), self.cursors.get(scope)
        items = self.waiting_of(scope)
        unfinished = dict.fromkeys(item.at for item in items)
        after = max(parent.progress.next, own.progress.next if own else 0, self.settled_below(scope))
        involved = [
            stretch.progress for stretch in {parent, own, *(item.stretch for item in items)} if stretch
        ]
        finished = {offset for progress in involved for offset in progress.finished}
        return Progress(
            next=after,
            reserved=max(progress.reserved for progress in involved),
            unfinished=unfinished,
            finished=finished - unfinished.keys(),  # who passed them to an earlier cursor calls them finished
            sent=max(progress.sent for progress in involved),
            doubt_ends=max(progress.doubt_ends for progress in involved),
            exact=parent.progress.exact,
            named={item.at for item in items if item.at in item.stretch.progress.named},
        )

    def may_close(self, cursor: Stretch) -> bool:
        """Whether a cursor has met the lane it came from, past all that an earlier owner knew of either."""
        lane = self.parent_of(cursor.scope).progress
        known_to = max(cursor.progress.known_to, lane.known_to, self.settled_below(cursor.scope))
        return cursor.progress.next >= lane.next >= known_to

    def settled_below(self, scope: str) -> int:
        """Up to where closed cursors have, or had, all records of a scope."""
        scopes = {scope, scope.partition(".")[0]}
        closed = [self.cursors[each].progress.until or 0 for each in scopes if each in self.cursors]
        return max(0, *closed, *(self.floors.get(each, 0) for each in scopes))

    def move_behind(self, cursor: Stretch) -> list[bytes]:
        """Makes the records of the cursor's scope its business; where they were is past them.

        Answers the keys that waited for a commit there: nobody will come back to them.
        """
        waited = []
        for item in self.waiting_of(cursor.scope):
            former = item.stretch
            if former is cursor:
                continue
            former.progress.finish(item.at)
            former.progress.wanted.discard(item.at)
            if (item.at, item.key) in former.unreserved:
                former.unreserved.remove((item.at, item.key))
                heapify(former.unreserved)
                waited.append(item.key)
            item.stretch = cursor
        self.cursors[cursor.scope] = cursor
        return waited
