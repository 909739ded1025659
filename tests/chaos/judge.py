"""The verdict on a storm: what was promised against what the partner has, window by window, name by name.

A pure function of the facts. A payment belongs to the window in which it was accepted; what is doubled or
out of order belongs to the window in which the wrong effect came.
"""

from __future__ import annotations

from collections import defaultdict

from deploy.local.day.facts import Id, Outcome
from tests.chaos.changes import judge_changes
from tests.chaos.facts import Effect, Facts, Payment
from tests.chaos.stalls import judge_stalls
from tests.chaos.verdict import Book, Line, Verdict


def judge(facts: Facts) -> Verdict:
    """Everything that does not hold is in the verdict's problems and stalls."""
    book = Book(facts)
    court = _Court(book)
    for payment in facts.payments:
        court.judge_payment(payment)
    court.judge_unsaid()
    court.judge_order()
    court.judge_poison()
    judge_stalls(book)
    judge_changes(book)
    return book.verdict


class _Court:
    def __init__(self, book: Book) -> None:
        self._book = book

    def judge_payment(self, payment: Payment) -> None:
        if payment.accepted is None:
            told = (
                f"refused as {payment.refused}" if payment.refused else f"not taken in {payment.tries} tries"
            )
            self._book.blame("never accepted", payment, f"was {told}", payment.sent)
            return
        line = self._book.line(payment.accepted)
        line.accepted += 1
        effects = self._book.effects.get(payment.id, [])
        if effects:
            line.in_ledger += 1
            self._judge_effects(payment, effects)
        outcome = self._book.outcomes.get(("payments", payment.id))
        if outcome is not None and outcome.state == "parked":
            self._judge_parked(payment, outcome, line)
        elif payment.planted and not effects:
            line.lost += 1
            self._book.blame("lost", payment, f"should be parked ({payment.planted}) and is nowhere")
        elif not effects:
            line.lost += 1
            state = f"{outcome.state} ({outcome.reason})" if outcome else "no outcome"
            self._book.blame("lost", payment, f"is accepted and not in the ledger: {state}")

    def _judge_effects(self, payment: Payment, effects: list[Effect]) -> None:
        if payment.planted:
            self._book.blame(
                "planted", payment, f"stands in the ledger although it must not ({payment.planted})"
            )
        for again in effects[1:]:
            self._book.line(again.at).doubled += 1
            apart = again.at - effects[0].at
            self._book.blame("doubled", payment, f"stands again in the ledger after {apart:.2f} s", again.at)
        for effect in effects:
            if effect.amount != payment.amount:
                self._book.blame("amount", payment, f"stands with {effect.amount}, not {payment.amount}")
            if effect.account != payment.account:
                self._book.blame("account", payment, f"stands under account {effect.account}")

    def _judge_parked(self, payment: Payment, outcome: Outcome, line: Line) -> None:
        if payment.planted and payment.planted in outcome.reason:
            line.planted += 1
            return
        line.parked += 1
        meant = f", not for {payment.planted}" if payment.planted else ""
        self._book.blame("parked", payment, f"is parked for {outcome.reason}{meant}")

    def judge_unsaid(self) -> None:
        """What the partner has and nobody sent; what is parked and nobody sent."""
        said = {payment.id for payment in self._book.facts.payments}
        for (biller, guid), effects in self._book.effects.items():
            if (biller, guid) not in said:
                at = effects[0]
                self._book.verdict.problems.append(
                    f"unsaid: {biller} {guid} (account {at.account}) stands in the ledger"
                    f" {len(effects)} times and nobody sent it [{self._book.window(at.at).name}]"
                )
        for (flow, natural), outcome in self._book.outcomes.items():
            if flow == "payments" and natural not in said:
                self._book.verdict.problems.append(
                    f"unsaid: {natural[0]} {natural[1]} is {outcome.state} and nobody sent it"
                )

    def judge_order(self) -> None:
        """The ledger's first effect of each payment against where the payment stands on the topic."""
        accounts: dict[Id, list[Effect]] = defaultdict(list)
        for effects in self._book.effects.values():
            accounts[effects[0].biller, effects[0].account].append(effects[0])
        payments = {payment.id: payment for payment in self._book.facts.payments}
        for rows in accounts.values():
            latest, latest_id = -1, ""
            for row in sorted(rows, key=lambda row: row.seq):
                place = self._book.facts.places.get((row.biller, row.id))
                payment = payments.get((row.biller, row.id))
                if place is None or payment is None:
                    continue
                if place.offset < latest:
                    self._book.line(row.at).disorder += 1
                    self._book.blame(
                        "disorder", payment, f"took effect after {latest_id} at {latest}", row.at
                    )
                else:
                    latest, latest_id = place.offset, row.id

    def judge_poison(self) -> None:
        self._book.verdict.dead_letters = len(self._book.facts.dead)
        for place, at in self._book.facts.poison.items():
            if place not in self._book.facts.dead:
                self._book.verdict.problems.append(
                    f"poison: partition {place.partition} offset {place.offset} is in no dead letter"
                    f" [{self._book.window(at).name}]"
                )
        for place in self._book.facts.dead - self._book.facts.poison.keys():
            self._book.verdict.problems.append(
                f"dead letter: partition {place.partition} offset {place.offset} was no poison"
            )
