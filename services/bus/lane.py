"""The words of a delivery lane: what it is made of, and what its handlers answer.

A lane brings every event of one topic to a partner, in order within a key. `services.bus.delivery` runs it.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from services.events import Event

E = TypeVar("E", bound=Event)


@dataclass(frozen=True, slots=True)
class Posted:
    """The partner has it. `fields` go into the outcome event as they are."""

    reference: str | None = None
    reason: str | None = None
    detail: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejected:
    """The partner understood and said no, or there is by its nature nothing to do."""

    reason: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Parked:
    """A person has to decide; `never_sent` when no request for it ever left."""

    reason: str
    detail: str | None = None
    never_sent: bool = False


@dataclass(frozen=True, slots=True)
class Superseded:
    """Something newer of the same scope is at the partner already."""

    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Dismissed:
    """An operator has said that nothing more is to be done; `detail` are the operator's words."""

    detail: str | None = None
    reason: str = "dismissed"


Settlement = Posted | Rejected | Parked | Superseded | Dismissed
STATE = {
    Posted: "posted",
    Rejected: "rejected",
    Parked: "parked",
    Superseded: "superseded",
    Dismissed: "dismissed",
}


@dataclass(frozen=True, slots=True)
class Found:
    """The partner has it, with this content."""

    reference: str | None = None
    fields: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NotFound:
    """The partner says it does not have it (believed only once it cannot still be acting)."""


@dataclass(frozen=True, slots=True)
class CannotSay:
    """The partner cannot tell. `ever` is False where it has no look-up at all."""

    reason: str
    ever: bool = True


Answer = Found | NotFound | CannotSay


@dataclass(frozen=True, slots=True)
class Settled:
    """How one delivery ended, and where its record stood."""

    settlement: Settlement
    event_id: UUID
    natural_id: str
    attempt: int
    looked_up: bool
    never_sent: bool
    scope: str | None
    rank: str | None
    topic: str
    partition: int
    offset: int
    at: datetime

    @property
    def fields(self) -> Mapping[str, Any]:
        """What the handler wants in the outcome event."""
        return self.settlement.fields if isinstance(self.settlement, Posted) else {}

    def core(self, event: Any) -> dict[str, Any]:
        """The fields that every outcome event has."""
        settlement = self.settlement
        return {
            "biller": event.biller,
            "account": event.account,
            "natural_id": self.natural_id,
            "event_id": str(self.event_id),
            "state": STATE[type(settlement)],
            "reason": None if isinstance(settlement, Superseded) else _writable(settlement.reason),
            "detail": _writable(settlement.detail),
            "attempt": self.attempt,
            "never_sent": self.never_sent,
            "looked_up": self.looked_up,
            "partner_reference": _writable(settlement.reference) if isinstance(settlement, Posted) else None,
            "content": event.content,
            "scope": self.scope,
            "rank": self.rank,
            "origin_topic": self.topic,
            "origin_partition": self.partition,
            "origin_offset": self.offset,
            "settled_at": self.at,
        }


def _writable(text: str | None) -> str | None:
    """JSON can carry halves of characters, which Avro cannot: an outcome must never fail for one."""
    return text.encode("utf-8", "replace").decode() if text is not None else None


@dataclass(frozen=True, kw_only=True)
class Lane(Generic[E]):
    """One lane.

    Attributes:
        name: also its consumer group, as `billbus.<name>`.
        reads: the event it delivers.
        deliver: brings one event to the partner; raises Retryable, Unknown or Outage (services.bus.partner).
            For a partner that takes many in one call it is a services.bus.batching.Batches.
        ask: asks the partner for what may have been delivered already; None where it cannot be asked.
        writes: makes the outcome event; None for a lane that publishes within its handler.
        patience: seconds for which the partner may still act on a request that we gave up.
        order: scope and rank of an event that a newer one replaces; None for one that stands alone.
        stamped: the event's field, if any, that takes the instant (UTC) at which the bus took its record.
        repeatable: doing it twice does no harm, so nothing is ever in doubt.
        exact: some partner of the lane cannot be asked, so that only what was really handed over may be in
            doubt: each record is reserved by name.
        in_flight: events on their way to the partner at a time, where that is less than the process's limit.
        retry_for_s: how long one record is tried again before it is parked.
    """

    name: str
    reads: type[E]
    deliver: Callable[[E], Awaitable[Settlement]]
    ask: Callable[[E], Awaitable[Answer]] | None = None
    writes: Callable[[E, Settled], Event] | None = None
    patience: Callable[[E], float] = lambda _: 0.0
    order: Callable[[E], tuple[str, str] | None] = lambda _: None
    stamped: str | None = None
    repeatable: bool = False
    exact: bool = False
    in_flight: int | None = None
    retry_for_s: float = 6 * 3600

    @property
    def group(self) -> str:
        return f"billbus.{self.name}"
