"""Balances: one call for a burst, honest when IMT is away, and the older never over the newer."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from services.balances.current import CurrentBalances, keep_newest
from services.balances.handlers import (
    PAGES_A_TICK,
    Away,
    Desk,
    Fresh,
    Known,
    Refused,
    Stale,
    TooMany,
    Unknown,
    answer_enquiry,
    find_by_ivr,
    poll_changes,
    refresh_after_payment,
)
from services.balances.imt import Balance, NoBalance, Page
from services.balances.sharing import Announcements, Coalesced
from services.bus.accounts import AccountsView
from services.bus.biller import Poll, Rtdr
from services.bus.lane import Parked, Posted, Rejected
from services.bus.partner import Outage, Retryable
from services.bus.partner import Unknown as UnknownEffect
from services.events import AccountCurrent, BalanceChanged, BalanceCurrent, PaymentOutcome
from tests.unit.parts import NOON, FakeClock, FakePublisher, a_biller

ACCOUNT = "0012345"


def balance(due: str = "120.50", at: datetime = NOON, account: str = ACCOUNT, **more: Any) -> Balance:
    return Balance(
        account=account,
        balance_due=Decimal(due),
        past_due=Decimal("0.00"),
        current_charges=Decimal(due),
        credit=Decimal("0.00"),
        as_of=at,
        **more,
    )


def current(due: str = "100.00", at: datetime = NOON - timedelta(hours=1), **more: Any) -> BalanceCurrent:
    stated: dict[str, Any] = {
        "biller": "acme",
        "account": ACCOUNT,
        "balance_due": Decimal(due),
        "minimum_due": Decimal(due),
        "past_due": Decimal("0.00"),
        "current_charges": Decimal(due),
        "credit": Decimal("0.00"),
        "as_of": at,
        "updated_at": at,
    }
    return BalanceCurrent(**(stated | more))


class FakePaymentsDue:
    """IMT as told: an answer for each account, a list of changes, or a fault."""

    def __init__(self) -> None:
        self.answer: Balance | NoBalance | Exception = balance()
        self.changes: list[Balance] = []
        self.asked: list[tuple[datetime, str | None]] = []
        self.calls = 0
        self.page = 200
        self.unreadable = 0
        self.gate: asyncio.Event | None = None
        self.fail_at: int | None = None

    async def read_account(self, biller: Any, account: str, deadline_s: float) -> Balance | NoBalance:
        del biller, account, deadline_s
        self.calls += 1
        if self.gate is not None:
            await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def list_changes(
        self, biller: Any, since: datetime, after: str | None, limit: int, deadline_s: float
    ) -> Page:
        del limit, deadline_s
        self.asked.append((since, after))
        if self.fail_at == len(self.asked):
            raise Outage(biller.slug, "imt", "refused", never_sent=True)
        listed = sorted((c for c in self.changes if c.as_of >= since), key=lambda c: c.as_of)
        begin = int(after or 0)
        end = begin + self.page
        return Page(tuple(listed[begin:end]), self.unreadable, str(end) if end < len(listed) else None)


def a_desk(*balances: BalanceCurrent) -> Desk:
    publisher = FakePublisher()
    accounts, view = AccountsView(), CurrentBalances()
    for account in (ACCOUNT, "777", "00777"):
        accounts.apply(
            AccountCurrent(
                biller="acme",
                account=account,
                normalised=account.lstrip("0"),
                invoice_number=f"INV-{account}",
                invoice_date=date(2026, 11, 1),
                invoices=(),
                updated_at=NOON,
            )
        )
    for event in balances:
        view.apply(event)
    accounts.ready = view.ready = True
    return Desk(
        FakePaymentsDue(),  # type: ignore[arg-type]  # a fake of the client
        accounts,
        view,
        publisher,  # type: ignore[arg-type]  # a fake of the bus
        FakeClock(),
        Coalesced(),
        Announcements(publisher, view),  # type: ignore[arg-type]  # the same fake
    )


def imt(desk: Desk) -> FakePaymentsDue:
    assert isinstance(desk.imt, FakePaymentsDue)
    return desk.imt


def published(desk: Desk) -> list[BalanceChanged]:
    assert isinstance(desk.publisher, FakePublisher)
    return desk.publisher.events


async def settled(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(2):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


# -- RTDR ------------------------------------------------------------------------------------------------


async def test_an_enquiry_gets_imts_own_balance_and_the_change_is_published() -> None:
    desk = a_desk(current("100.00"))
    assert await answer_enquiry(a_biller(), " 12-345", desk) == Fresh(balance("120.50"))
    await settled(lambda: bool(published(desk)))
    (event,) = published(desk)
    assert (event.cause, event.account, event.balance_due) == ("rtdr", ACCOUNT, Decimal("120.50"))
    assert (event.previous_balance_due, event.minimum_due) == (Decimal("100.00"), Decimal("120.50"))
    assert not event.polled


@pytest.mark.parametrize(
    "known", [current("120.50", at=NOON), current("99.00", at=NOON + timedelta(seconds=1))]
)
async def test_what_is_known_or_older_is_no_change(known: BalanceCurrent) -> None:
    desk = a_desk(known)
    assert isinstance(await answer_enquiry(a_biller(), ACCOUNT, desk), Fresh)
    await asyncio.sleep(0.01)
    assert published(desk) == []


async def test_a_burst_for_one_account_makes_one_call() -> None:
    desk = a_desk()
    gate = imt(desk).gate = asyncio.Event()
    burst = [
        asyncio.create_task(answer_enquiry(a_biller(), typed, desk)) for typed in (ACCOUNT, "12345") * 50
    ]
    await settled(lambda: imt(desk).calls == 1)
    burst[0].cancel()  # the one who came first hangs up
    await asyncio.sleep(0)
    gate.set()
    answers = await asyncio.gather(*burst[1:])
    assert set(answers) == {Fresh(balance())}
    assert imt(desk).calls == 1
    await settled(lambda: len(published(desk)) == 1)
    await answer_enquiry(a_biller(), ACCOUNT, desk)
    assert imt(desk).calls == 2, "the next enquiry asks again"


async def test_the_calls_under_way_are_bounded() -> None:
    desk = a_desk()
    desk.calls = Coalesced(limit=0)
    assert await answer_enquiry(a_biller(), ACCOUNT, desk) == Away(1)
    assert imt(desk).calls == 0


FAULTS = [
    Outage("acme", "imt", "refused", never_sent=True),
    Retryable("acme", "imt", "no answer within the deadline"),
    UnknownEffect("acme", "imt", "reset"),
]


@pytest.mark.parametrize("fault", FAULTS)
async def test_while_imt_is_away_nothing_stale_is_told(fault: Exception) -> None:
    desk = a_desk(current())
    imt(desk).answer = fault
    assert await answer_enquiry(a_biller(), ACCOUNT, desk) == Away(30)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_stale_balance_is_marked_where_the_biller_chose_it(fault: Exception) -> None:
    desk, biller = a_desk(current()), a_biller(rtdr={"on_outage": "stale"})
    imt(desk).answer = fault
    assert await answer_enquiry(biller, ACCOUNT, desk) == Stale(current())
    desk.balances = CurrentBalances()
    desk.balances.ready = True
    assert isinstance(await answer_enquiry(biller, ACCOUNT, desk), Away), "nothing known, nothing told"


async def test_the_partners_own_retry_after_is_passed_on() -> None:
    desk = a_desk()
    imt(desk).answer = Outage("acme", "imt", "answered 503", retry_after=119.2)
    assert await answer_enquiry(a_biller(), ACCOUNT, desk) == Away(120)


async def test_the_deadline_holds_whatever_imt_does() -> None:
    desk = a_desk()
    gate = imt(desk).gate = asyncio.Event()
    async with asyncio.timeout(1):
        answer = await answer_enquiry(a_biller(rtdr=Rtdr(deadline_s=0.05)), ACCOUNT, desk)
    assert answer == Away(30)
    gate.set()


async def test_the_answer_does_not_wait_for_the_bus() -> None:
    desk = a_desk()
    desk.announcements.publisher.away = True  # type: ignore[attr-defined]  # the fake's switch
    assert isinstance(await answer_enquiry(a_biller(), ACCOUNT, desk), Fresh)


@pytest.mark.parametrize(
    ("typed", "answer"), [("999", Unknown()), ("7-77", TooMany()), ("", Unknown()), ("12345A", Unknown())]
)
async def test_unknown_and_ambiguous_numbers_do_not_reach_imt(typed: str, answer: object) -> None:
    desk = a_desk()
    assert await answer_enquiry(a_biller(), typed, desk) == answer
    assert imt(desk).calls == 0


async def test_imts_own_no_is_told() -> None:
    desk = a_desk()
    imt(desk).answer = NoBalance("unknown_account")
    assert await answer_enquiry(a_biller(), ACCOUNT, desk) == Unknown()
    imt(desk).answer = NoBalance("rejected")
    assert await answer_enquiry(a_biller(), ACCOUNT, desk) == Refused("rejected")


async def test_nobody_is_unknown_while_the_views_are_not_whole() -> None:
    desk = a_desk()
    desk.accounts.ready = False
    assert await answer_enquiry(a_biller(), "999", desk) == Away(1)
    assert find_by_ivr(a_biller(), "999", desk) == Away(1)


def test_ivr_answers_from_the_views_alone() -> None:
    desk = a_desk(current())
    found = find_by_ivr(a_biller(), "012 345", desk)
    assert isinstance(found, Known)
    assert (found.account.account, found.balance) == (ACCOUNT, current())
    assert find_by_ivr(a_biller(), "777", desk) == TooMany()
    assert find_by_ivr(a_biller(), "9", desk) == Unknown()
    assert imt(desk).calls == 0


# -- refresh after a payment -----------------------------------------------------------------------------


def outcome(state: Any = "posted") -> PaymentOutcome:
    return PaymentOutcome(
        biller="acme",
        account=ACCOUNT,
        natural_id="guid",
        event_id="e",
        state=state,
        origin_topic="t",
        origin_partition=0,
        origin_offset=1,
        settled_at=NOON,
        amount=Decimal("20.00"),
        tender="card",
        product="portal",
    )


async def test_a_posted_payment_refreshes_the_balance() -> None:
    desk = a_desk(current("120.50"))
    imt(desk).answer = balance("100.50")
    assert await refresh_after_payment(outcome(), a_biller(), desk) == Posted()
    (event,) = published(desk)
    assert (event.cause, event.balance_due) == ("payment", Decimal("100.50"))


@pytest.mark.parametrize("state", ["parked", "rejected", "superseded", "dismissed"])
async def test_a_payment_that_was_not_posted_asks_nothing(state: str) -> None:
    desk = a_desk()
    assert isinstance(await refresh_after_payment(outcome(state), a_biller(), desk), Rejected)
    assert imt(desk).calls == 0


async def test_a_refresh_is_done_only_when_the_bus_has_the_change() -> None:
    desk = a_desk()
    desk.publisher.away = True  # type: ignore[attr-defined]  # the fake's switch
    with pytest.raises(Retryable):
        await refresh_after_payment(outcome(), a_biller(), desk)


async def test_a_refresh_lets_the_lane_judge_a_fault_and_ends_at_imts_no() -> None:
    desk = a_desk()
    imt(desk).answer = Outage("acme", "imt", "refused")
    with pytest.raises(Outage):
        await refresh_after_payment(outcome(), a_biller(), desk)
    imt(desk).answer = NoBalance("unknown_account")
    assert isinstance(await refresh_after_payment(outcome(), a_biller(), desk), Rejected)
    assert published(desk) == []


async def test_a_biller_whose_file_was_taken_away_is_not_asked_for() -> None:
    desk = a_desk()
    assert await refresh_after_payment(outcome(), None, desk) == Parked(
        "unknown_biller", "no biller's file names this biller", never_sent=True
    )
    assert imt(desk).calls == 0


async def test_an_equal_amount_as_of_later_keeps_out_what_lies_between() -> None:
    desk = a_desk(current("100.00", NOON))
    imt(desk).answer = balance("100.00", NOON + timedelta(minutes=5))
    await refresh_after_payment(outcome(), a_biller(), desk)
    imt(desk).answer = balance("120.00", NOON + timedelta(minutes=2))
    await refresh_after_payment(outcome(), a_biller(), desk)
    known = follow(desk).of("acme", ACCOUNT)
    assert known is not None
    assert (known.balance_due, known.as_of) == (Decimal("100.00"), NOON + timedelta(minutes=5))


async def test_the_same_balance_of_the_same_instant_is_no_event() -> None:
    desk = a_desk(current("100.00", NOON))
    imt(desk).answer = balance("100.00", NOON)
    assert await refresh_after_payment(outcome(), a_biller(), desk) == Posted(
        reason="known", detail="the balance was known already"
    )
    assert published(desk) == []


# -- poll ------------------------------------------------------------------------------------------------


def change(seconds: int, due: str, account: str = ACCOUNT, cause: str | None = None) -> Balance:
    return balance(due, NOON - timedelta(hours=2) + timedelta(seconds=seconds), account, cause=cause)


def follow(desk: Desk) -> CurrentBalances:
    """What the table and a replica's view make of all that was published."""
    view = CurrentBalances()
    states: dict[str, BalanceCurrent] = {}
    for event in published(desk):
        after = keep_newest(states.get(event.account), event)
        if after is not None:
            states[event.account] = after
            view.apply(after)
    return view


async def test_a_poll_publishes_each_change_with_imts_cause() -> None:
    desk = a_desk()
    imt(desk).changes = [
        change(1, "10.00", "1", "invoice"),
        change(2, "5.00", "1", "payment"),
        change(3, "7.00", "2"),
    ]
    await poll_changes(a_biller(), desk)
    told = [(e.account, e.balance_due, e.cause, e.previous_balance_due, e.polled) for e in published(desk)]
    assert told == [
        ("1", Decimal("10.00"), "invoice", None, False),
        ("1", Decimal("5.00"), "payment", Decimal("10.00"), False),
        ("2", Decimal("7.00"), "poll", None, True),
    ]


async def test_the_mark_is_published_after_all_before_it_is_acknowledged() -> None:
    desk = a_desk()
    imt(desk).changes = [change(n, f"{n}.00", str(n)) for n in range(1, 6)]
    await poll_changes(a_biller(), desk)
    first, last = desk.publisher.calls  # type: ignore[attr-defined]  # the fake's memory
    assert [event.polled for event in first] == [False] * 4
    assert [event.polled for event in last] == [True]


async def test_the_next_poll_goes_on_from_the_mark_less_the_overlap() -> None:
    desk, biller = a_desk(), a_biller(poll=Poll(overlap_s=60))
    imt(desk).changes = [change(0, "10.00", "1"), change(100, "11.00", "2")]
    await poll_changes(biller, desk)
    await poll_changes(biller, desk)
    assert imt(desk).asked[0][0] == datetime(1970, 1, 1, tzinfo=UTC)
    assert imt(desk).asked[1][0] == change(40, "0").as_of
    replica = follow(desk)
    desk.balances = replica  # another one knows only what is on the topic
    await poll_changes(biller, desk)
    assert imt(desk).asked[2][0] == change(40, "0").as_of
    assert len(published(desk)) == 2, "what is known is not told again"


async def test_a_change_known_already_still_moves_the_mark() -> None:
    desk = a_desk(current("10.00", at=change(5, "0").as_of))
    imt(desk).changes = [change(5, "10.00")]
    await poll_changes(a_biller(), desk)
    (event,) = published(desk)
    assert event.polled
    assert event.balance_due == event.previous_balance_due == Decimal("10.00")


async def test_a_poll_takes_so_many_pages_a_tick_and_goes_on_there() -> None:
    desk = a_desk()
    imt(desk).page = 1
    imt(desk).changes = [change(0, f"{n}.00", str(n)) for n in range(PAGES_A_TICK + 3)]  # one instant
    await poll_changes(a_biller(), desk)
    assert len(imt(desk).asked) == PAGES_A_TICK
    await poll_changes(a_biller(), desk)
    assert {event.account for event in published(desk)} == {str(n) for n in range(PAGES_A_TICK + 3)}


async def test_rows_of_a_poll_that_nobody_can_read_are_counted() -> None:
    desk = a_desk()
    imt(desk).changes, imt(desk).unreadable = [change(0, "10.00")], 2
    before = unreadable_rows()
    await poll_changes(a_biller(), desk)
    assert unreadable_rows() - before == 2
    assert len(published(desk)) == 1


def unreadable_rows() -> float:
    return REGISTRY.get_sample_value("billbus_poll_unreadable_total", {"biller": "acme"}) or 0.0


async def test_a_failed_poll_loses_nothing() -> None:
    desk = a_desk()
    imt(desk).page = 2
    imt(desk).changes = [change(n * 600, f"{n}.00", str(n)) for n in range(6)]
    imt(desk).fail_at = 2
    await poll_changes(a_biller(), desk)
    desk.balances = follow(desk)
    imt(desk).fail_at = None
    await poll_changes(a_biller(), desk)
    assert {event.account for event in published(desk)} == {str(n) for n in range(6)}


async def test_a_poll_that_the_bus_did_not_acknowledge_is_made_again() -> None:
    desk = a_desk()
    imt(desk).changes = [change(1, "10.00")]
    desk.publisher.away = True  # type: ignore[attr-defined]  # the fake's switch
    await poll_changes(a_biller(), desk)
    desk.publisher.away = False  # type: ignore[attr-defined]  # the fake's switch
    await poll_changes(a_biller(), desk)
    assert [event.polled for event in published(desk)] == [True]


async def test_imts_clock_ahead_of_ours_hides_no_change() -> None:
    desk = a_desk()
    imt(desk).changes = [balance(at=NOON + timedelta(days=300))]
    await poll_changes(a_biller(), desk)
    await poll_changes(a_biller(), desk)
    assert imt(desk).asked[1][0] == NOON - timedelta(seconds=60)


# -- the fold --------------------------------------------------------------------------------------------


def event(at: int, due: int, *, observed: int | None = None, polled: bool = False) -> BalanceChanged:
    seen = at if observed is None else observed
    return BalanceChanged(
        biller="acme",
        account=ACCOUNT,
        balance_due=Decimal(due),
        minimum_due=Decimal(due),
        past_due=Decimal(0),
        current_charges=Decimal(due),
        credit=Decimal(0),
        cause="poll",
        as_of=NOON + timedelta(seconds=at),
        polled=polled,
        observed_at=NOON + timedelta(seconds=seen),
    )


def folded(events: Any) -> BalanceCurrent | None:
    state: BalanceCurrent | None = None
    for one in events:
        state = keep_newest(state, one) or state
    return state


def test_the_older_never_overwrites_the_newer() -> None:
    newer = keep_newest(None, event(10, 5))
    assert newer is not None
    assert keep_newest(newer, event(9, 99, observed=20)) is None
    assert keep_newest(newer, event(9, 99, observed=20, polled=True)) == replace(
        newer, polled_as_of=NOON + timedelta(seconds=9)
    )


@given(
    st.lists(
        st.builds(
            event,
            st.integers(0, 3),
            st.integers(0, 2),
            observed=st.integers(0, 50),
            polled=st.booleans(),
        ),
        min_size=1,
        max_size=4,
        unique_by=lambda e: e.observed_at,
    )
)
def test_in_whatever_order_they_come_the_newest_stays(events: list[BalanceChanged]) -> None:
    newest = max(events, key=lambda e: (e.as_of, e.observed_at))
    marks = [e.as_of for e in events if e.polled]
    for order in permutations(events):
        state = folded(order)
        assert state is not None
        assert (state.as_of, state.balance_due) == (newest.as_of, newest.balance_due)
        assert state.polled_as_of == max(marks, default=None)
        assert folded([*order, *order]) == state, "the same again changes nothing"
