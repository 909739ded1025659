"""What happens to a balance: asked for by IC, polled, refreshed after a payment."""

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from services.balances.current import Cause, CurrentBalances, changed, found, keep_newest
from services.balances.imt import Balance, NoBalance, PaymentsDue
from services.balances.sharing import Announcements, Coalesced
from services.bus import metrics
from services.bus.accounts import AccountsView, Ambiguous, Match
from services.bus.biller import Biller
from services.bus.clock import Clock
from services.bus.lane import Parked, Posted, Rejected, Settlement
from services.bus.partner import PartnerError, Retryable
from services.bus.publisher import NotAcknowledged, Publisher
from services.events import AccountCurrent, BalanceChanged, BalanceCurrent, PaymentOutcome

log = structlog.get_logger()

THE_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
PAGE = 200
PAGES_A_TICK = 10
RETRY_AFTER_S = 30


@dataclass(frozen=True, slots=True)
class Fresh:
    """IMT's own word, asked just now."""

    balance: Balance


@dataclass(frozen=True, slots=True)
class Stale:
    """IMT could not be asked: what the bus knew, as of its own instant."""

    current: BalanceCurrent


@dataclass(frozen=True, slots=True)
class Away:
    """IMT could not be asked, and nothing else may be said. Seconds until it is worth asking again."""

    retry_after: int


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody knows the account."""


@dataclass(frozen=True, slots=True)
class TooMany:
    """What was typed matches several accounts."""


@dataclass(frozen=True, slots=True)
class Refused:
    """IMT knows the account and gives no balance for it; `code` is its reason."""

    code: str


@dataclass(frozen=True, slots=True)
class Known:
    """What the bus knows of an account without asking IMT."""

    account: AccountCurrent
    balance: BalanceCurrent | None


@dataclass(slots=True)
class Desk:
    """What the handlers work with."""

    imt: PaymentsDue
    accounts: AccountsView
    balances: CurrentBalances
    publisher: Publisher
    clock: Clock
    calls: Coalesced
    announcements: Announcements
    unfinished: dict[str, tuple[datetime, str]] = field(default_factory=dict)
    """Where a poll that had more pages than a tick allows goes on, by biller: since and after."""

    @property
    def ready(self) -> bool:
        return self.accounts.ready and self.balances.ready


async def answer_enquiry(
    biller: Biller, typed: str, desk: Desk
) -> Fresh | Stale | Away | Unknown | TooMany | Refused:
    """RTDR: IMT's own balance within the biller's deadline, or what the biller chose for an outage.

    The answer does not wait for the bus: it is IMT's word either way, and the poll finds a change that
    could not be announced.
    """
    who = find_account(biller, typed, desk)
    if not isinstance(who, Match):
        return who
    try:
        async with asyncio.timeout(biller.rtdr.deadline_s):
            answer = await desk.calls.call(
                (biller.slug, who.account), lambda: _ask_and_announce(biller, who.account, desk)
            )
    except (PartnerError, TimeoutError) as fault:
        return _without_imt(biller, who.account, fault, desk)
    if isinstance(answer, Balance):
        return Fresh(answer)
    return Unknown() if answer.unknown else Refused(answer.code)


def find_by_ivr(biller: Biller, typed: str, desk: Desk) -> Known | Away | Unknown | TooMany:
    """IVR: the account as a person types it, from the local views alone."""
    who = find_account(biller, typed, desk, spoken=True)
    if not isinstance(who, Match):
        return who
    account = desk.accounts.by_account(biller.slug, who.account)
    return Known(account, desk.balances.of(biller.slug, who.account)) if account else Unknown()


def find_account(
    biller: Biller, typed: str, desk: Desk, *, spoken: bool = False
) -> Match | Away | Unknown | TooMany:
    """The account that is meant; while the views are not whole nobody can say."""
    if not desk.ready:
        return Away(1)
    find = desk.accounts.find_spoken if spoken else desk.accounts.find_typed
    who = find(biller, typed)
    if isinstance(who, Match):
        return who
    return TooMany() if isinstance(who, Ambiguous) else Unknown()


async def _ask_and_announce(biller: Biller, account: str, desk: Desk) -> Balance | NoBalance:
    answer = await desk.imt.read_account(biller, account, biller.rtdr.deadline_s)
    if isinstance(answer, Balance):
        current = desk.balances.of(biller.slug, account)
        event = changed(biller.slug, answer, "rtdr", current, desk.clock.now())
        if event is not None:
            desk.announcements.announce(event)
    return answer


def _without_imt(biller: Biller, account: str, fault: Exception, desk: Desk) -> Stale | Away:
    known = desk.balances.of(biller.slug, account)
    reason = fault.reason if isinstance(fault, PartnerError) else "no answer within the deadline"
    log.warning("balances.imt_away", biller=biller.slug, reason=reason)
    if biller.rtdr.on_outage == "stale" and known is not None:
        return Stale(known)
    wish = fault.retry_after if isinstance(fault, PartnerError) else None
    return Away(max(1, math.ceil(wish if wish is not None else RETRY_AFTER_S)))


async def refresh_after_payment(outcome: PaymentOutcome, biller: Biller | None, desk: Desk) -> Settlement:
    """A posted payment changed what is owed: IMT is asked, and the change acknowledged, before it is done.

    Raises PartnerError; Retryable also when the bus did not acknowledge, since asking again does no harm.
    """
    if outcome.state != "posted":
        return Rejected("nothing_to_refresh", "the payment was not posted")
    if biller is None:
        return Parked("unknown_biller", "no biller's file names this biller", never_sent=True)
    answer = await desk.imt.read_account(biller, outcome.account, biller.imt.deadline_s)
    if isinstance(answer, NoBalance):
        log.error("balances.refresh_refused", biller=biller.slug, code=answer.code)
        return Rejected("refused", f"IMT gives no balance: {answer.code}")
    current = desk.balances.of(biller.slug, outcome.account)
    event = changed(biller.slug, answer, "payment", current, desk.clock.now())
    if event is None:
        return Posted(reason="known", detail="the balance was known already")
    try:
        await _say([event], desk)
    except NotAcknowledged as error:
        raise Retryable(biller.slug, "bus", str(error)) from error
    return Posted()


async def poll_changes(biller: Biller, desk: Desk) -> None:
    """Takes what changed at IMT since the last poll; a failed poll is tried again at the next tick.

    It begins where the last one is known to have ended, less an overlap for what IMT entered late. A tick
    takes so many pages; what is left is taken from there at the next one.
    """
    try:
        result = await _poll(biller, desk)
    except (PartnerError, NotAcknowledged) as fault:
        result = "failed"
        log.warning("balances.poll_failed", biller=biller.slug, reason=str(fault))
    metrics.POLLED.labels(biller.slug, result).inc()
    metrics.POLL_ENDED.labels(biller.slug, result).set(desk.clock.now().timestamp())


async def _poll(biller: Biller, desk: Desk) -> str:
    since, after = desk.unfinished.pop(biller.slug, (_since(biller, desk), None))
    for _ in range(PAGES_A_TICK):
        page = await desk.imt.list_changes(biller, since, after, PAGE, biller.imt.deadline_s)
        metrics.POLL_UNREADABLE.labels(biller.slug).inc(page.unreadable)
        await _take(biller, page.changes, desk)
        after = page.after
        if after is None:
            return "whole"
    desk.unfinished[biller.slug] = (since, after or "")
    return "more"


def _since(biller: Biller, desk: Desk) -> datetime:
    mark = desk.balances.polled_as_of(biller.slug)
    if mark is None:
        return THE_BEGINNING
    # a mark in the future is a clock of IMT's gone wrong; it must not hide what changes until then
    return min(mark, desk.clock.now()) - timedelta(seconds=biller.poll.overlap_s)


async def _take(biller: Biller, changes: Sequence[Balance], desk: Desk) -> None:
    """Publishes a page; its newest change carries the mark, and only once all others are acknowledged."""
    if not changes:
        return
    newest = max(range(len(changes)), key=lambda number: changes[number].as_of)
    mark = desk.balances.polled_as_of(biller.slug)
    moves_on = mark is None or changes[newest].as_of > mark
    seen: dict[str, BalanceCurrent | None] = {}
    events: list[BalanceChanged] = []
    last: list[BalanceChanged] = []
    for number, change in enumerate(changes):
        current = seen.get(change.account, desk.balances.of(biller.slug, change.account))
        event = _event(biller, change, current, desk.clock.now(), carries_mark=moves_on and number == newest)
        if event is not None:
            seen[change.account] = keep_newest(current, event) or current
            (last if event.polled else events).append(event)
    await _say(events, desk)
    await _say(last, desk)


async def _say(events: Sequence[BalanceChanged], desk: Desk) -> None:
    """Publishes, and knows it from then on; raises NotAcknowledged."""
    await desk.publisher.publish(*events)
    for event in events:
        desk.balances.learn(event)


def _event(
    biller: Biller, change: Balance, current: BalanceCurrent | None, now: datetime, *, carries_mark: bool
) -> BalanceChanged | None:
    """The one that carries the mark is published even when its balance is known already."""
    cause = _cause(change)
    if carries_mark:
        return found(biller.slug, change, cause, current, now, polled=True)
    return changed(biller.slug, change, cause, current, now)


def _cause(change: Balance) -> Cause:
    """As IMT names it."""
    match change.cause:
        case "invoice" | "payment" | "adjustment" as named:
            return named
        case _:
            return "poll"
