"""Replay: the records of a day once more through the running services, which do what is left to be done.

Dry run first: `Replay.survey`. Then `Replay.run`: emits onto `.replay`, waits until the lanes have taken all
of it, and says what came of it. It keeps nothing: the audit topic says which run has begun, `.replay` what it
has emitted, the outcome topic what came of that, so the same command goes on wherever one ended.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Self

from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec

from services.bus.biller import Biller
from services.bus.catalog import REPLAY, Topic
from services.bus.clock import Clock
from services.bus.connection import kafka_of
from services.bus.groups import edge_offsets
from services.bus.place import Place
from services.bus.replayed import Act
from services.bus.settings import Settings
from services.events import (
    InvoiceIssued,
    InvoiceOutcome,
    PaymentOutcome,
    PaymentReceived,
    SettingChanged,
    SettingOutcome,
)
from services.operations import audit
from services.operations.day import around, ranges_of
from services.operations.reemitting import Reemitter
from services.operations.replay_lanes import Lanes
from services.operations.replay_lock import OneAtATime
from services.operations.replay_marks import Marks
from services.operations.replay_outcomes import Ended, Interrupted, Outcomes, Stopped
from services.operations.replay_report import Row, Since
from services.operations.replay_runs import ACTION, BEGUN, ENDED, Run, target_of, unfinished
from services.operations.replay_sending import RATE, Pace, emit_wanted, mark_sent
from services.operations.replay_survey import Selection, Survey, take_survey
from services.operations.topic_reader import TopicReader

REPLAYABLE = {
    PaymentReceived.TOPIC: ("payments.post", PaymentOutcome.TOPIC),
    InvoiceIssued.TOPIC: ("invoices.upload", InvoiceOutcome.TOPIC),
    SettingChanged.TOPIC: ("settings.apply", SettingOutcome.TOPIC),
}
"""The topics that have a `.replay`, the lane whose outcomes say what became of their records, and where."""
STANDSTILL_S = 120.0
"""Without any movement for so long nobody is waited for any more."""
LOOK_EVERY_S = 0.3

Steps = Callable[[str, int, int], None]
"""Told a step's name, how much of it is done, and of how much."""
Tell = Callable[[Run, str], None]
"""Writes an audit record of a run: what is said of it."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """What came of it. `finished`: every record was emitted, and the lanes have taken all of them.

    `continued`: a run had begun and not ended, and this one went on with it; `emitted` counts what this one
    emitted itself.
    """

    run: str
    rows: list[Row]
    emitted: int
    finished: bool
    continued: bool


@dataclass(kw_only=True)
class Replay:
    """A replay of one selection; use it in `with`. `stopped` is asked often: True ends it in good order.

    What it does raises Unreachable, KafkaException for what the broker refuses, and ConfigurationError where
    it lacks a topic.
    """

    settings: Settings
    catalog: Mapping[str, Topic]
    clock: Clock
    selection: Selection
    steps: Steps
    stopped: Stopped
    rate: float = RATE
    _stack: ExitStack = field(default_factory=ExitStack, init=False)
    _alone: OneAtATime | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        self.topic = self.selection.topic.name
        self._lane, outcome = REPLAYABLE[self.topic]
        brokers = kafka_of(self.settings)
        self._place = self._stack.enter_context(Place(brokers, self.settings.registry))
        self._lanes = self._stack.enter_context(Lanes(brokers, self.topic))
        self._outcomes = self._stack.enter_context(Outcomes(self._place, self.catalog[outcome], self.clock))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def survey(self) -> Survey:
        """The dry run: counts the selection, by biller and by what has become of each. Raises Interrupted."""
        return self._survey(None)[0]

    async def run(self, named: str, operator: str, reason: str) -> Report:
        """Emits, waits, and says what came of it; `named` says for the audit record what was selected.

        Raises Busy where somebody else replays the topic, Interrupted where it ended before it began.
        """
        loop = asyncio.get_running_loop()
        billers = list(self.selection.windows)
        async with audit.auditing(self.settings, self.catalog, self.clock) as book:

            def tell(run: Run, result: str) -> None:
                act = audit.Act(
                    operator=operator,
                    action=ACTION,
                    target=target_of(self.selection, named, run.id),
                    reason=reason,
                    biller=billers[0] if len(billers) == 1 else None,
                )
                asyncio.run_coroutine_threadsafe(book.told(act, result), loop).result()

            return await asyncio.to_thread(self._run, tell)

    def _run(self, tell: Tell) -> Report:
        with OneAtATime(self._place, self.topic, self.clock, self.stopped) as self._alone:
            found = unfinished(self._place, self.catalog, self.selection, self.clock, self._ended)
            survey, since = self._survey(found)
            run = found or Run(secrets.token_hex(8), self.clock.now())
            before, wanted = since.sent.total(), survey.wanted.total()
            selected = sum(map(survey.selected, survey.states))
            tell(run, f"{BEGUN}: {wanted - before} of {selected} records are to be emitted")
            finished = self._emit(run, survey, since) and self._await_lanes()
            since.take(self._outcomes_from(survey.outcomes_to))
            rows = [since.row(biller, survey, all_taken=finished) for biller in sorted(survey.states)]
            tell(run, f"{ENDED if finished else 'left'}: {sums_of(rows)}")
        return Report(
            run=run.id,
            rows=rows,
            emitted=since.sent.total() - before,
            finished=finished,
            continued=found is not None,
        )

    def _survey(self, begun: Run | None) -> tuple[Survey, Since]:
        """Of a run that has begun also what it has emitted, and what came of that."""
        selection, window, outcomes = self.selection, around(self.selection.windows), self._outcomes
        with TopicReader(self._place, self.topic, self.clock) as reader:
            marks = Marks(ranges_of(reader, window))
        # first how far the lane is: what has ended by then has its outcome below the ends asked for after it
        taken = self._lanes.taken(self._lane, self.topic, self._ends(self.topic))
        ends = outcomes.reader.ends()
        since = Since(self.topic, marks)
        starts = outcomes.reader.offsets_at(window.begin, ends)
        middle = outcomes.reader.offsets_at(begun.at, ends) if begun else ends
        told = self._told("Outcomes")
        since.take(outcomes.between(starts, middle, told, self._ended))
        if begun:
            sent = mark_sent(self._place, marks, begun, self.topic, self.clock, told, self._ended)
            since.sent.update(sent)
            since.take(outcomes.between(middle, ends, told, self._ended))
        survey = take_survey(
            self._place, selection, marks, outcomes, taken, self.clock, self._told("Records"), self._ended
        )
        survey.outcomes_to = ends
        return survey, since

    def _emit(self, run: Run, survey: Survey, since: Since) -> bool:
        """Whether all was emitted."""
        act = Act("recheck" if self.selection.recheck else "replay")
        pace = Pace(self.rate, self._outstanding, self.clock, self._wait)
        try:
            with Reemitter(self._place, self.topic, run.id, self.clock) as writer:
                emit_wanted(
                    self._place,
                    survey.marks,
                    writer,
                    act,
                    pace,
                    self.clock,
                    since.sent.update,
                    self._told("Emitted"),
                    self._ended,
                )
        except Interrupted:
            return False
        return True

    def _outstanding(self) -> int:
        replay = self.topic + REPLAY
        return self._lanes.outstanding(replay, self._ends(replay))

    def _ends(self, topic: str) -> dict[int, int]:
        """The end of each partition now."""
        wanted = [TopicPartition(topic, number) for number in range(self.selection.topic.partitions)]
        found = edge_offsets(self._place.admin, wanted, OffsetSpec.latest())
        return {partition.partition: offset for partition, offset in found.items()}

    def _await_lanes(self) -> bool:
        """Whether the lanes have taken all that stands in `.replay` now; gives up when nothing moves."""
        replay = self.topic + REPLAY
        ends = self._ends(replay)
        size, moved_at, last = 0, self.clock.monotonic(), -1
        while not self._ended():
            taken = [self._lanes.taken(lane, replay, ends) for lane in self._lanes.names]
            if all(each.all_below(ends) for each in taken):
                return True
            done = sum(each.done for each in taken)
            if done != last:
                moved_at, last = self.clock.monotonic(), done
            elif self.clock.monotonic() - moved_at > STANDSTILL_S:
                return False
            left = max(each.left_below(ends) for each in taken)
            size = max(size, left)
            self.steps("Taken by the services", size - left, size)
            self._wait(LOOK_EVERY_S)
        return False

    def _outcomes_from(self, starts: Mapping[int, int]) -> Iterator[Ended]:
        """What has come until now, also after Ctrl-C: the report is to say it."""
        until = self._outcomes.reader.ends()
        return self._outcomes.between(starts, until, self._told("Outcomes"), lambda: False)

    def _ended(self) -> bool:
        """Whether the operator ended it; raises Unreachable where another one may have begun meanwhile."""
        if self._alone is not None:
            self._alone.require()
        return self.stopped()

    def _wait(self, seconds: float) -> None:
        if self._alone is not None:
            self._alone.require(seconds)

    def _told(self, step: str) -> Callable[[int, int], None]:
        return lambda done, size: self.steps(step, done, size)


def cannot_be_asked(topic: str, billers: Mapping[str, Biller]) -> list[str]:
    """Those of the billers whose partner has no look-up of what the topic delivers."""
    asked = topic == PaymentReceived.TOPIC
    return [slug for slug, biller in billers.items() if asked and not biller.imt.looks_up_payments]


def sums_of(rows: list[Row]) -> str:
    """The report in one line."""
    names = ("skipped", "delivered", "refused", "parked", "open")
    sums = {name: sum(getattr(row, name) for row in rows) for name in ("selected", *names)}
    return f"selected {sums['selected']} = " + " + ".join(f"{name} {sums[name]}" for name in names)
