"""What pausing and resuming make of a biller's record, and which names they take."""

from datetime import timedelta
from pathlib import Path

import pytest

from services.bus.pauses import ALL, Pauses
from services.bus.settings import ConfigurationError, load_settings
from services.events import PauseCurrent, PausedLane
from services.operations.pausing import CLOCKS, Paused, Wish, merge, still_held, wish_of
from tests.unit.parts import NOON

POST, POLL = "payments.post", "poll"


def by(lane: str, who: str = "jdoe") -> PausedLane:
    return PausedLane(lane=lane, operator=who, reason="maintenance", since=NOON)


def wish(paused: bool, lane: str = ALL, biller: str = "acme") -> Wish:
    return Wish(paused=paused, biller=biller, lane=lane)


def pauses(**billers: Paused) -> Pauses:
    found = Pauses()
    for biller, paused in billers.items():
        name = ALL if biller == "every" else biller
        found.take(PauseCurrent(biller=name, paused=paused, updated_at=NOON))
    return found


def test_a_pause_is_added_beside_the_others() -> None:
    assert merge(wish(True, POLL), (by(POST),), by(POLL)) == (by(POST), by(POLL))


def test_what_is_paused_stays_as_it_was_first_written() -> None:
    later = PausedLane(lane=POST, operator="other", reason="again", since=NOON + timedelta(hours=1))
    assert merge(wish(True, POST), (by(POST),), later) == (by(POST),)


def test_resuming_a_lane_ends_its_pause_and_no_other() -> None:
    assert merge(wish(False, POST), (by(POST), by(POLL)), by(POST)) == (by(POLL),)
    assert merge(wish(False, "settings.apply"), (by(POST),), by(POST)) == (by(POST),)


def test_resuming_a_biller_ends_all_of_its_pauses() -> None:
    assert merge(wish(False), (by(ALL), by(POST)), by(ALL)) == ()


def test_what_is_resumed_and_held_all_the_same_is_said() -> None:
    there = pauses(acme=(by(ALL), by(POST)), every=(by(POLL), by(POST)))
    assert still_held(wish(False, POST), there, (by(ALL),)) == (("acme", by(ALL)), (ALL, by(POST)))
    assert still_held(wish(False), there, ()) == ((ALL, by(POLL)), (ALL, by(POST)))
    assert still_held(wish(False, biller=ALL), there, ()) == ()
    assert still_held(wish(True, POST), there, (by(POST),)) == ()


def test_all_lanes_and_all_clocks_that_call_partners_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "acme.yaml").touch()
    settings = load_settings(billers=tmp_path)
    for lane in (*CLOCKS, POST, ALL):
        assert wish_of(settings, "acme", lane, paused=True).lane == lane


def test_an_unknown_biller_and_an_unknown_lane_are_refused_with_the_nearest_names(tmp_path: Path) -> None:
    for name in ("acme", "birch"):
        (tmp_path / f"{name}.yaml").touch()
    settings = load_settings(billers=tmp_path)
    with pytest.raises(ConfigurationError) as refused:
        wish_of(settings, "acne", "payment.post", paused=True)
    assert refused.value.problems == [
        "There is no biller 'acne'; did you mean acme?",
        "There is no lane 'payment.post'; did you mean payments.post?",
    ]
    with pytest.raises(ConfigurationError, match="there are acme, birch"):
        wish_of(settings, "zzz", ALL, paused=False)
