"""What a replayed record says in its headers: where it first stood, and what an operator wants of it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, cast, get_args

from services.bus.catalog import REPLAY

if TYPE_CHECKING:
    from services.bus.membership import Record

ORIGIN_PARTITION, ORIGIN_OFFSET, ORIGIN_TIMESTAMP = (
    "billbus_origin_partition",
    "billbus_origin_offset",
    "billbus_origin_timestamp",
)
"""Headers of a `.replay` record, decimal; the timestamp in milliseconds."""
RUN, ACT, ATTEMPT, REASON = "billbus_run", "billbus_act", "billbus_attempt", "billbus_reason"
"""Headers of a `.replay` record: whose run emitted it, what is wanted, of which attempt, and why."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Wish = Literal["replay", "recheck", "retry", "dismiss"]
"""replay: what has no final outcome is delivered. recheck: what is posted is asked for as well, and delivered
where the partner lacks it. retry, dismiss: one record, as long as its newest attempt is the one named."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The live topic's coordinates of a record, and the instant at which that topic took it."""

    topic: str
    partition: int
    offset: int
    taken_at: datetime


def origin_of(record: "Record") -> Origin:
    """What the headers of a replayed record say; one that says nothing readable is as old as can be."""
    if not record.topic.endswith(REPLAY):
        return Origin(record.topic, record.partition, record.offset, _instant(record.timestamp))
    headers = dict(record.headers)
    topic = record.topic.removesuffix(REPLAY)
    try:
        return Origin(
            topic,
            int(headers[ORIGIN_PARTITION]),
            int(headers[ORIGIN_OFFSET]),
            _instant(int(headers[ORIGIN_TIMESTAMP])),
        )
    except (KeyError, ValueError, OverflowError, OSError):
        return Origin(topic, record.partition, -1, _EPOCH)


@dataclass(frozen=True, slots=True)
class Act:
    """What an operator wants of a record; `attempt` and `reason` belong to retry and dismiss."""

    wish: Wish
    attempt: int = 0
    reason: str = ""


REPLAYED = Act("replay")


def act_of(record: "Record") -> Act | None:
    """What is wanted of a replayed record, None of a live one; what nobody can read is a plain replay."""
    if not record.topic.endswith(REPLAY):
        return None
    headers = dict(record.headers)
    wish = headers.get(ACT, b"").decode(errors="replace")
    if wish not in get_args(Wish):
        return REPLAYED
    try:
        attempt = int(headers.get(ATTEMPT, b"0"))
    except ValueError:
        return REPLAYED
    return Act(cast("Wish", wish), attempt, headers.get(REASON, b"").decode(errors="replace"))


def _instant(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)
