"""The demo's judge: a day that fits passes, and each planted fault is found and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from deploy.local.day.facts import Batch, Effect, Facts, Outcome, Paid, Row, Said, Sum
from deploy.local.day.judge import Verdict, judge, missing_outcomes

DAY = date(2026, 11, 20)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
USD = Decimal
FEE = USD("2.95")


def payment(natural: str, account: str, amount: str, **changes: Any) -> Said:
    """An accepted payment that must reach IMT."""
    said = Said(
        "payments",
        "acme",
        natural,
        "effect",
        amount=USD(amount),
        effects=(Effect(natural, account, USD(amount)),),
        paid=Paid(USD(amount), FEE, "card", "agent_connect", "agent", "A-17"),
        answer="accepted",
        at=NOON,
        tries=1,
    )
    return replace(said, **changes)


def posted(natural: str, account: str, amount: str, seq: int, day: date = DAY) -> Row:
    return Row("payments", "acme", natural, account, seq, USD(amount), batch_day=day)


def outcome(flow: Any, natural: str, state: str = "posted", reason: str = "", offset: int = 0) -> Outcome:
    return Outcome(flow, "acme", natural, state, reason, 0, offset)


def setting(natural: str, value: str, at: datetime) -> Said:
    effect = Effect(natural, "0007", None, value, "AutoPay", at)
    return Said("settings", "acme", natural, "effect", effects=(effect,), answer="accepted", tries=1)


def flipped(natural: str, value: str, seq: int) -> Row:
    return Row("settings", "acme", natural, "0007", seq, value=value, indicator="AutoPay")


def day() -> Facts:
    """Two payments before the cut-off and one after it, one parked by name, and one of everything else."""
    parked = payment("p-park", "0009", "5.00", flow="unsupported", expects="parked", effects=())
    parked.name = "unsupported: Kiosk"
    parked.paid = Paid(USD("5.00"), FEE, "card", "kiosk", "Kiosk")
    balance = {"account": "0007", "balance_due": "60.00", "stale": False}
    closed = Sum(3, USD("55.00"), 3 * FEE)
    agent = Sum(2, USD("50.00"), 2 * FEE)
    return Facts(
        said=[
            Said(
                "invoices",
                "acme",
                "line 3",
                "refused",
                name="Template",
                answer="refused",
                told="Not: Template",
            ),
            Said(
                "invoices",
                "acme",
                "INV-1",
                "effect",
                amount=USD("100.00"),
                effects=(Effect("INV-1", "0007", USD("100.00")),),
                answer="accepted",
            ),
            payment("p-1", "0007", "40.00"),
            payment("p-2", "0008", "10.00"),
            payment("p-late", "0007", "1.00"),
            parked,
            Said("repeats", "acme", "p-1", "answer", amount=USD("40.00"), answer="accepted"),
            setting("ch-1", "T", NOON),
            setting("ch-2", "F", NOON + timedelta(seconds=1)),
            Said("settings", "acme", "ch-old", "superseded", answer="accepted"),
            Said("rtdr", "acme", "1", "answer", wire={"account": "0007"}, answer="accepted", body=balance),
            Said("links", "acme", "B-1", "effect", effects=(Effect("B-1", "0007"),), answer="accepted"),
            Said(
                "refusals",
                "acme",
                "void",
                "refused",
                name="Void",
                answer="refused",
                told="Not supported: Void",
            ),
        ],
        rows=[
            Row("invoices", "acme", "INV-1", "0007", 1, USD("100.00")),
            posted("p-1", "0007", "40.00", 2),
            posted("p-2", "0008", "10.00", 3),
            posted("p-late", "0007", "1.00", 4, DAY + timedelta(days=1)),
            flipped("ch-1", "T", 5),
            flipped("ch-2", "F", 6),
            Row("bills", "acme", "B-1", "0007", 7, opened=True),
            Row("bills", "acme", "B-1", "0007", 8),
        ],
        outcomes=[
            outcome("invoices", "INV-1"),
            outcome("payments", "p-1", offset=0),
            outcome("payments", "p-2", offset=1),
            outcome("payments", "p-park", "parked", "unsupported: Kiosk", 2),
            outcome("payments", "p-late", offset=3),
            outcome("settings", "ch-1"),
            outcome("settings", "ch-2"),
            outcome("settings", "ch-old", "superseded"),
        ],
        batches=[
            Batch(
                "acme",
                DAY,
                closed,
                {("card", "agent_connect"): agent, ("card", "kiosk"): Sum(1, USD("5.00"), FEE)},
                {"A-17": agent},
                {0: (0, 3)},
            )
        ],
        owed={("acme", "0007"): USD("100.00"), ("acme", "0008"): USD("10.00"), ("acme", "0009"): USD("5.00")},
        days={"acme": DAY},
        live={("acme", "INV-1")},
    )


def problems(facts: Facts) -> str:
    verdict = judge(facts)
    assert not verdict.adds_up, "the planted fault was not found"
    return "\n".join(verdict.problems)


def line(verdict: Verdict, flow: str) -> Any:
    return next(each for each in verdict.lines if each.flow == flow)


def test_a_day_that_fits_adds_up() -> None:
    verdict = judge(day())
    assert verdict.problems == []
    assert all(each.adds_up for each in verdict.lines)
    payments = line(verdict, "payments")
    assert (payments.sent, payments.accepted, payments.at_partner, payments.lost) == (3, 3, 3, 0)
    assert payments.said_amount == payments.partner_amount == USD("51.00")
    assert line(verdict, "unsupported").parked_amount == USD("5.00")
    assert line(verdict, "settings").superseded == 1
    assert line(verdict, "invoices").refused == 1
    (batch,) = verdict.batches
    assert batch.adds_up
    assert (batch.closed.amount, batch.posted, batch.not_posted) == (USD("55.00"), USD("50.00"), USD("5.00"))
    assert batch.after == Sum(1, USD("1.00"), FEE)


def lose_a_payment(facts: Facts) -> None:
    facts.rows = [row for row in facts.rows if row.id != "p-2"]


def lose_an_invoice(facts: Facts) -> None:
    facts.rows = [row for row in facts.rows if row.id != "INV-1"]


def lose_a_setting(facts: Facts) -> None:
    facts.rows = [row for row in facts.rows if row.id != "ch-2"]


def double_a_payment(facts: Facts) -> None:
    facts.rows.append(posted("p-1", "0007", "40.00", 9))


def double_an_invoice(facts: Facts) -> None:
    facts.rows.append(Row("invoices", "acme", "INV-1", "0007", 9, USD("100.00")))


def change_an_amount(facts: Facts) -> None:
    facts.rows[1] = replace(facts.rows[1], amount=USD("40.01"))


def change_an_account(facts: Facts) -> None:
    facts.rows[1] = replace(facts.rows[1], account="0008")


def add_a_fee(facts: Facts) -> None:
    facts.rows[2] = replace(facts.rows[2], amount=USD("10.00") + FEE)


def invert_a_setting(facts: Facts) -> None:
    facts.rows[5] = replace(facts.rows[5], value="T")


def apply_an_old_setting(facts: Facts) -> None:
    facts.rows.append(flipped("ch-old", "T", 9))


def swap_two_settings(facts: Facts) -> None:
    facts.rows[4], facts.rows[5] = flipped("ch-2", "F", 5), flipped("ch-1", "T", 6)


def post_what_is_not_supported(facts: Facts) -> None:
    facts.rows.append(posted("p-park", "0009", "5.00", 9))


def park_by_another_name(facts: Facts) -> None:
    facts.outcomes[3] = replace(facts.outcomes[3], reason="unsupported: EMV")


def forget_what_is_parked(facts: Facts) -> None:
    del facts.outcomes[3]


def post_what_nobody_paid(facts: Facts) -> None:
    facts.rows.append(posted("p-ghost", "0007", "3.00", 9))


def close_with_another_total(facts: Facts) -> None:
    (batch,) = facts.batches
    facts.batches = [replace(batch, all=Sum(3, USD("55.01"), 3 * FEE))]


def close_with_another_count(facts: Facts) -> None:
    (batch,) = facts.batches
    facts.batches = [replace(batch, all=Sum(4, USD("55.00"), 3 * FEE))]


def close_with_another_fee(facts: Facts) -> None:
    (batch,) = facts.batches
    facts.batches = [replace(batch, all=Sum(3, USD("55.00"), FEE))]


def total_another_tender(facts: Facts) -> None:
    (batch,) = facts.batches
    totals = {("eft", kind[1]): total for kind, total in batch.totals.items()}
    facts.batches = [replace(batch, totals=totals)]


def total_another_agent(facts: Facts) -> None:
    (batch,) = facts.batches
    facts.batches = [replace(batch, agents={"A-42": batch.agents["A-17"]})]


def close_twice_differently(facts: Facts) -> None:
    facts.batches.append(replace(facts.batches[0], all=Sum()))


def never_close(facts: Facts) -> None:
    facts.batches = []


def close_tomorrow_too(facts: Facts) -> None:
    facts.batches.append(replace(facts.batches[0], day=DAY + timedelta(days=1)))


def post_into_the_wrong_day(facts: Facts) -> None:
    facts.rows[3] = replace(facts.rows[3], batch_day=DAY)


def refuse_a_payment(facts: Facts) -> None:
    facts.said[3].answer, facts.said[3].told = "refused", "Malformed payment"


def never_accept_a_payment(facts: Facts) -> None:
    facts.said[3].answer = ""


def accept_what_is_not_supported(facts: Facts) -> None:
    facts.said[-1].answer = "accepted"


def refuse_without_the_name(facts: Facts) -> None:
    facts.said[-1].told = "Not found"


def tell_a_balance_that_never_was(facts: Facts) -> None:
    facts.said[10].body["balance_due"] = "59.99"


def tell_another_account(facts: Facts) -> None:
    facts.said[10].body["account"] = "0008"


def tell_a_stale_balance(facts: Facts) -> None:
    facts.said[10].body["stale"] = True


def answer_a_repeat_otherwise(facts: Facts) -> None:
    facts.said[6].body = {"Status": "duplicate"}


def leave_a_link_dead(facts: Facts) -> None:
    facts.live = set()


def open_without_reading(facts: Facts) -> None:
    facts.rows = [row for row in facts.rows if not row.opened]


FAULTS: dict[Callable[[Facts], None], str] = {
    lose_a_payment: "acme p-2 is not in the partner's ledger: posted",
    lose_an_invoice: "acme INV-1 is not in the partner's ledger",
    lose_a_setting: "acme ch-2 is not in the partner's ledger",
    double_a_payment: "acme p-1 stands 2 times in the partner's ledger",
    double_an_invoice: "acme INV-1 stands 2 times in the partner's ledger",
    change_an_amount: "acme p-1 stands in the partner's ledger with amount 40.01, not 40.00",
    change_an_account: "acme p-1 stands in the partner's ledger with account 0008, not 0007",
    add_a_fee: "acme p-2 stands in the partner's ledger with amount 12.95, not 10.00",
    invert_a_setting: "acme ch-2 stands in the partner's ledger with value T, not F",
    apply_an_old_setting: "acme ch-old stands in the partner's ledger although it must not",
    swap_two_settings: "acme AutoPay ends as ch-1 set it, not as ch-2",
    post_what_is_not_supported: "acme p-park stands in the partner's ledger although it must not",
    park_by_another_name: "acme p-park is parked (unsupported: EMV), not parked (unsupported: Kiosk)",
    forget_what_is_parked: "acme p-park has no outcome",
    post_what_nobody_paid: "acme p-ghost stands in the ledger 1 times, unsaid",
    close_with_another_total: "acme 2026-11-20 closed with 3 payments, 55.01",
    close_with_another_count: "acme 2026-11-20 closed with 4 payments",
    close_with_another_fee: "acme 2026-11-20 closed with 3 payments, 55.00 and fees 2.95",
    total_another_tender: "by eft and kiosk; accepted were 0 payments",
    total_another_agent: "of agent A-42; accepted were 0 payments",
    close_twice_differently: "acme has more than one batch for 2026-11-20",
    never_close: "acme has no batch.closed for 2026-11-20",
    close_tomorrow_too: "acme closed a day that has not ended: 2026-11-21",
    post_into_the_wrong_day: "p-late was received after the batch of 2026-11-20 and posted",
    refuse_a_payment: "acme p-2 was refused: Malformed payment",
    never_accept_a_payment: "acme p-2 was never accepted (1 tries)",
    accept_what_is_not_supported: "acme void was accepted although it should be refused as Void",
    refuse_without_the_name: "acme void was refused as 'Not found', not by its name 'Void'",
    tell_a_balance_that_never_was: "acme 1 was answered with 59.99, which the account never owed",
    tell_another_account: "acme 1 was answered with the balance of another account, 0008",
    tell_a_stale_balance: "acme 1 was answered with a stale balance, which this biller does not allow",
    answer_a_repeat_otherwise: "acme p-1 was answered with {'Status': 'duplicate'}, the first time with None",
    leave_a_link_dead: "acme INV-1 has no bill link that was found live",
    open_without_reading: "acme B-1 is not in the partner's ledger",
}


@pytest.mark.parametrize("plant", FAULTS, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found_and_named(plant: Callable[[Facts], None]) -> None:
    facts = day()
    plant(facts)
    assert FAULTS[plant] in problems(facts)


def test_what_is_lost_and_what_is_doubled_is_counted() -> None:
    facts = day()
    lose_a_payment(facts)
    double_a_payment(facts)
    payments = line(judge(facts), "payments")
    assert (payments.lost, payments.doubled, payments.adds_up) == (1, 1, False)


def with_two_effects(facts: Facts) -> None:
    """A change that sets the indicator of two numbers, as an unlink does."""
    change = next(said for said in facts.said if said.id == "ch-2")
    change.effects = (*change.effects, Effect("ch-2.b", "HO-1", None, "F", "AutoPay", NOON))
    facts.outcomes.append(outcome("settings", "ch-2.b"))


def test_a_change_with_two_effects_counts_once_and_each_effect_is_looked_for() -> None:
    facts = day()
    with_two_effects(facts)
    facts.rows.append(replace(flipped("ch-2.b", "F", 9), account="HO-1"))
    assert judge(facts).problems == []

    facts = day()
    with_two_effects(facts)
    verdict = judge(facts)
    assert any("ch-2" in problem for problem in verdict.problems)
    assert line(verdict, "settings").lost == 1


def test_one_lost_and_another_doubled_do_not_cancel_out() -> None:
    facts = day()
    lose_a_payment(facts)
    facts.rows.append(posted("p-1", "0007", "10.00", 9))  # as many rows and as much money as before
    found = problems(facts)
    assert "p-2 is not in the partner's ledger" in found
    assert "p-1 stands 2 times" in found


def test_a_parked_payment_that_should_have_been_posted_is_not_lost_but_named() -> None:
    facts = day()
    lose_a_payment(facts)
    facts.outcomes[2] = outcome("payments", "p-2", "parked", "in_doubt", 1)
    verdict = judge(facts)
    payments = line(verdict, "payments")
    assert (payments.parked, payments.lost) == (1, 0)
    assert any("p-2 is not in the partner's ledger: parked (in_doubt)" in each for each in verdict.problems)


def test_a_stale_balance_is_allowed_where_the_biller_chose_it() -> None:
    facts = day()
    tell_a_stale_balance(facts)
    facts.stale_allowed = {"acme"}
    assert judge(facts).adds_up


def test_the_same_batch_written_twice_is_one_batch() -> None:
    facts = day()
    facts.batches.append(facts.batches[0])
    assert judge(facts).adds_up


def test_a_payment_posted_after_it_was_parked_counts_as_posted() -> None:
    facts = day()
    facts.outcomes.insert(0, outcome("payments", "p-1", "parked", "in_doubt"))
    assert judge(facts).adds_up


def test_waiting_counts_what_was_accepted_and_has_no_outcome() -> None:
    facts = day()
    seen = {(each.flow, (each.biller, each.id)) for each in facts.outcomes}
    assert missing_outcomes(facts.said, lambda flow, natural: (flow, natural) in seen) == 0
    seen.discard(("payments", ("acme", "p-park")))
    assert missing_outcomes(facts.said, lambda flow, natural: (flow, natural) in seen) == 1
