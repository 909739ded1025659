"""Adds the day up: what was said against what the partners have, and names whatever does not fit.

A pure function of the facts. Money is compared to the cent; a count that fits by chance does not help, since
every single payment, invoice and change is looked for by its own id.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from deploy.local.day.batches import BatchLine, judge_batches
from deploy.local.day.facts import ZERO, Effect, Facts, Flow, Id, Outcome, Row, Said

IN_LEDGER: dict[Flow, str] = {
    "invoices": "invoices",
    "payments": "payments",
    "unsupported": "payments",
    "settings": "settings",
    "links": "bills",
}
ORDER: tuple[Flow, ...] = (
    *("invoices", "payments", "unsupported", "repeats", "settings", "rtdr", "links", "refusals"),
)
FINAL = ("posted", "rejected", "superseded", "dismissed")


@dataclass
class Line:
    """One flow, added up. `said_amount` (USD) is what was accepted; the parts below it must give it again."""

    flow: Flow
    sent: int = 0
    accepted: int = 0
    refused: int = 0
    at_partner: int = 0
    parked: int = 0
    superseded: int = 0
    nothing: int = 0
    lost: int = 0
    doubled: int = 0
    said_amount: Decimal = ZERO
    partner_amount: Decimal = ZERO
    parked_amount: Decimal = ZERO
    superseded_amount: Decimal = ZERO
    nothing_amount: Decimal = ZERO
    names: Counter[str] = field(default_factory=Counter)

    @property
    def adds_up(self) -> bool:
        """Every one that was accepted stands somewhere, and so does every cent."""
        parts = self.at_partner + self.parked + self.superseded + self.nothing
        money = self.partner_amount + self.parked_amount + self.superseded_amount + self.nothing_amount
        fits = self.flow not in IN_LEDGER or (parts == self.accepted and money == self.said_amount)
        return fits and self.sent == self.accepted + self.refused and not (self.lost or self.doubled)


@dataclass
class Verdict:
    """The table, the batches, and everything that does not fit, in sentences."""

    lines: list[Line]
    batches: list[BatchLine]
    problems: list[str]

    @property
    def adds_up(self) -> bool:
        return not self.problems


def judge(facts: Facts) -> Verdict:
    """The verdict on a day."""
    court = _Court(facts)
    lines = [court.judge_flow(flow) for flow in ORDER]
    court.nobody_said()
    court.last_settings()
    court.links_live()
    batches, problems = judge_batches(facts)
    court.problems += problems
    for line in lines:
        if not line.adds_up and not court.problems:
            court.problems.append(f"{line.flow}: the parts do not add up to what was accepted")
    return Verdict(lines, batches, court.problems)


class _Court:
    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self.problems: list[str] = []
        self._rows: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
        for row in facts.rows:
            self._rows[row.flow, row.biller, row.id].append(row)
        self._outcomes: dict[tuple[str, str, str], Outcome] = {}
        for outcome in facts.outcomes:  # a final state counts, whatever was parked before
            where = (outcome.flow, outcome.biller, outcome.id)
            known = self._outcomes.get(where)
            if known is None or known.state not in FINAL:
                self._outcomes[where] = outcome

    # -- one flow --------------------------------------------------------------------------------------

    def judge_flow(self, flow: Flow) -> Line:
        line = Line(flow)
        for said in self._facts.said:
            if said.flow == flow:
                self._judge_one(said, line)
        return line

    def _judge_one(self, said: Said, line: Line) -> None:
        line.sent += 1
        if said.answer == "refused":
            line.refused += 1
            line.names[said.name if said.expects == "refused" else said.told] += 1
            self._refused(said)
        elif said.answer == "":
            self._blame(said, f"was never accepted ({said.tries} tries)")
        else:
            line.accepted += 1
            self._accepted(said, line)

    def _refused(self, said: Said) -> None:
        if said.expects != "refused":
            self._blame(said, f"was refused: {said.told}")
        elif said.name not in said.told:
            self._blame(said, f"was refused as {said.told!r}, not by its name {said.name!r}")

    def _accepted(self, said: Said, line: Line) -> None:
        if said.expects == "refused":
            self._blame(said, f"was accepted although it should be refused as {said.name}")
            return
        line.said_amount += said.amount or ZERO
        if said.flow == "rtdr":
            self._balance(said)
        elif said.flow == "repeats":
            line.nothing += 1
            self._same_answer(said)
        elif said.effects:
            first, *others = said.effects
            self._effect(said, first, line)
            for effect in others:  # what was said counts once, and each effect is looked for
                more = Line(said.flow)
                self._effect(said, effect, more)
                line.lost += more.lost
                line.doubled += more.doubled
        else:
            self._no_effect(said, line)

    def _effect(self, said: Said, effect: Effect, line: Line) -> None:
        rows = self._rows[IN_LEDGER[said.flow], said.biller, effect.id]
        if said.flow == "links":
            rows = [row for row in rows if row.opened][:1]  # reading twice is no effect
        if not rows:
            self._missing(said, effect, line)
            return
        line.at_partner += 1
        line.partner_amount += rows[0].amount or ZERO if effect.amount is not None else ZERO
        if len(rows) > 1:
            line.doubled += len(rows) - 1
            self._blame(said, f"stands {len(rows)} times in the partner's ledger")
        for row in rows[:1]:
            for what in ("account", "amount", "value", "indicator"):
                wanted, found = getattr(effect, what), getattr(row, what)
                if wanted is not None and wanted != found:
                    self._blame(said, f"stands in the partner's ledger with {what} {found}, not {wanted}")

    def _missing(self, said: Said, effect: Effect, line: Line) -> None:
        """Accepted, and not in the ledger: where is it?"""
        outcome = self._outcomes.get((IN_LEDGER[said.flow], said.biller, effect.id))
        state = outcome.state if outcome else "nowhere"
        if state == "parked":
            line.parked += 1
            line.parked_amount += effect.amount or ZERO
        elif state == "superseded":
            line.superseded += 1
            line.superseded_amount += effect.amount or ZERO
        else:
            line.lost += 1
        reason = f" ({outcome.reason})" if outcome and outcome.reason else ""
        self._blame(said, f"is not in the partner's ledger: {state}{reason}")

    def _no_effect(self, said: Said, line: Line) -> None:
        """What must not reach the partner: it has an outcome that says why, by its name."""
        if self._rows[IN_LEDGER[said.flow], said.biller, said.id]:
            self._blame(said, "stands in the partner's ledger although it must not")
            return
        outcome = self._outcomes.get((IN_LEDGER[said.flow], said.biller, said.id))
        if outcome is None:
            line.lost += 1
            self._blame(said, "has no outcome")
            return
        state = {"parked": "parked", "superseded": "superseded"}.get(outcome.state, "nothing")
        setattr(line, state, getattr(line, state) + 1)
        money = f"{state}_amount"
        setattr(line, money, getattr(line, money) + (said.amount or ZERO))
        if state == "parked":
            line.names[outcome.reason] += 1
        if state != said.expects or said.name not in outcome.reason:
            self._blame(said, f"is {outcome.state} ({outcome.reason}), not {said.expects} ({said.name})")

    # -- what spans the flows --------------------------------------------------------------------------

    def nobody_said(self) -> None:
        """What the partners have and nobody sent, or nobody had accepted by us."""
        known = {
            (IN_LEDGER[said.flow], said.biller, effect.id)
            for said in self._facts.said
            if said.flow in IN_LEDGER
            for effect in said.effects
        }
        for (flow, biller, natural), rows in self._rows.items():
            if flow != "bills" and (flow, biller, natural) not in known:
                mine = [
                    s
                    for s in self._facts.said
                    if (s.biller, s.id) == (biller, natural) and s.flow in IN_LEDGER
                ]
                if not mine:  # else it was blamed where it was looked for
                    self.problems.append(
                        f"{flow}: {biller} {natural} stands in the ledger {len(rows)} times, unsaid"
                    )

    def last_settings(self) -> None:
        """The newest change of each indicator is the one that IMT has in the end."""
        newest: dict[tuple[str, str, str], Effect] = {}
        for said in self._facts.said:
            for effect in said.effects if said.flow == "settings" and said.answer == "accepted" else ():
                where = (said.biller, effect.account, effect.indicator or "")
                if where not in newest or _when(effect) > _when(newest[where]):
                    newest[where] = effect
        last: dict[tuple[str, str, str], Row] = {}
        for row in sorted(self._facts.rows, key=lambda row: row.seq):
            if row.flow == "settings":
                last[row.biller, row.account, row.indicator or ""] = row
        for where, effect in newest.items():
            if where in last and last[where].id != effect.id:
                biller, _, indicator = where
                self.problems.append(
                    f"settings: {biller} {indicator} ends as {last[where].id} set it, not as {effect.id}"
                )

    def links_live(self) -> None:
        """Every invoice that was accepted has a bill link that was found live."""
        missing = [
            said
            for said in self._facts.said
            if said.flow == "invoices"
            and said.answer == "accepted"
            and (said.biller, said.id) not in self._facts.live
        ]
        for said in missing:
            self._blame(said, "has no bill link that was found live")

    def _balance(self, said: Said) -> None:
        """A balance told must be one that the account had; a stale one must be allowed and say so."""
        account, due = str(said.body["account"]), Decimal(said.body["balance_due"])
        if account != said.wire["account"]:
            self._blame(said, f"was answered with the balance of another account, {account}")
        elif due not in self._balances(said.biller, account):
            self._blame(said, f"was answered with {due}, which the account never owed")
        elif said.body["stale"] and said.biller not in self._facts.stale_allowed:
            self._blame(said, "was answered with a stale balance, which this biller does not allow")

    def _balances(self, biller: str, account: str) -> set[Decimal]:
        """What an account owed from the morning on, one payment after the other."""
        owed = self._facts.owed[biller, account]
        had = {max(ZERO, owed)}
        for row in sorted(self._facts.rows, key=lambda row: row.seq):
            if row.flow == "payments" and (row.biller, row.account) == (biller, account):
                owed -= row.amount or ZERO
                had.add(max(ZERO, owed))
        return had

    def _same_answer(self, said: Said) -> None:
        """A repeat is answered as the first time."""
        mine = [each for each in self._facts.said if each.flow == "payments" and each.id == said.id]
        for first in mine:
            if first.body != said.body:
                self._blame(said, f"was answered with {said.body}, the first time with {first.body}")

    def _blame(self, said: Said, what: str) -> None:
        self.problems.append(f"{said.flow}: {said.biller} {said.id} {what}")


def _when(effect: Effect) -> float:
    return effect.changed_at.timestamp() if effect.changed_at else 0.0


def missing_outcomes(said: Iterable[Said], settled: Callable[[str, Id], bool]) -> int:
    """How many of those accepted still have no outcome; `settled` asks for a flow and an id."""
    count = 0
    for each in said:
        if each.answer == "accepted" and each.flow in ("invoices", "payments", "unsupported", "settings"):
            flow = IN_LEDGER[each.flow]
            ids = {each.id, *(effect.id for effect in each.effects)}
            count += sum(not settled(flow, (each.biller, natural)) for natural in ids)
    return count
