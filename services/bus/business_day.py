"""A biller's business day: it ends at the cut-off, in the biller's timezone, also when clocks change.

The day named D runs from the cut-off on the calendar day before D (included) to the cut-off on D (not
included). A cut-off that does not exist on a day when clocks go forward moves on with them; one that
exists twice means the first.
"""

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo


class Batch(Protocol):
    @property
    def cut_off(self) -> time: ...


class HasBusinessDay(Protocol):
    """What a biller says of its day."""

    @property
    def timezone(self) -> ZoneInfo: ...
    @property
    def batch(self) -> Batch: ...


def cut_off(biller: HasBusinessDay, day: date) -> datetime:
    """The instant (UTC) at which the business day ends."""
    return _cut_off(day, biller.batch.cut_off, biller.timezone)


@lru_cache(maxsize=4096)
def _cut_off(day: date, at: time, timezone: ZoneInfo) -> datetime:
    return datetime.combine(day, at, timezone).astimezone(UTC)


def business_day(biller: HasBusinessDay, at: datetime) -> date:
    """The business day to which an instant belongs."""
    day = at.astimezone(biller.timezone).date()
    while at >= cut_off(biller, day):
        day += timedelta(days=1)
    while at < cut_off(biller, day - timedelta(days=1)):
        day -= timedelta(days=1)
    return day
