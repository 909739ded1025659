"""Where a record first stood: a replayed one says it in its headers, any other stands there itself."""

from dataclasses import dataclass
from datetime import UTC, datetime

from services.bus.catalog import REPLAY
from services.bus.membership import Record

ORIGIN_PARTITION, ORIGIN_OFFSET, ORIGIN_TIMESTAMP = (
    "billbus_origin_partition",
    "billbus_origin_offset",
    "billbus_origin_timestamp",
)
"""Headers of a `.replay` record, decimal; the timestamp in milliseconds."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Origin:
    """The live topic's coordinates of a record, and the instant at which that topic took it."""

    topic: str
    partition: int
    offset: int
    taken_at: datetime


def origin_of(record: Record) -> Origin:
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


def _instant(millis: int) -> datetime:
    return datetime.fromtimestamp(millis / 1000, UTC)
