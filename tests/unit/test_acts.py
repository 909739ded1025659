"""What an operator wants of a record: replay, recheck, retry, dismiss, and what a pause holds back."""

from datetime import timedelta
from pathlib import Path

import pytest

from services.bus.doubt import INDEX_WAIT_S, PAUSED_S, Done, Later
from services.bus.lane import CannotSay, Found, NotFound, Parked, Posted, Rejected
from services.bus.pauses import ALL
from services.bus.replayed import REPLAYED, Act
from services.events import PauseCurrent, PausedLane
from tests.unit.parts import NOON
from tests.unit.payments_sample import a_payment
from tests.unit.road import Partner, Road

RECHECK = Act("recheck")


async def test_a_replay_skips_what_is_settled_and_delivers_what_is_parked(tmp_path: Path) -> None:
    partner = Partner(does=[Parked("account_unknown", never_sent=True)])
    road = Road(tmp_path, partner)
    await road.to_the_end(road.item())
    assert await road.to_the_end(road.item(act=REPLAYED)) == Done("posted")
    assert await road.to_the_end(road.item(act=REPLAYED)) == Done("known")
    assert (len(partner.sent), partner.asked) == (2, 0)


async def test_a_recheck_asks_for_what_is_posted_and_sends_nothing_that_is_there(tmp_path: Path) -> None:
    partner = Partner(says=[Found("R-1")])
    road = Road(tmp_path, partner)
    await road.to_the_end(road.item())
    assert await road.to_the_end(road.item(act=RECHECK)) == Done("known")
    assert (len(partner.sent), partner.asked, len(road.outcomes)) == (1, 1, 1)


async def test_a_recheck_delivers_what_the_partner_lacks_once_it_cannot_still_act(tmp_path: Path) -> None:
    partner = Partner(says=[NotFound(), NotFound(), Found("R-2")])
    road = Road(tmp_path, partner)
    await road.to_the_end(road.item())
    assert await road.to_the_end(road.item(act=RECHECK)) == Done("posted")
    assert await road.to_the_end(road.item(act=RECHECK)) == Done("known")
    assert len(partner.sent) == 2
    assert [outcome.attempt for outcome in road.outcomes] == [1, 2]


async def test_a_recheck_leaves_what_was_rejected_and_what_is_newer_at_the_partner(tmp_path: Path) -> None:
    partner = Partner(does=[Rejected("closed")])
    road = Road(tmp_path / "a", partner)
    await road.to_the_end(road.item())
    assert await road.to_the_end(road.item(act=RECHECK)) == Done("known")
    ranks = iter(["001", "001", "002", "002", "001"])
    road = Road(tmp_path / "b", partner, order=lambda _: ("account", next(ranks)))
    await road.to_the_end(road.item())
    await road.to_the_end(road.item(event=a_payment(PaymentGUID="newer")))
    assert await road.to_the_end(road.item(event=a_payment(), act=RECHECK)) == Done("known")
    assert (len(partner.sent), partner.asked) == (3, 0)


async def test_a_recheck_whose_partner_has_something_else_is_parked_as_a_newer_fact(tmp_path: Path) -> None:
    partner = Partner(says=[CannotSay("another amount", ever=False)] * 20)
    road = Road(tmp_path, partner)
    await road.to_the_end(road.item())
    assert await road.to_the_end(road.item(act=RECHECK)) == Done("parked")
    parked = road.outcomes[1]
    assert (parked.attempt, parked.never_sent, len(partner.sent)) == (2, False, 1)


async def test_what_was_posted_and_then_parked_can_be_retried_and_dismissed(tmp_path: Path) -> None:
    partner = Partner(says=[CannotSay("another amount", ever=False)] * 20)
    road = Road(tmp_path, partner)
    await road.to_the_end(road.item())
    assert await road.to_the_end(road.item(act=RECHECK)) == Done("parked")
    partner.says = [Found("R-1")]
    assert await road.to_the_end(road.item(act=Act("retry", attempt=2))) == Done("posted")
    assert [(o.state, o.attempt) for o in road.outcomes] == [("posted", 1), ("parked", 2), ("posted", 3)]
    assert await road.to_the_end(road.item(act=Act("dismiss", attempt=2))) == Done("known")
    assert len(partner.sent) == 1


async def test_a_retry_asks_first_where_the_first_request_may_have_arrived(tmp_path: Path) -> None:
    partner = Partner(does=[Parked("for a person")], says=[Found("R-9")])
    road = Road(tmp_path, partner)
    await road.to_the_end(road.item())
    assert await road.to_the_end(road.item(act=Act("retry", attempt=1))) == Done("posted")
    assert (len(partner.sent), road.outcomes[1].attempt, road.outcomes[1].looked_up) == (1, 2, True)


async def test_a_retry_of_an_older_attempt_does_nothing(tmp_path: Path) -> None:
    partner = Partner(does=[Parked("a", never_sent=True), Parked("b", never_sent=True)])
    road = Road(tmp_path, partner)
    await road.to_the_end(road.item())
    assert await road.to_the_end(road.item(act=Act("retry", attempt=1))) == Done("parked")
    assert await road.to_the_end(road.item(act=Act("retry", attempt=1))) == Done("known")
    assert len(partner.sent) == 2


async def test_a_dismissal_is_final_says_why_and_comes_once(tmp_path: Path) -> None:
    partner = Partner(does=[Parked("unsupported: void", never_sent=True)])
    road = Road(tmp_path, partner)
    await road.to_the_end(road.item())
    dismissal = Act("dismiss", attempt=1, reason="posted by hand")
    assert await road.to_the_end(road.item(act=dismissal)) == Done("dismissed")
    assert await road.to_the_end(road.item(act=dismissal)) == Done("known")
    assert await road.to_the_end(road.item(act=REPLAYED)) == Done("known")
    assert await road.to_the_end(road.item(act=Act("retry", attempt=1))) == Done("known")
    told = road.outcomes[-1]
    assert (told.state, told.reason, told.detail) == ("dismissed", "dismissed", "posted by hand")
    assert len(partner.sent) == 1


async def test_a_dismissal_does_not_touch_what_has_been_posted_meanwhile(tmp_path: Path) -> None:
    partner = Partner(does=[Parked("late", never_sent=True), Posted("R-1")])
    road = Road(tmp_path, partner)
    await road.to_the_end(road.item())
    await road.to_the_end(road.item(act=Act("retry", attempt=1)))
    assert await road.to_the_end(road.item(act=Act("dismiss", attempt=1))) == Done("known")
    assert [outcome.state for outcome in road.outcomes] == ["parked", "posted"]


async def test_a_conflict_is_dismissed_under_its_own_id_and_never_retried(tmp_path: Path) -> None:
    partner = Partner()
    road = Road(tmp_path, partner)
    await road.to_the_end(road.item())
    other = a_payment(PaymentAmount="999.00")
    await road.to_the_end(road.item(event=other))
    assert await road.to_the_end(road.item(event=other, act=Act("retry", attempt=1))) == Done("known")
    assert await road.to_the_end(road.item(event=other, act=Act("dismiss", attempt=1))) == Done("dismissed")
    assert road.outcomes[-1].natural_id == road.outcomes[1].natural_id
    assert len(partner.sent) == 1


@pytest.mark.parametrize("wish", ["recheck", "retry", "dismiss"])
async def test_an_act_waits_until_the_index_knows_the_newest_attempt(tmp_path: Path, wish: str) -> None:
    road = Road(tmp_path, Partner())
    item = road.item(act=Act(wish, attempt=1))  # type: ignore[arg-type]  # parametrize gives any text
    item.outcome_ends = {0: 1}
    assert await road.attempt(item) == Later(INDEX_WAIT_S)


async def test_while_a_biller_is_paused_nothing_is_sent_or_asked_and_no_retry_time_is_spent(
    tmp_path: Path,
) -> None:
    partner = Partner()
    road = Road(tmp_path, partner)
    road.pauses.take(a_pause("acme", "payments.post"))
    item = road.item()
    for _ in range(3):
        assert await road.attempt(item) == Later(PAUSED_S)
    assert (partner.sent, item.waited_s, road.attempts.away("acme")) == ([], 0.0, True)
    road.pauses.take(PauseCurrent(biller="acme", paused=(), updated_at=NOON + timedelta(hours=1)))
    assert await road.to_the_end(item) == Done("posted")


@pytest.mark.parametrize(
    ("biller", "lane", "held"),
    [
        ("acme", "payments.post", True),
        ("acme", ALL, True),
        (ALL, "payments.post", True),
        (ALL, ALL, True),
        ("birch", ALL, False),
        ("acme", "settings.apply", False),
    ],
)
async def test_a_pause_holds_what_it_names_and_nothing_else(
    tmp_path: Path, biller: str, lane: str, held: bool
) -> None:
    road = Road(tmp_path, Partner())
    road.pauses.take(a_pause(biller, lane))
    assert road.attempts.away("acme") is held


def a_pause(biller: str, lane: str) -> PauseCurrent:
    paused = PausedLane(lane=lane, operator="jdoe", reason="maintenance", since=NOON)
    return PauseCurrent(biller=biller, paused=(paused,), updated_at=NOON)
