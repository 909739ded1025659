"""The verdict on a storm: what was promised against what the partner has, window by window, name by name.

A pure function of the facts. A payment belongs to the window in which it was accepted; what is doubled or
out of order belongs to the window in which the wrong effect came.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import inf

from deploy.local.day.facts import Id, Outcome
from deploy.local.day.judge import FINAL
from tests.chaos.facts import Change, Effect, Facts, Payment, Window

SETTLING_S = 0.5
"""An effect this short before a fault may not be acknowledged by the bus when the fault comes."""


@dataclass
class Line:
    """One fault, all its windows added up; stalls in seconds, None where no account waited."""

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


def judge(facts: Facts) -> Verdict:
    """Everything that does not hold is in the verdict's problems and stalls."""
    court = _Court(facts)
    for payment in facts.payments:
        court.judge_payment(payment)
    court.judge_unsaid()
    court.judge_order()
    court.judge_stalls()
    court.judge_poison()
    court.judge_settings()
    return court.verdict


class _Court:
    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._begins = [window.begin for window in facts.windows]
        self._lines: dict[str, Line] = {}
        for window in facts.windows:
            line = self._lines.setdefault(window.name, Line(window.name))
            line.windows += 1
            line.injected += window.injected
        self.verdict = Verdict(list(self._lines.values()), copies=sum(n - 1 for n in facts.copies.values()))
        self._effects: dict[Id, list[Effect]] = defaultdict(list)
        for effect in sorted(facts.effects, key=lambda effect: effect.seq):
            self._effects[effect.biller, effect.id].append(effect)
        self._outcomes: dict[tuple[str, Id], Outcome] = {}
        for outcome in facts.outcomes:  # a final state counts, whatever was parked before
            where = (outcome.flow, (outcome.biller, outcome.id))
            if where not in self._outcomes or self._outcomes[where].state not in FINAL:
                self._outcomes[where] = outcome

    def _window(self, at: float | None) -> Window:
        return self._facts.windows[max(bisect_right(self._begins, at or 0.0) - 1, 0)]

    def _line(self, at: float | None) -> Line:
        return self._lines[self._window(at).name]

    def _blame(self, kind: str, payment: Payment | Change, what: str, at: float | None = None) -> None:
        natural = payment.guid if isinstance(payment, Payment) else payment.id
        place = self._facts.places.get(payment.id) if isinstance(payment, Payment) else None
        where = f", partition {place.partition} offset {place.offset}" if place else ""
        wrong = self.verdict.stalls if kind == "stall" else self.verdict.problems
        wrong.append(
            f"{kind}: {payment.biller} {natural} (account {payment.account}{where}) {what}"
            f" [{self._window(at if at is not None else payment.accepted).name}]"
        )

    # -- each payment ----------------------------------------------------------------------------------

    def judge_payment(self, payment: Payment) -> None:
        if payment.accepted is None:
            told = (
                f"refused as {payment.refused}" if payment.refused else f"not taken in {payment.tries} tries"
            )
            self._blame("never accepted", payment, f"was {told}", payment.sent)
            return
        line = self._line(payment.accepted)
        line.accepted += 1
        effects = self._effects.get(payment.id, [])
        if effects:
            line.in_ledger += 1
            self._judge_effects(payment, effects)
        outcome = self._outcomes.get(("payments", payment.id))
        if outcome is not None and outcome.state == "parked":
            self._judge_parked(payment, outcome, line)
        elif payment.planted and not effects:
            line.lost += 1
            self._blame("lost", payment, f"should be parked ({payment.planted}) and is nowhere")
        elif not effects:
            line.lost += 1
            state = f"{outcome.state} ({outcome.reason})" if outcome else "no outcome"
            self._blame("lost", payment, f"is accepted and not in the ledger: {state}")

    def _judge_effects(self, payment: Payment, effects: list[Effect]) -> None:
        if payment.planted:
            self._blame("planted", payment, f"stands in the ledger although it must not ({payment.planted})")
        for again in effects[1:]:
            self._line(again.at).doubled += 1
            apart = again.at - effects[0].at
            self._blame("doubled", payment, f"stands again in the ledger after {apart:.2f} s", again.at)
        for effect in effects:
            if effect.amount != payment.amount:
                self._blame("amount", payment, f"stands with {effect.amount}, not {payment.amount}")
            if effect.account != payment.account:
                self._blame("account", payment, f"stands under account {effect.account}")

    def _judge_parked(self, payment: Payment, outcome: Outcome, line: Line) -> None:
        if payment.planted and payment.planted in outcome.reason:
            line.planted += 1
            return
        line.parked += 1
        meant = f", not for {payment.planted}" if payment.planted else ""
        self._blame("parked", payment, f"is parked for {outcome.reason}{meant}")

    def judge_unsaid(self) -> None:
        """What the partner has and nobody sent; what is parked and nobody sent."""
        said = {payment.id for payment in self._facts.payments}
        for (biller, guid), effects in self._effects.items():
            if (biller, guid) not in said:
                at = effects[0]
                self.verdict.problems.append(
                    f"unsaid: {biller} {guid} (account {at.account}) stands in the ledger"
                    f" {len(effects)} times and nobody sent it [{self._window(at.at).name}]"
                )
        for (flow, natural), outcome in self._outcomes.items():
            if flow == "payments" and natural not in said:
                self.verdict.problems.append(
                    f"unsaid: {natural[0]} {natural[1]} is {outcome.state} and nobody sent it"
                )

    # -- each account ----------------------------------------------------------------------------------

    def judge_order(self) -> None:
        """The ledger's first effect of each payment against where the payment stands on the topic."""
        accounts: dict[Id, list[Effect]] = defaultdict(list)
        for effects in self._effects.values():
            accounts[effects[0].biller, effects[0].account].append(effects[0])
        payments = {payment.id: payment for payment in self._facts.payments}
        for rows in accounts.values():
            latest, latest_id = -1, ""
            for row in sorted(rows, key=lambda row: row.seq):
                place = self._facts.places.get((row.biller, row.id))
                payment = payments.get((row.biller, row.id))
                if place is None or payment is None:
                    continue
                if place.offset < latest:
                    self._line(row.at).disorder += 1
                    self._blame("disorder", payment, f"took effect after {latest_id} at {latest}", row.at)
                else:
                    latest, latest_id = place.offset, row.id

    def judge_stalls(self) -> None:
        """How long an account stood still although a payment of it was accepted.

        In doubt at a fault is, seen from outside, an account with a payment sent before it whose effect
        had not come, or came so late that the bus may not have known of it.
        """
        accounts: dict[Id, list[tuple[Payment, Effect]]] = defaultdict(list)
        for payment in self._facts.payments:
            effects = self._effects.get(payment.id)
            if effects and payment.accepted is not None:
                accounts[payment.biller, payment.account].append((payment, effects[0]))
        for pairs in accounts.values():
            pairs.sort(key=lambda pair: pair[1].seq)
            before = 0.0
            for payment, effect in pairs:
                self._note_stall(payment, effect, max(payment.accepted or 0.0, before), pairs)
                before = effect.at

    def _note_stall(
        self, payment: Payment, effect: Effect, since: float, pairs: list[tuple[Payment, Effect]]
    ) -> None:
        """A stall that outlasts its window counts there as far as it goes, and as in doubt where it ends."""
        began, ended, whose = self._window(since), self._window(effect.at), " ".join(payment.id)
        if ended is not began:
            self._lines[ended.name].stall(effect.at - since, whose, in_doubt=True)
        line, waited = self._lines[began.name], min(effect.at, self._end(began)) - since
        beyond = began.bound_s is not None and waited > began.bound_s
        if not beyond and waited <= min(line.stall_s, line.in_doubt_s):
            return
        in_doubt = any(_open(*pair, began.begin) for pair in pairs)
        line.stall(waited, whose, in_doubt=in_doubt)
        if beyond and not in_doubt:
            self._blame("stall", payment, f"waited {waited:.1f} s, more than {began.bound_s:.0f} s", since)

    def _end(self, window: Window) -> float:
        after = bisect_right(self._begins, window.begin)
        return self._begins[after] if after < len(self._begins) else inf

    # -- poison and settings ---------------------------------------------------------------------------

    def judge_poison(self) -> None:
        self.verdict.dead_letters = len(self._facts.dead)
        for place, at in self._facts.poison.items():
            if place not in self._facts.dead:
                self.verdict.problems.append(
                    f"poison: partition {place.partition} offset {place.offset} is in no dead letter"
                    f" [{self._window(at).name}]"
                )
        for place in self._facts.dead - self._facts.poison.keys():
            self.verdict.problems.append(
                f"dead letter: partition {place.partition} offset {place.offset} was no poison"
            )

    def judge_settings(self) -> None:
        """Every change took effect once or is superseded, and the newest of each indicator stands last."""
        changes = {(change.biller, change.id): change for change in self._facts.changes}
        applied: dict[Id, list[Effect]] = defaultdict(list)
        standing: dict[tuple[str, str, str], Change] = {}
        for row in sorted(self._facts.settings, key=lambda row: row.seq):
            applied[row.biller, row.id].append(row)
            change = changes.get((row.biller, row.id))
            if change is None:
                self.verdict.problems.append(
                    f"unsaid: setting {row.biller} {row.id} is applied, nobody sent it"
                )
                continue
            scope = (row.biller, row.account, row.indicator)
            if scope in standing and standing[scope].instant > change.instant:
                self.verdict.settings["disorder"] += 1
                self._blame("disorder", change, f"was applied after the newer {standing[scope].id}", row.at)
            else:
                standing[scope] = change
        for change in self._facts.changes:
            self._judge_change(change, applied[change.biller, change.id])
        for problem in self._not_newest(standing):
            self.verdict.problems.append(problem)

    def _judge_change(self, change: Change, rows: list[Effect]) -> None:
        count = self.verdict.settings
        if change.accepted is None:
            self._blame(
                "never accepted", change, f"was not taken: {change.refused or change.tries}", change.sent
            )
            return
        count["accepted"] += 1
        outcome = self._outcomes.get(("settings", (change.biller, change.id)))
        state = outcome.state if outcome else "nowhere"
        if rows:
            count["in ledger"] += 1
            count["doubled"] += len(rows) - 1
            if len(rows) > 1:
                self._blame("doubled", change, f"was applied {len(rows)} times", rows[1].at)
        elif state == "superseded":
            count["superseded"] += 1
        else:
            count["parked" if state == "parked" else "lost"] += 1
            self._blame("lost", change, f"was not applied: {state}")

    def _not_newest(self, standing: dict[tuple[str, str, str], Change]) -> Iterator[str]:
        newest: dict[tuple[str, str, str], Change] = {}
        for change in self._facts.changes:
            scope = (change.biller, change.account, change.indicator)
            if change.accepted is not None and (
                scope not in newest or change.instant > newest[scope].instant
            ):
                newest[scope] = change
        for scope, change in newest.items():
            stands = standing.get(scope)
            if stands is not change:
                yield (
                    f"settings: {change.biller} {change.account} {change.indicator} ends as"
                    f" {stands.id if stands else 'never set'}, not as {change.id}"
                )


def _open(payment: Payment, effect: Effect, at: float) -> bool:
    """Whether a payment was under way at an instant."""
    return (payment.sent or 0.0) < at < effect.at + SETTLING_S
