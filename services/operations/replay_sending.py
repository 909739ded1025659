"""The records of a replay onto `.replay`, once each, as fast as the lanes take them beside live traffic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from services.bus.catalog import REPLAY
from services.bus.clock import Clock
from services.bus.place import Place
from services.bus.replayed import RUN, Act
from services.operations.reemitting import Coordinates, Reemitter, coordinates_of
from services.operations.replay_marks import SENT, WANTED, Marks
from services.operations.replay_outcomes import Interrupted, Stopped, Told
from services.operations.replay_runs import Run
from services.operations.topic_reader import TopicReader

RATE = 1000.0
"""Records a second."""
OUTSTANDING_MOST = 500
"""Records that wait in `.replay`: what live traffic may find before it at the partner."""
LOOK_EVERY_S, WAIT_S = 0.1, 0.02
CLOCKS_APART = timedelta(minutes=1)
"""Of two brokers at the most: they stamp the audit topic and `.replay`."""
BURST_S = 0.25
"""For so long a rate may be made up for."""


class Pace:
    """How many may be emitted now.

    Args:
        rate: records a second; 0 for no limit.
        outstanding: asked now and then how many of the lanes' records are waiting; None for no limit.
        wait: waits for as many seconds.
    """

    def __init__(
        self, rate: float, outstanding: Callable[[], int] | None, clock: Clock, wait: Callable[[float], None]
    ) -> None:
        self._rate = rate
        self._outstanding = outstanding
        self._clock = clock
        self._wait = wait
        self._looked_at = -LOOK_EVERY_S
        self._waiting = 0
        self._due = clock.monotonic()

    def allow(self, most: int) -> int:
        """As many as may go now, at least one, at most `most`; waits for it."""
        while True:
            allowed = min(most, self._by_rate(), self._by_room())
            if allowed >= 1:
                self._waiting += allowed
                if self._rate:
                    self._due += allowed / self._rate
                return allowed
            self._wait(WAIT_S)

    def _by_rate(self) -> int:
        if not self._rate:
            return 2**31
        now = self._clock.monotonic()
        self._due = max(self._due, now - BURST_S)
        return int((now - self._due) * self._rate)

    def _by_room(self) -> int:
        if self._outstanding is None:
            return 2**31
        now = self._clock.monotonic()
        if self._waiting >= OUTSTANDING_MOST and now - self._looked_at >= LOOK_EVERY_S:
            self._waiting, self._looked_at = self._outstanding(), now
        return OUTSTANDING_MOST - self._waiting


def emit_wanted(
    place: Place,
    marks: Marks,
    writer: Reemitter,
    act: Act,
    pace: Pace,
    clock: Clock,
    sent: Callable[[Counter[str]], None],
    told: Told,
    stopped: Stopped,
) -> None:
    """Emits what is WANTED and not SENT, each partition's records in order, and marks it SENT.

    `sent` is told how many of each biller were emitted. Raises Interrupted once the broker has all that
    was handed over; Unreachable and KafkaException, and then what it has not got it never gets.
    """
    left = marks.left()
    size = sum(each.flags.count(WANTED) for each in marks.stretches.values())
    done, live = 0, writer.topic.removesuffix(REPLAY)
    with TopicReader(place, live, clock) as reader:
        reader.read({p: each.start for p, each in left.items()}, {p: each.stop for p, each in left.items()})
        while not reader.finished:
            wanted = [record for record in reader.fetch() if _is_wanted(marks, record)]
            _go_on(writer, stopped)
            while wanted:
                _go_on(writer, stopped)
                allowed = pace.allow(len(wanted))
                sent(_emit(writer, marks, wanted[:allowed], act))
                del wanted[:allowed]
                done += allowed
                told(done, size)
    writer.flush()


def _go_on(writer: Reemitter, stopped: Stopped) -> None:
    if stopped():
        writer.flush()
        raise Interrupted


def _is_wanted(marks: Marks, record: Any) -> bool:
    stretch, index = marks.stretches[record.partition()], int(record.offset())
    return (stretch.flags[index - stretch.base] & (WANTED | SENT)) == WANTED


def _emit(writer: Reemitter, marks: Marks, records: list[Any], act: Act) -> Counter[str]:
    """How many by biller."""
    counted: Counter[bytes] = Counter()
    for record in records:
        key, partition, offset = record.key(), record.partition(), record.offset()
        origin = Coordinates(partition, offset, record.timestamp()[1])
        writer.emit(key, record.value(), record.headers() or (), origin, act)
        stretch = marks.stretches[partition]
        stretch.flags[offset - stretch.base] |= SENT
        counted[key.partition(b"/")[0]] += 1
    return Counter({slug.decode(): count for slug, count in counted.items()})


def mark_sent(
    place: Place,
    marks: Marks,
    run: Run,
    topic: str,
    clock: Clock,
    told: Told,
    stopped: Stopped,
) -> Counter[str]:
    """Marks SENT what a run has emitted since it began; how many by biller.

    `.replay` is all that says it, so neither a kill -9 nor another machine loses the place.
    """
    found: Counter[str] = Counter()
    with TopicReader(place, topic + REPLAY, clock) as reader:
        ends = reader.ends()
        starts = reader.offsets_at(run.at - CLOCKS_APART, ends)
        done, size = 0, sum(ends[p] - starts[p] for p in starts)
        reader.read(starts, ends)
        while not reader.finished:
            if stopped():
                raise Interrupted
            given = reader.fetch()
            for record in given:
                if dict(record.headers() or ()).get(RUN) != run.id.encode():
                    continue
                with suppress(ValueError):  # of a record without an origin there is nothing to mark
                    origin = coordinates_of(record)
                    if marks.flag(origin.partition, origin.offset, SENT):
                        found[record.key().partition(b"/")[0].decode()] += 1
            done += len(given)
            told(done, size)
    return found
