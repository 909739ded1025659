"""One record on its way to the partner: settled, in doubt, or to be tried again later.

What is in doubt is never sent before the partner was asked, and 'not found' is believed only once the
partner cannot still be acting on an earlier request.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic

import structlog

from services.bus import metrics
from services.bus.breaker import Breakers
from services.bus.clock import Clock
from services.bus.codec import Codec
from services.bus.faults import NotOurs, require_ours, still_ours
from services.bus.identity import delivery_key, event_id, natural_id
from services.bus.lane import (
    Answer,
    CannotSay,
    Dismissed,
    E,
    Found,
    Lane,
    Parked,
    Posted,
    Settled,
    Settlement,
    Superseded,
)
from services.bus.outcomes import Known, OutcomeIndex
from services.bus.partner import Outage, Retryable, Unknown
from services.bus.pauses import Pauses
from services.bus.publisher import Header, NotAcknowledged, Publisher
from services.bus.registry import RegistryAway
from services.bus.replayed import Act
from services.bus.trace import current, go_on

if TYPE_CHECKING:
    from services.bus.partition import Stretch

log = structlog.get_logger()

RETRY_FIRST_S, RETRY_LONGEST_S = 0.2, 30.0
INDEX_WAIT_S = 0.2
"""Where only the index can say what is newer, or what a partner without look-up has, it is waited for."""
PAUSED_S = 1.0
"""Until a record is looked at again whose biller an operator has paused."""
NOT_OURS_S = 0.25
"""Until a record is looked at again whose partition may have another owner: mostly it has by then."""
HANDLER_FAULTS_UNTIL_PARKED = 3
OUTAGES_ALONE_UNTIL_PARKED = 5
"""So often one record may find its partner away while others of its biller are answered in between."""


@dataclass(slots=True, eq=False)
class Item:
    """A record and what has happened to it in this process.

    Attributes:
        topic, partition, offset, taken_at: where and when the live topic got it, also of a replayed one.
        at, logged_at: its offset in the partition that it was fetched from; when (ms) that took it.
        stretch: whose commit it waits for.
        held_since: monotonic instant at which it came into this process.
        in_doubt: a request for it may have left, here or in an earlier process.
        outcome_ends: what the index of outcomes must have read before its silence means 'never attempted'.
        proven: the index has said so, or the partner has.
        believe_at: monotonic instant from which the partner's 'not found' is believed.
        waited_s: retry time spent so far; waiting for a breaker does not count.
        act: what an operator wants of it; None for a live record.
        again: what the index has is not the end of it: an operator wants the partner to be asked.
    """

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes | None
    taken_at: datetime
    headers: tuple[Header, ...]
    in_doubt: bool
    believe_from: float
    at: int
    biller: str
    stretch: "Stretch"
    held_since: float
    logged_at: int = 0
    outcome_ends: dict[int, int] = field(default_factory=dict)
    proven: bool = False
    believe_at: float = 0.0
    event: Any = None
    attempt: int = 0
    sent: bool = False
    sent_at: float = 0.0
    faults: int = 0
    outages_alone: int = 0
    answers_seen: int = 0
    waited_s: float = 0.0
    outcome: Any = None
    act: Act | None = None
    again: bool = False


@dataclass(frozen=True, slots=True)
class Later:
    """Not now: try this record again in so many seconds."""

    delay_s: float


@dataclass(frozen=True, slots=True)
class Done:
    """This record is at its end; `state` is what its metric is told."""

    state: str


@dataclass(frozen=True, slots=True)
class Answered:
    """The partner's part is over; what is left is to `tell` the outcome."""


ANSWERED = Answered()


class Attempts(Generic[E]):
    """Makes one attempt at a time at a record of a lane."""

    def __init__(
        self,
        lane: Lane[E],
        codec: Codec,
        publisher: Publisher,
        clock: Clock,
        index: OutcomeIndex | None,
        pauses: Pauses,
    ) -> None:
        self._lane = lane
        self._codec = codec
        self._publisher = publisher
        self._clock = clock
        self._index = index
        self._pauses = pauses
        self._breakers = Breakers(lane.name, clock)

    async def attempt(self, item: Item, ours: Callable[[], bool]) -> Done | Later | Answered:
        """Raises Undecodable for a record that is no event; everything else ends in an answer.

        `ours` is asked right before anything is sent to the partner.
        """
        still_ours.set(ours)
        try:
            if item.event is None:
                stamped = {self._lane.stamped: item.taken_at} if self._lane.stamped else {}
                item.event = await self._codec.decode(self._lane.reads.TOPIC, item.value, **stamped)
                item.believe_at = item.believe_from + self._lane.patience(item.event)
            current.set(go_on(dict(item.headers).get("traceparent")))
            return await self._bring(item) if item.outcome is None else ANSWERED
        except RegistryAway as error:
            log.warning("registry_away", lane=self._lane.name, reason=str(error))
            return Later(1.0)
        except NotOurs:
            return Later(NOT_OURS_S)

    async def _bring(self, item: Item) -> Done | Later | Answered:
        event, act = item.event, item.act
        if act is not None and act.wish != "replay" and not self._caught_up(item):
            return Later(INDEX_WAIT_S)  # only the index knows which attempt is the newest
        known = self._known(event)
        if known is not None and known.content != event.content:
            return await self._conflict(item)
        if (ended := await self._by_what_is_known(item, known)) is not None:
            return ended
        ordered = self._lane.order(event)
        if ordered is not None and not self._caught_up(item):
            return Later(INDEX_WAIT_S)  # what an earlier owner applied may be newer
        if ordered is not None and self._newer_applied(event.biller, *ordered):
            if item.again:
                return Done("known")
            return await self._settle(item, Superseded("something newer is at the partner already"))
        if self._paused(event.biller):
            return Later(PAUSED_S)
        if (pause := self._breakers.wait(event.biller)) > 0:
            return Later(pause)
        probes = self._breakers.is_open(event.biller)
        try:
            return await self._send(item)
        finally:
            if probes:
                self._breakers.no_verdict(event.biller)

    async def _by_what_is_known(self, item: Item, known: Known | None) -> Done | Later | Answered | None:
        """The end of a record by its newest outcome and an operator's wish; None where it goes on."""
        act = item.act
        if act is not None and act.wish == "dismiss":
            return await self._dismiss(item, act, known)
        if known is None or item.again:
            return None
        if item.attempt == 0:
            if act is not None and act.wish == "retry" and act.attempt != known.attempt:
                return Done("known")
            item.again = asks_again(act, known)
            item.attempt = known.attempt
            item.in_doubt = item.in_doubt or item.again or not known.never_sent
        return Done("known") if known.final and not item.again else None

    async def _dismiss(
        self, item: Item, act: Act, known: Known | None, natural: str | None = None
    ) -> Done | Later | Answered:
        """What became of it since the operator looked stands."""
        if known is None or known.state == "dismissed" or known.attempt != act.attempt:
            return Done("known")
        item.attempt = known.attempt
        return await self._settle(item, Dismissed(act.reason or None), natural=natural)

    async def _send(self, item: Item) -> Done | Later | Answered:
        """Asks first where the record is in doubt, then delivers; sorts every failure."""
        lane, event = self._lane, item.event
        try:
            if not lane.repeatable and (item.in_doubt or not self._never_tried(item)):
                if (settled := await self._ask(item)) is not None:
                    return settled
                item.in_doubt, item.proven = False, True
            require_ours()
            item.attempt += 1
            item.sent = True
            settlement = await self._deliver(item)
        except NotOurs:
            raise
        except Retryable as error:
            return await self._again(item, "retryable", error.reason, error.retry_after)
        except Outage as error:
            return await self._away(item, error)
        except Unknown as error:
            item.sent_at = item.sent_at if error.sent_at is None else error.sent_at
            return await self._doubt(item, "unknown", error.reason)
        except Exception as error:  # a fault of ours after which an effect may exist
            item.faults += 1
            log.error(
                "handler_failed",
                lane=lane.name,
                biller=event.biller,
                error=type(error).__name__,
                exc_info=True,
            )
            if item.faults >= HANDLER_FAULTS_UNTIL_PARKED:
                return await self._settle(
                    item, Parked("handler_failed", f"our own fault: {type(error).__name__}")
                )
            return await self._doubt(item, "handler", type(error).__name__)
        self._breakers.answered(event.biller)
        return await self._settle(item, settlement)

    async def _deliver(self, item: Item) -> Settlement:
        """In doubt from the call until its answer says otherwise, whatever ends the waiting for it."""
        item.sent_at = self._clock.monotonic()
        item.in_doubt = True
        try:
            return await self._lane.deliver(item.event)
        except (Retryable, Outage, NotOurs):
            item.in_doubt = False
            raise

    async def _ask(self, item: Item) -> Done | Later | Answered | None:
        """None when the partner surely does not have it, so that it may be delivered."""
        wait = item.believe_at - self._clock.monotonic()
        answer: Answer = CannotSay("the partner has no look-up", ever=False)
        if self._lane.ask is not None:
            answer = await self._lane.ask(item.event)
            self._breakers.answered(item.event.biller)
        kind = type(answer).__name__.lower()
        metrics.LOOKED_UP.labels(self._lane.name, item.event.biller, kind).inc()
        if isinstance(answer, Found):
            if item.again and item.act is not None and item.act.wish == "recheck":
                return Done("known")
            found = Posted(answer.reference, fields=answer.fields)
            return await self._settle(item, found, looked_up=True)
        if wait > 0:
            return Later(min(wait, 1.0) if isinstance(answer, CannotSay) else wait)
        if isinstance(answer, CannotSay):
            if not item.in_doubt and not self._caught_up(item):
                return Later(INDEX_WAIT_S)
            if answer.ever:
                return await self._again(item, "cannot_say", answer.reason)
            return await self._settle(item, Parked("in_doubt", answer.reason))
        return None

    async def _again(
        self, item: Item, kind: str, reason: str, retry_after: float | None = None
    ) -> Done | Later | Answered:
        """Full jitter, this record's key only, bounded in time; then parked."""
        self._failed(item.event.biller, kind)
        if item.waited_s >= self._lane.retry_for_s:
            return await self._settle(item, Parked("retries_exhausted", f"{kind}: {reason}"))
        most = min(RETRY_FIRST_S * 2 ** min(item.attempt, 16), RETRY_LONGEST_S)
        delay = max(random.uniform(0.05, most), min(retry_after or 0.0, RETRY_LONGEST_S))  # noqa: S311 - jitter
        item.waited_s += delay
        return Later(delay)

    async def _away(self, item: Item, error: Outage) -> Done | Later | Answered:
        """Waiting for a partner that is away costs no retry time; one away for this record alone parks it."""
        biller = item.event.biller
        self._failed(biller, "outage")
        if (answers := self._breakers.answers(biller)) > item.answers_seen:
            item.answers_seen, item.outages_alone = answers, item.outages_alone + 1
        if item.outages_alone > OUTAGES_ALONE_UNTIL_PARKED:
            return await self._settle(item, Parked("outage_of_this_one", error.reason))
        return Later(self._breakers.failed(biller, error.retry_after))

    async def _doubt(self, item: Item, kind: str, reason: str) -> Done | Later | Answered:
        item.in_doubt = True
        item.believe_at = item.sent_at + self._lane.patience(item.event)
        return await self._again(item, kind, reason)

    def away(self, biller: str) -> bool:
        """Whether nothing is sent to the biller's partner: it is taken to be away, or paused."""
        return self._breakers.is_open(biller) or self._paused(biller)

    def _paused(self, biller: str) -> bool:
        return self._pauses.why(biller, self._lane.name) is not None

    def _failed(self, biller: str, kind: str) -> None:
        metrics.FAILURES.labels(self._lane.name, biller, kind).inc()

    def _never_tried(self, item: Item) -> bool:
        """Whether the index's silence proves it: for a record that the commit does not put in doubt."""
        if not item.proven and self._index is not None and self._caught_up(item):
            item.proven = self._index.covers(item.taken_at)
        return item.proven or self._index is None

    def _caught_up(self, item: Item) -> bool:
        """Whether the index has all that was told before this assignment."""
        if item.outcome_ends and self._index is not None:
            if not self._index.passed(item.outcome_ends):
                return False
            item.outcome_ends.clear()  # of all that came with this assignment: passed once, passed for good
        return True

    def _known(self, event: Any) -> Known | None:
        return self._index.get(delivery_key(event)) if self._index is not None else None

    def _newer_applied(self, biller: str, scope: str, rank: str) -> bool:
        newest = self._index.newest(biller, scope) if self._index is not None else None
        return newest is not None and rank < newest

    async def _conflict(self, item: Item) -> Done | Later | Answered:
        """The same natural id with other content: parked under an id that takes in the content."""
        natural = f"{natural_id(item.event)}#{item.event.content}"
        known = self._index.get(delivery_key(item.event, natural)) if self._index is not None else None
        if item.act is not None and item.act.wish == "dismiss":
            return await self._dismiss(item, item.act, known, natural)
        if known is not None:
            return Done("known")
        return await self._settle(
            item, Parked("conflict", "this id is taken by other content", never_sent=True), natural=natural
        )

    async def _settle(
        self, item: Item, settlement: Settlement, *, looked_up: bool = False, natural: str | None = None
    ) -> Done | Later | Answered:
        if self._lane.writes is None:
            return Done(type(settlement).__name__.lower())
        event = item.event
        ordered = self._lane.order(event) or (None, None)
        never_sent = (
            isinstance(settlement, Parked)
            and not item.again
            and (settlement.never_sent or not (item.sent or item.in_doubt))
        )
        item.outcome = self._lane.writes(
            event,
            Settled(
                settlement=settlement,
                event_id=event_id(event),
                natural_id=natural or natural_id(event),
                attempt=attempt_of(item),
                looked_up=looked_up,
                never_sent=never_sent,
                scope=ordered[0],
                rank=ordered[1],
                topic=item.topic,
                partition=item.partition,
                offset=item.offset,
                at=self._clock.now(),
            ),
        )
        return ANSWERED

    async def tell(self, item: Item) -> Done | Later:
        """The outcome, acknowledged; the same one again until it is."""
        try:
            await self._publisher.publish(item.outcome)
        except NotAcknowledged as error:
            log.warning("outcome_not_acknowledged", lane=self._lane.name, reason=str(error))
            return Later(0.5)
        if self._index is not None:
            self._index.learn(item.outcome)
        return Done(item.outcome.state)


def asks_again(act: Act | None, known: Known) -> bool:
    """Whether an operator wants the partner to be asked for what it has confirmed once."""
    return act is not None and act.wish in ("recheck", "retry") and known.state == "posted"


def attempt_of(item: Item) -> int:
    """Its attempts so far; one that an operator asked for counts even where nothing had to be sent, so that
    its outcome is another fact, and newer than the one that the operator saw."""
    asked_only = item.act is not None and item.act.wish in ("recheck", "retry") and not item.sent
    return max(item.attempt + asked_only, 1)
