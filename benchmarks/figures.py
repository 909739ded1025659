"""Medians of runs, the ratios that were asked for, and whether each is reached."""

import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Run = Mapping[str, float]
WORST = frozenset({"lost", "doubled", "order_violations"})
"""What must never happen: of these the worst run counts, since a median would hide it."""


def summary(runs: Sequence[Run], worst: Collection[str] = WORST) -> dict[str, float]:
    """The median of each figure over the runs, and the largest of each in `worst`."""
    return {
        name: max(run[name] for run in runs)
        if name in worst
        else statistics.median(run[name] for run in runs)
        for name in runs[0]
    }


def percentile(ascending: Sequence[float], share: float) -> float:
    """The value below which that share of the sorted values lies; the last one for a share of 1."""
    return ascending[min(int(len(ascending) * share), len(ascending) - 1)]


@dataclass(frozen=True)
class Goal:
    """A ratio that was asked for: `ours` by `theirs`, each a contender and its figure in one case.

    `theirs` of None compares with `limit` itself.
    """

    case: str
    text: str
    ours: tuple[str, str]
    theirs: tuple[str, str] | None
    kind: Literal["at least", "at most"]
    limit: float


@dataclass(frozen=True)
class Verdict:
    """What became of a goal; `found` is None where a contender did not run."""

    goal: Goal
    found: float | None

    @property
    def word(self) -> str:
        if self.found is None:
            return "not measured"
        reached = (
            self.found >= self.goal.limit if self.goal.kind == "at least" else self.found <= self.goal.limit
        )
        return "reached" if reached else "FALLS SHORT"

    def line(self) -> str:
        found = "-" if self.found is None else f"{self.found:.2f}"
        return f"{self.word:<13} {found:>8}  ({self.goal.kind} {self.goal.limit:g})  {self.goal.text}"

    def as_json(self) -> dict[str, Any]:
        goal = self.goal
        asked = {"case": goal.case, "goal": goal.text, "kind": goal.kind, "limit": goal.limit}
        return {**asked, "found": self.found, "verdict": self.word}


def judge(goal: Goal, case: Mapping[str, Run]) -> Verdict:
    """Judges a goal by the summaries of its case, by contender."""
    try:
        ours = case[goal.ours[0]][goal.ours[1]]
        theirs = 1.0 if goal.theirs is None else case[goal.theirs[0]][goal.theirs[1]]
    except KeyError:
        return Verdict(goal, None)
    return Verdict(goal, ours / theirs if theirs else None)


def table(rows: Mapping[str, Run], columns: Sequence[str]) -> str:
    """Rows by name under their columns; a figure that a row does not have stays empty."""
    shown = [c for c in columns if any(c in row for row in rows.values())]
    width = max((len(name) for name in rows), default=0) + 2
    lines = [" " * width + "".join(f"{c:>{len(c) + 3}}" for c in shown)]
    for name, row in rows.items():
        cells = (f"{row[c]:>{len(c) + 3}g}" if c in row else " " * (len(c) + 3) for c in shown)
        lines.append(f"{name:<{width}}" + "".join(cells))
    return "\n".join(lines)
