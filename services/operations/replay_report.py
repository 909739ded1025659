"""What came of a replay, by biller; the figures add up."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from services.operations.replay_marks import FOUND, SENT, TOLD, Marks
from services.operations.replay_outcomes import Ended
from services.operations.replay_survey import Survey

CAME = {"posted": "delivered", "rejected": "refused", "parked": "parked"}
"""What an outcome means in the report; every other state is `skipped`."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """Of one biller: selected = skipped + delivered + refused + parked + open.

    skipped: nothing was to be done, or the partner had it. open: not emitted yet, or on its way.
    """

    biller: str
    selected: int
    skipped: int
    delivered: int
    refused: int
    parked: int
    open: int


class Since:
    """The outcomes since a run began, of the records that it emitted."""

    def __init__(self, topic: str, marks: Marks) -> None:
        self._topic = topic
        self._marks = marks
        self.sent: Counter[str] = Counter()
        self._came: dict[str, Counter[str]] = defaultdict(Counter)

    def take(self, outcomes: Iterable[Ended]) -> None:
        """Enters outcomes as they come; the newest of a record counts."""
        marks = self._marks
        for ended in outcomes:
            where = ended.origin_partition, ended.origin_offset
            if ended.origin_topic != self._topic:
                continue
            before = marks.enter(*where, ended.state, ended.attempt)
            if before is None or not marks.has(*where, SENT):
                continue
            came = self._came[ended.biller]
            if not marks.flag(*where, TOLD):
                came[_meaning(before, found=marks.has(*where, FOUND))] -= 1
            marks.flag(*where, FOUND, on=ended.looked_up)
            came[_meaning(ended.state, found=ended.looked_up)] += 1

    def row(self, biller: str, survey: Survey, *, all_taken: bool) -> Row:
        """What came of a biller's; `all_taken`: the lane has passed every record that was emitted."""
        came, selected = self._came[biller], survey.selected(biller)
        silent = self.sent[biller] - came.total()
        unsent = survey.wanted[biller] - self.sent[biller]
        never = selected - survey.wanted[biller]
        return Row(
            biller=biller,
            selected=selected,
            skipped=never + came["skipped"] + (silent if all_taken else 0),
            delivered=came["delivered"],
            refused=came["refused"],
            parked=came["parked"],
            open=unsent + (0 if all_taken else silent),
        )


def _meaning(state: str, *, found: bool) -> str:
    return "skipped" if found and state == "posted" else CAME.get(state, "skipped")
