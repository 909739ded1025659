"""The verdict on a storm, and the book from which the judges reach it: by window, account and name."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from deploy.local.day.facts import Id, Outcome
from deploy.local.day.judge import FINAL
from tests.chaos.facts import Change, Effect, Facts, Payment, Window


@dataclass
class Line:
    """One fault, all its windows added up; stalls in seconds, 0 where no account waited."""

    fault: str
    windows: int = 0
    injected: int = 0
    accepted: int = 0
    in_ledger: int = 0
    lost: int = 0
    doubled: int = 0
    disorder: int = 0
    parked: int = 0
    planted: int = 0
    stall_s: float = 0.0
    in_doubt_s: float = 0.0
    stalled: str = ""
    stalled_in_doubt: str = ""

    def stall(self, waited_s: float, whose: str, *, in_doubt: bool) -> None:
        """Keeps the longest of each kind, and whose it was."""
        if in_doubt and waited_s > self.in_doubt_s:
            self.in_doubt_s, self.stalled_in_doubt = waited_s, whose
        elif not in_doubt and waited_s > self.stall_s:
            self.stall_s, self.stalled = waited_s, whose


@dataclass
class Verdict:
    """A line for each fault, and every single thing that is wrong, each with its name.

    `stalls` are those longer than promised; everything else that is wrong is in `problems`.
    """

    lines: list[Line]
    problems: list[str] = field(default_factory=list)
    stalls: list[str] = field(default_factory=list)
    copies: int = 0
    dead_letters: int = 0
    settings: Counter[str] = field(default_factory=Counter)

    @property
    def holds(self) -> bool:
        return not self.problems and not self.stalls


class Book:
    """The facts in the order in which they are asked for, and what is found wrong with them."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.begins = [window.begin for window in facts.windows]
        self.lines: dict[str, Line] = {}
        for window in facts.windows:
            line = self.lines.setdefault(window.name, Line(window.name))
            line.windows += 1
            line.injected += window.injected
        self.verdict = Verdict(list(self.lines.values()), copies=sum(n - 1 for n in facts.copies.values()))
        self.effects: dict[Id, list[Effect]] = defaultdict(list)
        for effect in sorted(facts.effects, key=lambda effect: effect.seq):
            self.effects[effect.biller, effect.id].append(effect)
        self.outcomes: dict[tuple[str, Id], Outcome] = {}
        for outcome in facts.outcomes:  # a final state counts, whatever was parked before
            where = (outcome.flow, (outcome.biller, outcome.id))
            if where not in self.outcomes or self.outcomes[where].state not in FINAL:
                self.outcomes[where] = outcome

    def window(self, at: float | None) -> Window:
        return self.facts.windows[max(bisect_right(self.begins, at or 0.0) - 1, 0)]

    def line(self, at: float | None) -> Line:
        return self.lines[self.window(at).name]

    def blame(self, kind: str, payment: Payment | Change, what: str, at: float | None = None) -> None:
        natural = payment.guid if isinstance(payment, Payment) else payment.id
        place = self.facts.places.get(payment.id) if isinstance(payment, Payment) else None
        where = f", partition {place.partition} offset {place.offset}" if place else ""
        wrong = self.verdict.stalls if kind == "stall" else self.verdict.problems
        wrong.append(
            f"{kind}: {payment.biller} {natural} (account {payment.account}{where}) {what}"
            f" [{self.window(at if at is not None else payment.accepted).name}]"
        )
