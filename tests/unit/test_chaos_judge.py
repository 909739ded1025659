"""The judge of a storm: a clean one holds, and every planted fault is found and named down to the payment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest

from deploy.local.day.facts import Outcome
from tests.chaos.facts import CONFLICT, Change, Effect, Facts, Payment, Place, Window
from tests.chaos.judge import judge
from tests.chaos.report import total
from tests.chaos.verdict import Line, Verdict

KILL, HANG = 100.0, 200.0
ACME = "acme"


def storm() -> Facts:
    """Three payments of account 1, one of account 2, three that must be parked; two changes, one too late."""
    payments = [
        paid("p-1", "1", sent=90.0),
        paid("p-2", "1", sent=101.0),
        paid("p-3", "1", sent=210.0),
        paid("p-4", "2", sent=102.0),
        paid("p-kiosk", "2", sent=103.0, planted="Kiosk"),
        paid("p-nobody", "3", sent=104.0, planted="account_unknown"),
        paid("p-1", "1", sent=105.0, planted=CONFLICT),
    ]
    return Facts(
        windows=[Window("calm", 80.0, 0), Window("kill -9", KILL, 1, 5.0), Window("hang", HANG, 7)],
        payments=payments,
        effects=[
            posted(1, 91.0, "p-1", "1"),
            posted(2, 103.0, "p-2", "1"),
            posted(3, 104.0, "p-4", "2"),
            posted(4, 212.0, "p-3", "1"),
        ],
        places={
            (ACME, "p-1"): Place(5, 10),
            (ACME, "p-2"): Place(5, 12),
            (ACME, "p-3"): Place(5, 20),
            (ACME, "p-4"): Place(7, 3),
            (ACME, "p-1#"): Place(5, 13),
        },
        copies={(ACME, "p-1"): 1, (ACME, "p-2"): 3},
        outcomes=[
            *(outcome(guid, "posted") for guid in ("p-1", "p-2", "p-3", "p-4")),
            outcome("p-kiosk", "parked", "unsupported: Kiosk"),
            outcome("p-nobody", "parked", "account_unknown"),
            outcome("p-1#", "parked", "conflict"),
            Outcome("settings", ACME, "c-new", "posted", "", 0, 1),
            Outcome("settings", ACME, "c-old", "superseded", "", 0, 2),
        ],
        poison={Place(5, 11): 101.0},
        dead={Place(5, 11)},
        changes=[changed("c-new", 20.0), changed("c-old", 10.0)],
        settings=[applied(1, "c-new")],
    )


def paid(guid: str, account: str, *, sent: float, planted: str = "") -> Payment:
    return Payment(ACME, guid, account, Decimal("10.00"), planted, sent=sent, accepted=sent + 0.5, tries=1)


def posted(seq: int, at: float, guid: str, account: str) -> Effect:
    return Effect(seq, at, ACME, guid, account, Decimal("10.00"))


def outcome(natural: str, state: str, reason: str = "") -> Outcome:
    return Outcome("payments", ACME, natural, state, reason, 5, 0)


def changed(change: str, instant: float) -> Change:
    return Change(ACME, change, "1", "AutoPay", instant, sent=110.0, accepted=111.0, tries=1)


def applied(seq: int, change: str) -> Effect:
    return Effect(seq, 112.0, ACME, change, "1", None, "AutoPay")


def line(verdict: Verdict, fault: str) -> Line:
    (found,) = (each for each in verdict.lines if each.fault == fault)
    return found


def test_a_clean_storm_holds_and_is_counted_by_window() -> None:
    verdict = judge(storm())
    assert verdict.holds
    kill, hang = line(verdict, "kill -9"), line(verdict, "hang")
    assert (kill.injected, kill.accepted, kill.in_ledger, kill.planted, kill.parked) == (1, 5, 2, 3, 0)
    assert (hang.injected, hang.accepted, hang.in_ledger) == (7, 1, 1)
    assert (total(verdict).accepted, total(verdict).in_ledger, total(verdict).planted) == (7, 4, 3)
    assert (verdict.copies, verdict.dead_letters) == (2, 1)
    assert verdict.settings == {"accepted": 2, "in ledger": 1, "superseded": 1, "doubled": 0}


def without(facts: Facts, guid: str) -> list[Effect]:
    return [effect for effect in facts.effects if effect.id != guid]


def lose(facts: Facts) -> None:
    facts.effects = without(facts, "p-4")


def lose_without_an_outcome(facts: Facts) -> None:
    facts.effects = without(facts, "p-4")
    facts.outcomes = [each for each in facts.outcomes if each.id != "p-4"]


def reject(facts: Facts) -> None:
    facts.effects = without(facts, "p-4")
    facts.outcomes[3] = outcome("p-4", "rejected", "UNKNOWN_ACCOUNT")


def double(facts: Facts) -> None:
    facts.effects.append(posted(9, 206.0, "p-4", "2"))


def swap(facts: Facts) -> None:
    facts.effects[1], facts.effects[3] = posted(4, 212.0, "p-2", "1"), posted(2, 211.0, "p-3", "1")


def change_the_amount(facts: Facts) -> None:
    facts.effects[2] = replace(facts.effects[2], amount=Decimal("10.01"))


def change_the_account(facts: Facts) -> None:
    facts.effects[2] = replace(facts.effects[2], account="1")


def post_what_nobody_sent(facts: Facts) -> None:
    facts.effects.append(posted(9, 206.0, "p-ghost", "2"))


def park_what_nobody_sent(facts: Facts) -> None:
    facts.outcomes.append(outcome("p-ghost", "parked", "in_doubt"))


def park(facts: Facts) -> None:
    facts.effects = without(facts, "p-4")
    facts.outcomes[3] = outcome("p-4", "parked", "in_doubt")


def park_for_another_reason(facts: Facts) -> None:
    facts.outcomes[4] = outcome("p-kiosk", "parked", "in_doubt")


def forget_what_is_parked(facts: Facts) -> None:
    del facts.outcomes[4]


def post_what_must_be_parked(facts: Facts) -> None:
    facts.effects.append(posted(9, 206.0, "p-kiosk", "2"))


def stall(facts: Facts) -> None:
    facts.effects[2] = posted(3, 108.0, "p-4", "2")


def stall_into_the_next_fault(facts: Facts) -> None:
    facts.effects[2] = posted(3, 201.0, "p-4", "2")


def stall_behind_another(facts: Facts) -> None:
    """Accepted together with another one of its account, which was quick."""
    facts.payments.append(paid("p-5", "2", sent=102.0))
    facts.effects.append(posted(9, 110.0, "p-5", "2"))
    facts.outcomes.append(outcome("p-5", "posted"))


def never_accept(facts: Facts) -> None:
    facts.payments[3].accepted, facts.payments[3].tries = None, 40


def refuse(facts: Facts) -> None:
    facts.payments[3].accepted, facts.payments[3].refused = None, "422 Malformed payment"


def swallow_the_poison(facts: Facts) -> None:
    facts.dead = set()


def bury_what_is_sound(facts: Facts) -> None:
    facts.dead = {*facts.dead, Place(5, 12)}


def apply_the_old_change(facts: Facts) -> None:
    facts.settings.append(applied(2, "c-old"))


def apply_a_change_twice(facts: Facts) -> None:
    facts.settings.append(applied(2, "c-new"))


def lose_a_change(facts: Facts) -> None:
    facts.settings = []


def set_what_nobody_changed(facts: Facts) -> None:
    facts.settings.append(applied(2, "c-ghost"))


FAULTS: dict[Callable[[Facts], None], str] = {
    lose: "lost: acme p-4 (account 2, partition 7 offset 3) is accepted and not in the ledger: posted",
    lose_without_an_outcome: "lost: acme p-4 (account 2, partition 7 offset 3) is accepted and not in",
    reject: "p-4 (account 2, partition 7 offset 3) is accepted and not in the ledger: rejected (UNKNOWN",
    double: "doubled: acme p-4 (account 2, partition 7 offset 3) stands again in the ledger after 102.00 s",
    swap: "disorder: acme p-2 (account 1, partition 5 offset 12) took effect after p-3 at 20 [hang]",
    change_the_amount: "amount: acme p-4 (account 2, partition 7 offset 3) stands with 10.01, not 10.00",
    change_the_account: "account: acme p-4 (account 2, partition 7 offset 3) stands under account 1",
    post_what_nobody_sent: "unsaid: acme p-ghost (account 2) stands in the ledger 1 times and nobody sent it",
    park_what_nobody_sent: "unsaid: acme p-ghost is parked and nobody sent it",
    park: "parked: acme p-4 (account 2, partition 7 offset 3) is parked for in_doubt [kill -9]",
    park_for_another_reason: "parked: acme p-kiosk (account 2) is parked for in_doubt, not for Kiosk",
    forget_what_is_parked: "lost: acme p-kiosk (account 2) should be parked (Kiosk) and is nowhere",
    post_what_must_be_parked: "planted: acme p-kiosk (account 2) stands in the ledger although it must not",
    stall: "stall: acme p-4 (account 2, partition 7 offset 3) waited 5.5 s, more than 5 s [kill -9]",
    stall_into_the_next_fault: "stall: acme p-4 (account 2, partition 7 offset 3) waited 97.5 s, more than 5",
    stall_behind_another: "stall: acme p-5 (account 2) waited 6.0 s, more than 5 s [kill -9]",
    never_accept: "never accepted: acme p-4 (account 2, partition 7 offset 3) was not taken in 40 tries",
    refuse: "p-4 (account 2, partition 7 offset 3) was refused as 422 Malformed payment",
    swallow_the_poison: "poison: partition 5 offset 11 is in no dead letter [kill -9]",
    bury_what_is_sound: "dead letter: partition 5 offset 12 was no poison",
    apply_the_old_change: "disorder: acme c-old (account 1) was applied after the newer c-new",
    apply_a_change_twice: "doubled: acme c-new (account 1) was applied 2 times",
    lose_a_change: "lost: acme c-new (account 1) was not applied: posted",
    set_what_nobody_changed: "unsaid: setting acme c-ghost is applied, nobody sent it",
}


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found_and_named(plant: Callable[[Facts], None]) -> None:
    facts = storm()
    plant(facts)
    verdict = judge(facts)
    assert not verdict.holds
    assert FAULTS[plant] in "\n".join([*verdict.problems, *verdict.stalls])


def test_wrong_things_are_counted_in_the_window_in_which_they_happen() -> None:
    facts = storm()
    lose(facts)
    double_of_three = posted(9, 213.0, "p-3", "1")
    facts.effects.append(double_of_three)
    verdict = judge(facts)
    kill, hang = line(verdict, "kill -9"), line(verdict, "hang")
    assert (kill.lost, kill.doubled, hang.lost, hang.doubled) == (1, 0, 0, 1)


def test_one_lost_and_another_doubled_do_not_cancel_out() -> None:
    facts = storm()
    lose(facts)
    facts.effects.append(posted(9, 105.0, "p-2", "1"))
    sums = total(judge(facts))
    assert (sums.lost, sums.doubled) == (1, 1)


def test_a_stall_of_an_account_in_doubt_breaks_no_promise_and_is_shown() -> None:
    facts = storm()
    facts.payments[0].sent, facts.payments[0].accepted = 99.0, 99.5
    facts.effects[0] = posted(1, 109.0, "p-1", "1")
    facts.effects[1] = posted(2, 109.1, "p-2", "1")
    verdict = judge(facts)
    assert verdict.holds
    assert line(verdict, "kill -9").in_doubt_s == pytest.approx(9.5)
    assert line(verdict, "kill -9").stalled_in_doubt == "acme p-1"


def test_a_payment_sent_before_the_process_was_really_gone_may_be_in_doubt() -> None:
    facts = storm()
    facts.effects[1] = posted(2, 109.0, "p-2", "1")
    assert not judge(facts).holds
    facts.windows[1].struck = 101.5
    assert judge(facts).holds


def test_what_was_parked_and_then_posted_is_posted() -> None:
    facts = storm()
    facts.outcomes.insert(0, outcome("p-4", "parked", "in_doubt"))
    assert judge(facts).holds


def test_a_repeat_of_an_effect_is_no_disorder_besides() -> None:
    facts = storm()
    facts.effects.append(posted(9, 213.0, "p-1", "1"))
    sums = total(judge(facts))
    assert (sums.doubled, sums.disorder) == (1, 0)
