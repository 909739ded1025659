"""The state of a partition under any sequence of steps: nothing is lost, done twice, or sent unannounced."""

from aiokafka import TopicPartition
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.bus.doubt import Item
from services.bus.partition import Owned, Stretch, Ticket, account_scope
from services.bus.progress import SPAN, Progress, Snapshot, decode_metadata, fresh_metadata
from tests.unit.parts import NOON

PARTITION = TopicPartition("t", 0)
KEYS = (b"acme/1", b"acme/2", b"birch/1")
SCOPES = ("acme", account_scope(KEYS[0]))


class ProgressMachine(RuleBasedStateMachine):
    """One stretch, its owner dying at any moment; `attempted` and `done` are the truth."""

    @initialize(exact=st.booleans(), gaps=st.lists(st.integers(0, 5), min_size=5, max_size=25))
    def begin(self, exact: bool, gaps: list[int]) -> None:
        self.exact = exact
        self.offsets: list[int] = []
        self.end = 0
        for gap in gaps:
            self.publish(gap)
        self.done: set[int] = set()
        self.attempted: set[int] = set()
        self.stored = (0, fresh_metadata())
        self.flying: list[Snapshot] = []
        self.take_over()

    @rule(gap=st.integers(0, 5))
    def publish(self, gap: int) -> None:
        self.offsets.append(self.end + gap)
        self.end += gap + 1

    @rule()
    def take_over(self) -> None:
        """Another process goes on from the stored commit alone; the answer to one under way is lost."""
        position, text = self.stored
        self.restored = decode_metadata(text, position, self.end)
        assert self.restored.readable
        for offset in self.offsets:
            if offset < position or offset in self.restored.done:
                assert offset in self.done, "passed although not done"
            elif not self.restored.in_doubt(offset):
                assert offset not in self.attempted, "taken for never attempted"
        self.progress = Progress.resume(position, self.restored, exact=self.exact)
        self.flying = []

    @precondition(lambda self: any(o >= self.progress.next for o in self.offsets))
    @rule()
    def see(self) -> None:
        offset = next(o for o in self.offsets if o >= self.progress.next)
        if not self.progress.unfinished or offset < self.progress.position + SPAN:
            self.progress.see(offset)

    @rule(data=st.data())
    def send(self, data: st.DataObject) -> None:
        """Only what a commit covers; else, by name where names are asked for, it is wanted in the next."""
        if self.progress.unfinished:
            offset = data.draw(st.sampled_from(list(self.progress.unfinished)))
            if self.progress.may_send(offset):
                self.progress.send(offset)
                self.attempted.add(offset)
            elif self.exact:
                self.progress.wanted.add(offset)

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        ready = [o for o in self.progress.unfinished if o in self.attempted]
        if ready:
            offset = data.draw(st.sampled_from(ready))
            self.progress.finish(offset)
            self.progress.finish(offset)
            self.done.add(offset)

    @precondition(lambda self: not self.flying)
    @rule(ahead=st.integers(0, 12))
    def commit(self, ahead: int) -> None:
        """It reaches the broker; whether the answer reaches us is another matter."""
        snapshot = self.progress.snapshot(ahead, generation=3)
        assert len(snapshot.metadata) <= 4000
        self.stored = snapshot.position, snapshot.metadata
        self.flying = [snapshot]

    @precondition(lambda self: self.flying)
    @rule(arrives=st.booleans())
    def answer(self, arrives: bool) -> None:
        if arrives:
            self.progress.acknowledge(self.flying[0])
        self.flying = []

    @invariant()
    def the_position_is_the_first_not_done(self) -> None:
        seen = [o for o in self.offsets if self.stored[0] <= o < self.progress.next]
        left = [o for o in seen if o not in self.done]
        assert self.progress.position <= (left[0] if left else self.progress.next)


class CursorMachine(RuleBasedStateMachine):
    """A partition whose scopes go behind cursors and come back, taken over from its commits alone."""

    @initialize(log=st.lists(st.sampled_from(KEYS), min_size=5, max_size=25))
    def begin(self, log: list[bytes]) -> None:
        self.log = log
        self.done: set[int] = set()
        self.commits: dict[str, tuple[int, str]] = {"": (0, fresh_metadata())}
        self.take_over()

    @rule()
    def take_over(self) -> None:
        self.settled: set[int] = set()
        self.owned = Owned(PARTITION, Ticket(1, "m"), 0.0, self._read(""))
        for scope in self.commits:
            if scope:
                cursor = self._read(scope)
                if cursor.over:
                    assert cursor.progress.until is not None
                    self.owned.floors[scope] = cursor.progress.until
                else:
                    self.owned.cursors[scope] = cursor
        while self.owned.behind:
            for cursor in self.owned.cursors.values():
                if cursor.progress.until is not None:
                    self._read_on(cursor)
        self.settled = {offset for offset in range(len(self.log)) if not self._somebodys(offset)}
        assert self.settled <= self.done, f"{self.settled - self.done} lost"

    def _read(self, scope: str) -> Stretch:
        offset, text = self.commits[scope]
        restored = decode_metadata(text, offset, len(self.log))
        assert restored.readable
        return Stretch(scope, Progress.resume(offset, restored), restored)

    def _somebodys(self, offset: int) -> bool:
        owner = self.owned.owner_of(self.log[offset], offset)
        return owner is not None and (
            offset in owner.progress.unfinished
            or (offset >= owner.progress.next and offset not in owner.progress.finished)
        )

    @rule(steps=st.integers(1, 8))
    def read(self, steps: int) -> None:
        for _ in range(steps):
            self._read_on(self.owned.main)

    @rule(scope=st.sampled_from(SCOPES))
    def refill(self, scope: str) -> None:
        if cursor := self.owned.cursors.get(scope):
            self._read_on(cursor)

    def _read_on(self, stretch: Stretch) -> None:
        progress = stretch.progress
        end = self.owned.end_of(stretch) if stretch.scope else len(self.log)
        if progress.next >= end:
            return
        offset, key = progress.next, self.log[progress.next]
        if self.owned.owner_of(key, offset) is not stretch:
            progress.next += 1
            return
        progress.see(offset)
        if offset in progress.unfinished:
            assert offset not in self.settled, f"{offset} is delivered again"
            self.owned.enqueue(an_item(key, offset, stretch))

    @rule(key=st.sampled_from(KEYS))
    def finish(self, key: bytes) -> None:
        """The first of a key, as the lane does it."""
        if queue := self.owned.queues.get(key):
            item = queue.popleft()
            assert item.at not in self.settled, f"{item.at} is done twice"
            assert all(other.at > item.at for other in queue), "out of order"
            item.stretch.progress.finish(item.at)
            self.done.add(item.at)
            self.settled.add(item.at)
            if not queue:
                del self.owned.queues[key]

    @rule(scope=st.sampled_from(["", *SCOPES]))
    def commit(self, scope: str) -> None:
        stretch = self.owned.main if not scope else self.owned.cursors.get(scope)
        if stretch is None:
            return
        snapshot = stretch.progress.snapshot(4, 1)
        self.commits[scope] = snapshot.position, snapshot.metadata
        if stretch.over and snapshot.until is not None and snapshot.position >= snapshot.until:
            del self.owned.cursors[scope]
            self.owned.floors[scope] = snapshot.until

    @rule(scope=st.sampled_from(SCOPES))
    def open(self, scope: str) -> None:
        before = self.owned.cursors.get(scope)
        if before is not None and not before.read_to_its_end:
            return
        planned = self.owned.plan_cursor(scope)
        snapshot = planned.snapshot(0, 1)
        self.commits[scope] = snapshot.position, snapshot.metadata
        self.owned.move_behind(Stretch(scope, planned, self.owned.parent_of(scope).doubt))

    @rule(scope=st.sampled_from(SCOPES))
    def close(self, scope: str) -> None:
        cursor = self.owned.cursors.get(scope)
        if cursor is None or cursor.progress.until is not None:
            return
        if self.owned.may_close(cursor):
            cursor.progress.until = cursor.progress.next = self.owned.parent_of(scope).progress.next
            self.commit(scope)

    @invariant()
    def every_record_waits_in_one_place(self) -> None:
        waiting = [offset for stretch in self.owned.stretches for offset in stretch.progress.unfinished]
        assert len(waiting) == len(set(waiting))
        assert sorted(waiting) == sorted(i.at for queue in self.owned.queues.values() for i in queue)

    @invariant()
    def every_record_is_somebodys_or_done(self) -> None:
        for offset in range(len(self.log)):
            assert (offset in self.settled) != self._somebodys(offset), f"{offset}"


def an_item(key: bytes, at: int, stretch: Stretch) -> Item:
    return Item(
        topic="t", partition=0, offset=at, key=key, value=None, taken_at=NOON, headers=(), in_doubt=False,
        believe_from=0.0, at=at, biller="", stretch=stretch, held_since=0.0,
    )  # fmt: skip


BOUNDED = settings(
    max_examples=600, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestProgress = ProgressMachine.TestCase
TestProgress.settings = BOUNDED
TestCursors = CursorMachine.TestCase
TestCursors.settings = BOUNDED


def test_a_cursor_knows_what_was_done_right_where_it_begins() -> None:
    """A schedule that failed: nothing of the biller is read yet, and the next record of it is done."""
    state = CursorMachine()
    state.begin(log=[b"birch/1", b"acme/1", b"acme/2", b"acme/1", b"acme/1"])
    state.open(scope=account_scope(b"acme/1"))
    state.read(steps=3)
    state.finish(key=b"acme/2")
    state.commit(scope="")
    state.take_over()
    state.read(steps=2)
    state.open(scope="acme")
    state.every_record_is_somebodys_or_done()
