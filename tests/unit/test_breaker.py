"""When a partner that is away is asked again, and by how many."""

import pytest

from services.bus.breaker import FIRST_PAUSE_S, LONGEST_PAUSE_S, PROBE_LIMIT_S, Breakers
from tests.unit.parts import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def breakers(clock: FakeClock) -> Breakers:
    return Breakers("invoices.upload", clock)


def test_one_call_of_many_that_finds_the_partner_away_is_one_outage(
    breakers: Breakers, clock: FakeClock
) -> None:
    for _ in range(100):
        assert breakers.failed("acme") <= FIRST_PAUSE_S + 0.5
    clock.move(seconds=FIRST_PAUSE_S)
    assert breakers.wait("acme") == 0


def test_one_that_left_before_the_breaker_opened_takes_nobodys_turn_as_the_probe(
    breakers: Breakers, clock: FakeClock
) -> None:
    breakers.failed("acme")
    clock.move(seconds=FIRST_PAUSE_S)
    assert breakers.failed("acme") > 0
    assert breakers.wait("acme") == 0
    breakers.failed("acme")
    assert breakers.failed("acme", 7) >= 7
    assert breakers.wait("acme") > 6


def test_those_that_wait_for_a_probe_do_not_wait_for_its_limit(breakers: Breakers, clock: FakeClock) -> None:
    breakers.failed("acme", 5)
    clock.move(seconds=5)
    assert breakers.wait("acme") == 0
    assert 0 < breakers.wait("acme") <= FIRST_PAUSE_S + 0.5
    breakers.answered("acme")
    assert breakers.wait("acme") == 0


def test_each_probe_that_fails_waits_longer_up_to_a_limit(breakers: Breakers, clock: FakeClock) -> None:
    breakers.failed("acme")
    pauses = []
    for _ in range(8):
        clock.move(seconds=LONGEST_PAUSE_S)
        assert breakers.wait("acme") == 0
        pauses.append(breakers.failed("acme"))
    assert pauses[0] <= 2 * FIRST_PAUSE_S
    assert LONGEST_PAUSE_S / 2 <= pauses[-1] <= LONGEST_PAUSE_S


def test_a_probe_without_an_answer_is_followed_by_another(breakers: Breakers, clock: FakeClock) -> None:
    breakers.failed("acme")
    clock.move(seconds=FIRST_PAUSE_S)
    assert breakers.wait("acme") == 0
    clock.move(seconds=PROBE_LIMIT_S - 1)
    assert breakers.wait("acme") > 0
    clock.move(seconds=1)
    assert breakers.wait("acme") == 0
