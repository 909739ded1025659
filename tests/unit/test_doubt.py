"""One record on its way to the partner: every way of failing, and what is done about it."""

from pathlib import Path

import pytest

from services.bus.doubt import INDEX_WAIT_S, Done, Later
from services.bus.lane import (
    CannotSay,
    Found,
    NotFound,
    Parked,
    Rejected,
)
from services.bus.partner import Outage, Retryable, Unknown
from tests.unit.payments_sample import a_payment
from tests.unit.road import PATIENCE_S, Partner, Road


def fault(kind: type[Retryable | Unknown | Outage]) -> Exception:
    return kind("acme", "imt.datapump", "for the test")


async def test_a_fresh_record_is_sent_without_asking(tmp_path: Path) -> None:
    partner = Partner()
    road = Road(tmp_path, partner)
    assert await road.to_the_end(road.item()) == Done("posted")
    assert (len(partner.sent), partner.asked) == (1, 0)
    assert (road.outcomes[0].state, road.outcomes[0].partner_reference) == ("posted", "R-1")


async def test_a_settled_record_is_skipped_without_asking(tmp_path: Path) -> None:
    partner = Partner()
    road = Road(tmp_path, partner)
    await road.to_the_end(road.item())
    assert await road.to_the_end(road.item(in_doubt=True)) == Done("known")
    assert (len(partner.sent), partner.asked, len(road.outcomes)) == (1, 0, 1)


async def test_in_doubt_and_found_is_posted_without_sending(tmp_path: Path) -> None:
    partner = Partner(says=[Found("R-0")])
    road = Road(tmp_path, partner)
    assert await road.to_the_end(road.item(in_doubt=True)) == Done("posted")
    assert partner.sent == []
    assert (road.outcomes[0].looked_up, road.outcomes[0].partner_reference) == (True, "R-0")


async def test_not_found_is_believed_only_when_the_partner_cannot_still_act(tmp_path: Path) -> None:
    partner = Partner(says=[NotFound(), NotFound()])
    road = Road(tmp_path, partner)
    item = road.item(in_doubt=True)
    first = await road.attempt(item)
    assert first == Later(PATIENCE_S)
    assert partner.sent == []
    road.clock.move(seconds=PATIENCE_S)
    assert await road.attempt(item) == Done("posted")
    assert len(partner.sent) == 1


async def test_after_a_time_out_the_partner_is_asked_and_had_it(tmp_path: Path) -> None:
    partner = Partner(does=[fault(Unknown)], says=[Found("R-2")])
    road = Road(tmp_path, partner)
    assert await road.to_the_end(road.item()) == Done("posted")
    assert (len(partner.sent), road.outcomes[0].looked_up) == (1, True)


async def test_a_request_that_takes_effect_late_is_still_found(tmp_path: Path) -> None:
    partner = Partner(does=[fault(Unknown)], says=[NotFound(), Found("R-3")])
    road = Road(tmp_path, partner)
    assert await road.to_the_end(road.item()) == Done("posted")
    assert len(partner.sent) == 1


async def test_a_partner_without_look_up_parks_what_is_in_doubt(tmp_path: Path) -> None:
    partner = Partner()
    road = Road(tmp_path, partner, ask=None)
    assert await road.to_the_end(road.item(in_doubt=True)) == Done("parked")
    assert partner.sent == []
    assert (road.outcomes[0].reason, road.outcomes[0].never_sent) == ("in_doubt", False)


async def test_a_partner_that_cannot_say_for_good_parks_it(tmp_path: Path) -> None:
    partner = Partner(says=[CannotSay("other content", ever=False)] * 2)
    road = Road(tmp_path, partner)
    assert await road.to_the_end(road.item(in_doubt=True)) == Done("parked")
    assert partner.sent == []


async def test_retries_are_bounded_in_time_then_parked(tmp_path: Path) -> None:
    partner = Partner(does=[fault(Retryable)] * 1000)
    road = Road(tmp_path, partner, retry_for_s=60.0)
    assert await road.to_the_end(road.item(), limit=1000) == Done("parked")
    assert road.outcomes[0].reason == "retries_exhausted"
    assert 60 <= road.clock.monotonic() < 60 + 2 * 30


async def test_while_a_partner_is_away_one_asks_and_no_retry_time_is_spent(tmp_path: Path) -> None:
    partner = Partner(does=[fault(Outage)] * 200)
    road = Road(tmp_path, partner, retry_for_s=1.0)
    first, second = road.item(), road.item()
    assert isinstance(await road.attempt(first), Later)
    sent = len(partner.sent)
    assert isinstance(await road.attempt(second), Later)
    assert len(partner.sent) == sent  # the breaker is open: the second was not sent
    assert await road.to_the_end(first, limit=2000) == Done("posted")
    assert road.clock.monotonic() > 100  # far longer than the retry time, and still not parked


async def test_an_outage_that_only_one_record_meets_parks_it_and_holds_up_no_other(tmp_path: Path) -> None:
    partner = Partner()
    road = Road(tmp_path, partner)
    odd = road.item()
    for number in range(20):
        partner.does = [fault(Outage)]
        result = await road.attempt(odd)
        if isinstance(result, Done):
            break
        road.clock.move(seconds=30)
        other = a_payment(PaymentGUID=f"other-{number}")
        assert await road.to_the_end(road.item(event=other)) == Done("posted")
    assert result == Done("parked")
    assert number <= 7
    assert [o.reason for o in road.outcomes if o.state == "parked"] == ["outage_of_this_one"]


async def test_a_rejection_is_final(tmp_path: Path) -> None:
    partner = Partner(does=[Rejected("unknown_account")])
    road = Road(tmp_path, partner)
    assert await road.to_the_end(road.item()) == Done("rejected")
    assert await road.to_the_end(road.item()) == Done("known")
    assert len(partner.sent) == 1


async def test_the_same_id_with_other_content_is_parked_once_and_never_sent(tmp_path: Path) -> None:
    partner = Partner()
    road = Road(tmp_path, partner)
    await road.to_the_end(road.item())
    other = a_payment(PaymentAmount="999.00")
    assert await road.to_the_end(road.item(event=other)) == Done("parked")
    assert await road.to_the_end(road.item(event=other)) == Done("known")
    assert len(partner.sent) == 1
    assert (road.outcomes[1].reason, road.outcomes[1].never_sent) == ("conflict", True)
    assert road.outcomes[1].natural_id.startswith("9b2f-01#")


async def test_a_parked_one_that_was_never_sent_is_delivered_when_it_comes_again(tmp_path: Path) -> None:
    partner = Partner(does=[Parked("account_unknown", never_sent=True)])
    road = Road(tmp_path, partner)
    assert await road.to_the_end(road.item()) == Done("parked")
    assert await road.to_the_end(road.item()) == Done("posted")
    assert partner.asked == 0
    assert road.outcomes[1].attempt == 2


async def test_a_parked_one_that_may_have_been_sent_is_asked_for(tmp_path: Path) -> None:
    partner = Partner(does=[Parked("for a person")], says=[Found("R-9")])
    road = Road(tmp_path, partner)
    await road.to_the_end(road.item())
    assert await road.to_the_end(road.item()) == Done("posted")
    assert len(partner.sent) == 1


async def test_a_fault_of_ours_counts_as_doubt_and_is_parked_at_last(tmp_path: Path) -> None:
    partner = Partner(does=[ValueError("a bug")] * 3, says=[NotFound()] * 10)
    road = Road(tmp_path, partner)
    assert await road.to_the_end(road.item()) == Done("parked")
    assert road.outcomes[0].reason == "handler_failed"
    assert "a bug" not in (road.outcomes[0].detail or "")


async def test_an_outcome_that_is_not_acknowledged_goes_again_as_the_same_fact(tmp_path: Path) -> None:
    partner = Partner()
    road = Road(tmp_path, partner)
    item = road.item()
    road.publisher.away = True
    assert isinstance(await road.attempt(item), Later)
    assert road.index.get(b"0" * 16) is None
    road.publisher.away = False
    assert await road.attempt(item) == Done("posted")
    assert len(partner.sent) == 1


async def test_a_registry_that_is_away_is_no_poison(tmp_path: Path) -> None:
    road = Road(tmp_path, Partner())
    road.codec.away = True
    assert isinstance(await road.attempt(road.item()), Later)
    assert road.outcomes == []


async def test_what_an_earlier_owner_applied_is_waited_for_as_it_may_be_newer(tmp_path: Path) -> None:
    earlier = Road(tmp_path / "earlier", Partner(), order=lambda _: ("account", "002"))
    await earlier.to_the_end(earlier.item())
    partner = Partner()
    road = Road(tmp_path, partner, order=lambda _: ("account", "001"))
    older = road.item(event=a_payment(PaymentGUID="another"))
    older.outcome_ends = {0: 1}
    assert await road.attempt(older) == Later(INDEX_WAIT_S)
    road.index.take(0, earlier.outcomes, 1)
    assert await road.to_the_end(older) == Done("superseded")
    assert partner.sent == []


@pytest.mark.parametrize(("rank", "state"), [("001", "superseded"), ("003", "posted")])
async def test_the_older_never_goes_over_the_newer(tmp_path: Path, rank: str, state: str) -> None:
    partner = Partner()
    ranks = iter(["002", "002", rank, rank, rank])
    road = Road(tmp_path, partner, order=lambda _: ("account", next(ranks)))
    await road.to_the_end(road.item())
    other = a_payment(PaymentGUID="another")
    assert await road.to_the_end(road.item(event=other)) == Done(state)
    assert len(partner.sent) == (1 if state == "superseded" else 2)
