"""Runs of `billbus replay` as the audit topic has them: begun, and how they ended."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.bus.catalog import REPLAY_DAYS, Topic
from services.bus.clock import Clock
from services.bus.place import Place
from services.events import OperationAudited
from services.operations.replay_outcomes import Decoder, Interrupted, Stopped
from services.operations.replay_survey import Selection
from services.operations.topic_reader import TopicReader

ACTION, BEGUN, ENDED = "replay", "begun", "ended"
CONTINUED_WITHIN = timedelta(days=REPLAY_DAYS - 1)
"""While `.replay` surely has all that a run emitted; an older one is not continued."""
_NAMED = re.compile(r"\brun ([0-9a-f]{16}), selection ([0-9a-f]{16})$")


@dataclass(frozen=True, slots=True)
class Run:
    """A run that has begun; `at` is the broker's stamp of the record that says so."""

    id: str
    at: datetime


def target_of(selection: Selection, named: str, run: str) -> str:
    """How the audit record names what is replayed; it ends so that `unfinished` finds it again."""
    one = ", one account" if selection.account else ""
    only = f", only {selection.only}" if selection.only else ""
    asked = ", asking the partner" if selection.recheck else ""
    return f"{selection.topic.name}, {named}{one}{only}{asked}, run {run}, selection {selection.digest(run)}"


def unfinished(
    place: Place, catalog: Mapping[str, Topic], selection: Selection, clock: Clock, stopped: Stopped
) -> Run | None:
    """The last run of just this selection that has begun and not ended. Raises as TopicReader does."""
    topic = catalog[OperationAudited.TOPIC]
    decoder = Decoder(place, topic)
    found: dict[str, Run] = {}
    with TopicReader(place, topic.name, clock) as reader:
        ends = reader.ends()
        reader.read(reader.offsets_at(clock.now() - CONTINUED_WITHIN, ends), ends)
        while not reader.finished:
            if stopped():
                raise Interrupted
            for record in reader.fetch():
                event = decoder.event(record.value())
                if not isinstance(event, OperationAudited) or event.action != ACTION:
                    continue
                named = _NAMED.search(event.target)
                if named is None or named[2] != selection.digest(named[1]):
                    continue
                stamped = datetime.fromtimestamp(record.timestamp()[1] / 1000, UTC)
                if event.result.startswith(ENDED):
                    found.pop(named[1], None)
                elif event.result.startswith(BEGUN):
                    found.setdefault(named[1], Run(named[1], stamped))
    return max(found.values(), key=lambda run: run.at, default=None)
