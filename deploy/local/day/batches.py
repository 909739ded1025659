"""The closed batches against what was accepted, to the cent: by tender and product, and by agent."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from deploy.local.day.facts import ZERO, Batch, Facts, Id, Outcome, Row, Said, Sum


@dataclass(frozen=True, slots=True)
class BatchLine:
    """A biller's closed day: what batch.closed says, what was accepted into it, and where that stands.

    `posted` is the partner's own total of that batch date, `not_posted` what is parked (money is in USD);
    `after` is what was accepted after the cut-off.
    """

    biller: str
    day: date
    closed: Sum
    accepted: Sum
    posted: Decimal
    not_posted: Decimal
    after: Sum

    @property
    def adds_up(self) -> bool:
        return self.closed == self.accepted and self.posted + self.not_posted == self.closed.amount


def judge_batches(facts: Facts) -> tuple[list[BatchLine], list[str]]:
    """A line for each biller's day, and what does not fit."""
    books = _Books(facts)
    lines = [line for biller in sorted(facts.days) for line in books.line(biller)]
    return lines, books.problems


class _Books:
    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self.problems: list[str] = []
        self._rows: dict[Id, Row] = {}
        for row in facts.rows:
            if row.flow == "payments":
                self._rows.setdefault((row.biller, row.id), row)
        self._outcomes: dict[Id, Outcome] = {}
        for outcome in facts.outcomes:
            if outcome.flow == "payments":
                self._outcomes.setdefault((outcome.biller, outcome.id), outcome)

    def line(self, biller: str) -> Iterator[BatchLine]:
        batch = self._closed(biller)
        if batch is None:
            return
        accepted, posted, not_posted, after = Sum(), ZERO, ZERO, Sum()
        totals: dict[tuple[str, str], Sum] = defaultdict(Sum)
        agents: dict[str, Sum] = defaultdict(Sum)
        for said in self._facts.said:
            paid = said.paid
            if paid is None or said.biller != biller or said.answer != "accepted" or not paid.approved:
                continue
            if not self._within(said, batch):
                after = after.plus(paid.amount, paid.fee)
                continue
            accepted = accepted.plus(paid.amount, paid.fee)
            kind = (paid.tender, paid.product)
            totals[kind] = totals[kind].plus(paid.amount, paid.fee)
            if paid.agent is not None:
                agents[paid.agent] = agents[paid.agent].plus(paid.amount, paid.fee)
            row = self._rows.get((biller, said.id))
            posted, not_posted = (
                (posted + (row.amount or ZERO), not_posted) if row else (posted, not_posted + paid.amount)
            )
        line = BatchLine(biller, batch.day, batch.all, accepted, posted, not_posted, after)
        self._compare(batch, line, totals, agents)
        yield line

    def _closed(self, biller: str) -> Batch | None:
        """The batch of the biller's day; the same one may be written twice, another one may not."""
        day = self._facts.days[biller]
        found = [batch for batch in self._facts.batches if (batch.biller, batch.day) == (biller, day)]
        if not found:
            self.problems.append(f"batches: {biller} has no batch.closed for {day}")
            return None
        if any(other != found[0] for other in found):
            self.problems.append(f"batches: {biller} has more than one batch for {day}")
        others = {batch.day for batch in self._facts.batches if batch.biller == biller} - {day}
        if others:
            self.problems.append(
                f"batches: {biller} closed a day that has not ended: {', '.join(map(str, others))}"
            )
        return found[0]

    def _within(self, said: Said, batch: Batch) -> bool:
        """Whether a payment belongs to the batch: as IMT was told, else by where its record stood."""
        row, outcome = self._rows.get((said.biller, said.id)), self._outcomes.get((said.biller, said.id))
        by_record = outcome is not None and batch.holds(outcome)
        if row is None or row.batch_day is None:
            return by_record
        by_ledger = row.batch_day == batch.day
        if outcome is not None and by_ledger != by_record:
            where = "within" if by_record else "after"
            self.problems.append(
                f"batches: {said.biller} {said.id} was received {where} the batch of {batch.day}"
                f" and posted with batch date {row.batch_day}"
            )
        return by_ledger

    def _compare(
        self,
        batch: Batch,
        line: BatchLine,
        totals: dict[tuple[str, str], Sum],
        agents: dict[str, Sum],
    ) -> None:
        name = f"batches: {batch.biller} {batch.day}"
        if line.closed != line.accepted:
            self.problems.append(f"{name} closed with {line.closed}; accepted were {line.accepted}")
        if line.posted + line.not_posted != line.closed.amount:
            self.problems.append(
                f"{name} closed with {line.closed.amount}; at IMT {line.posted}, parked {line.not_posted}"
            )
        for kind in sorted({*batch.totals, *totals}):
            told, counted = batch.totals.get(kind, Sum()), totals.get(kind, Sum())
            if told != counted:
                self.problems.append(f"{name} says {told} by {' and '.join(kind)}; accepted were {counted}")
        for agent in sorted({*batch.agents, *agents}):
            told, counted = batch.agents.get(agent, Sum()), agents.get(agent, Sum())
            if told != counted:
                self.problems.append(f"{name} says {told} of agent {agent}; accepted were {counted}")
