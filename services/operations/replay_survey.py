"""What a replay would take: the records of a selection by biller and by what has become of each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b
from typing import Any, Literal, NamedTuple, cast

from services.bus.biller import MOST_REPEAT_DAYS
from services.bus.catalog import Topic
from services.bus.clock import Clock
from services.bus.identity import Delivered, natural_id
from services.bus.place import Place
from services.operations.day import Ranges, Window, around
from services.operations.replay_lanes import Taken
from services.operations.replay_marks import SENT, WANTED, Marks
from services.operations.replay_outcomes import Decoder, Ended, Interrupted, Outcomes, Stopped, Told
from services.operations.topic_reader import TopicReader

Only = Literal["", "parked", "refused", "missing"]
ON_ITS_WAY, MISSING, REPEAT, UNREADABLE = "on its way", "missing", "repeat", "unreadable"
STATES = ("posted", "rejected", "superseded", "dismissed", "parked", MISSING, REPEAT, UNREADABLE, ON_ITS_WAY)
"""What may have become of a record. `repeat`: the partner said again what another record says, whose outcome
counts; `missing`: it has ended, and nothing says how; `on its way`: its delivery has not ended."""
UNRESOLVED_MOST = 100_000
"""Records without an outcome of their own whose ids are remembered; those beyond are called missing."""
REPEATED_WITHIN = timedelta(days=MOST_REPEAT_DAYS)


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which records: of these billers, each within its own window; of one account, of one state."""

    topic: Topic
    windows: Mapping[str, Window]
    account: str = ""
    only: Only = ""
    recheck: bool = False

    def wants(self, state: str) -> bool:
        """Whether a record of which this has become is selected."""
        if state == ON_ITS_WAY:
            return False
        return not self.only or state == ("rejected" if self.only == "refused" else self.only)

    def sends(self, state: str) -> bool:
        """Whether such a record is emitted: the lane would only skip the others."""
        return self.wants(state) and state in ("parked", MISSING, *(["posted"] if self.recheck else []))

    def digest(self, run: str) -> str:
        """Tells within a run's audit record which selection it was, and nothing of the account."""
        said = [self.topic.name, self.account, self.only, str(self.recheck)]
        said += [f"{slug} {w.begin} {w.end}" for slug, w in sorted(self.windows.items())]
        return blake2b("\x1f".join([run, *said]).encode(), digest_size=8).hexdigest()


@dataclass(kw_only=True)
class Survey:
    """What was found. `states` by biller; `wanted` are those to be emitted, `marks` says which they are.

    `outcomes_to`: the outcomes up to there are in it.
    """

    marks: Marks
    states: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    wanted: Counter[str] = field(default_factory=Counter)
    outcomes_to: dict[int, int] = field(default_factory=dict)

    def selected(self, biller: str) -> int:
        """Those that the selection names and that have ended."""
        return self.states[biller].total() - self.states[biller][ON_ITS_WAY]


def take_survey(
    place: Place,
    selection: Selection,
    marks: Marks,
    outcomes: Outcomes,
    taken: Taken,
    clock: Clock,
    told: Told,
    stopped: Stopped,
) -> Survey:
    """Reads the selection's records; `marks` has their outcomes, `taken` how far the lane was before those.

    Sets WANTED in `marks`. Raises Interrupted, Unreachable and KafkaException.
    """
    survey = Survey(marks=marks)
    unresolved = Unresolved(place, selection.topic)
    for where, record in selected_records(place, selection, marks.ranges, clock, told, stopped):
        state = marks.outcome(where.partition, where.offset)
        if marks.has(where.partition, where.offset, SENT):
            survey.states[where.biller][state or MISSING] += 1
            survey.wanted[where.biller] += 1
        elif state:
            _count(survey, selection, where, state)
        elif not taken.has(where.partition, where.offset, record.key() or b""):
            survey.states[where.biller][ON_ITS_WAY] += 1
        elif (known := unresolved.remember(record, where.biller)) is not None:
            _count(survey, selection, where, known)
    if unresolved:
        since = around(selection.windows).begin - REPEATED_WITHIN
        ends = outcomes.reader.ends()
        unresolved.look_up(outcomes.between(outcomes.reader.offsets_at(since, ends), ends, told, stopped))
    for where, state in unresolved.resolved():
        _count(survey, selection, where, state)
    return survey


class Where(NamedTuple):
    """A record of the live topic."""

    partition: int
    offset: int
    biller: str


def selected_records(
    place: Place, selection: Selection, ranges: Ranges, clock: Clock, told: Told, stopped: Stopped
) -> Iterator[tuple[Where, Any]]:
    """All records that the windows and the account select, undecoded, and where each stands."""
    spans = {
        slug.encode(): (slug, round(w.begin.timestamp() * 1000), round(w.end.timestamp() * 1000))
        for slug, w in selection.windows.items()
    }
    account = selection.account.encode()
    done, size = 0, sum(map(len, ranges.values()))
    with TopicReader(place, selection.topic.name, clock) as reader:
        reader.read(
            {p: each.start for p, each in ranges.items()}, {p: each.stop for p, each in ranges.items()}
        )
        while not reader.finished:
            if stopped():
                raise Interrupted
            given = reader.fetch()
            for record in given:
                slug, _, number = (record.key() or b"").partition(b"/")
                span = spans.get(slug)
                if span is None or (account and number != account):
                    continue
                if span[1] <= record.timestamp()[1] < span[2]:
                    yield Where(record.partition(), record.offset(), span[0]), record
            done += len(given)
            told(done, size)


def _count(survey: Survey, selection: Selection, where: Where, state: str) -> None:
    if not selection.wants(state):
        return
    survey.states[where.biller][state] += 1
    if selection.sends(state):
        survey.wanted[where.biller] += 1
        survey.marks.flag(where.partition, where.offset, WANTED)


class Unresolved:
    """Records without an outcome of their own: a partner's repeats, by the outcome of their natural id.

    Bounded: UNRESOLVED_MOST records, less than a kilobyte each.
    """

    def __init__(self, place: Place, topic: Topic) -> None:
        self._decoder = Decoder(place, topic)
        self._said: dict[tuple[str, str, str], list[Where]] = defaultdict(list)
        self._kept: dict[Where, str] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def remember(self, record: Any, biller: str) -> str | None:
        """Keeps it for `look_up`; else what is to be said of it at once."""
        event = cast("Delivered | None", self._decoder.event(record.value()))
        if event is None:
            return UNREADABLE
        if len(self._kept) >= UNRESOLVED_MOST:
            return MISSING
        where = Where(record.partition(), record.offset(), biller)
        self._kept[where] = MISSING
        natural, content = natural_id(event), event.content
        for each in (natural, f"{natural}#{content}"):  # the other is the id of a conflict
            self._said[biller, each, content].append(where)
        return None

    def look_up(self, outcomes: Iterable[Ended]) -> None:
        """Takes the outcomes in which their natural ids may stand."""
        for ended in outcomes:
            for where in self._said.get((ended.biller, ended.natural_id, ended.content), ()):
                self._kept[where] = REPEAT

    def resolved(self) -> Iterable[tuple[Where, str]]:
        """Each of them with what has become of it."""
        return self._kept.items()
