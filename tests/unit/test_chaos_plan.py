"""What a storm is made of: the same seed draws the same, every fault comes, and everything is planted."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import UTC, datetime

import pytest

from deploy.local.day.contract import Contract
from deploy.local.processes import ROOT
from tests.chaos.client import Request, take
from tests.chaos.facts import CONFLICT, Payment
from tests.chaos.plan import ACCOUNTS, UNKNOWN, UNSUPPORTED, Plan, draw_plan
from tests.chaos.storm import KILL_BOUND_S, KINDS, SESSION_S, draw_storm
from tests.chaos.test_storm import BRISK, EVENTS, FAULTS, LENGTH_S

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def plan(seed: int = 1, events: int = 5000) -> Plan:
    return draw_plan(seed, events, 60.0, Contract(ROOT / "schemas" / "partners"), NOW)


def test_the_same_seed_draws_the_same_and_another_one_another() -> None:
    assert plan(1, 500) == plan(1, 500)
    assert plan(1, 500) != plan(2, 500)
    assert draw_storm(1, 500) == draw_storm(1, 500)
    assert draw_storm(1, 500) != draw_storm(2, 500)


@pytest.mark.parametrize("seed", range(50))
def test_every_fault_comes_one_after_another(seed: int) -> None:
    faults = draw_storm(seed, 300.0)
    assert {fault.name for fault in faults} == {kind.name for kind in KINDS}
    for before, after in itertools.pairwise(faults):
        assert before.at_s + before.lasts_s <= after.at_s


@pytest.mark.parametrize("seed", range(50))
def test_every_fault_of_the_short_storm_comes_in_time(seed: int) -> None:
    assert {fault.name for fault in draw_storm(seed, LENGTH_S, FAULTS, BRISK)} == set(FAULTS)


@pytest.mark.parametrize("seed", range(50))
def test_a_brisk_storm_stops_longer_than_a_session_and_waits_longer_than_an_account_may_stand(
    seed: int,
) -> None:
    drawn = draw_storm(seed, LENGTH_S, FAULTS, BRISK)
    assert all(fault.lasts_s > SESSION_S + 1 for fault in drawn if fault.name == "SIGSTOP")
    for fault, after in itertools.pairwise(drawn):
        assert fault.name != "kill -9" or after.at_s - fault.at_s > KILL_BOUND_S + 1


def test_payments_are_as_many_as_asked_for_of_all_billers_and_some_are_planted() -> None:
    drawn = plan(events=EVENTS)
    planted = Counter(payment.planted for payment in drawn.payments)
    assert {payment.biller for payment in drawn.payments} == set(ACCOUNTS)
    assert len(drawn.payments) == EVENTS
    assert planted[UNSUPPORTED] > 0
    assert planted[UNKNOWN] > 0
    assert planted[CONFLICT] > 0
    assert len({payment.id for payment in drawn.payments}) == EVENTS


def test_a_conflict_goes_out_only_after_the_payment_whose_guid_it_has() -> None:
    drawn = plan()
    conflicts = [request for request in drawn.requests if request.after is not None]
    for request in conflicts:
        (other,) = request.said
        assert isinstance(other, Payment)
        assert request.after is not None
        assert (other.guid, other.account) == (request.after.guid, request.after.account)
        assert other.amount != request.after.amount
        assert request.at_s > first_time(drawn, request.after)


def first_time(drawn: Plan, payment: Payment) -> float:
    (request,) = (each for each in drawn.requests if any(said is payment for said in each.said))
    return request.at_s


def test_settings_come_in_disorder() -> None:
    changes = [request for request in plan().requests if request.how == "changes"]
    assert sorted(changes, key=lambda request: request.at_s) == changes
    instants = [change_instant(request) for request in changes]
    assert instants != sorted(instants)


def change_instant(request: Request) -> float:
    (change,) = request.said
    assert not isinstance(change, Payment)
    return change.instant


@pytest.mark.parametrize(
    ("status", "accepted", "refused"),
    [
        (200, True, ""),
        (207, True, ""),
        (0, False, ""),
        (503, False, ""),
        (429, False, ""),
        (422, False, "422 no"),
    ],
)
def test_only_a_certain_answer_counts(status: int, accepted: bool, refused: str) -> None:
    (payment, *_) = plan(events=1).payments
    take(payment, {"status": status, "body": {"title": "no"}})
    assert (payment.accepted is not None, payment.refused) == (accepted, refused)
