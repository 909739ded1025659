"""The business day ends at the cut-off, in the biller's timezone, also when clocks change."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.bus.business_day import business_day, cut_off
from tests.unit.parts import a_biller

CHICAGO = a_biller()


def test_the_instant_of_the_cut_off_belongs_to_the_next_day() -> None:
    end = datetime(2026, 11, 20, 23, 0, tzinfo=UTC)  # 17:00 in Chicago
    assert cut_off(CHICAGO, date(2026, 11, 20)) == end
    assert business_day(CHICAGO, end - timedelta(milliseconds=1)) == date(2026, 11, 20)
    assert business_day(CHICAGO, end) == date(2026, 11, 21)


def test_an_evening_payment_belongs_to_the_next_day_though_utc_says_otherwise() -> None:
    assert business_day(CHICAGO, datetime(2026, 11, 21, 3, 0, tzinfo=UTC)) == date(2026, 11, 21)
    assert business_day(CHICAGO, datetime(2026, 11, 21, 23, 30, tzinfo=UTC)) == date(2026, 11, 22)


@pytest.mark.parametrize(
    ("day", "hours"), [(date(2026, 3, 8), 23), (date(2026, 11, 1), 25), (date(2026, 6, 1), 24)]
)
def test_days_on_which_clocks_change_are_shorter_or_longer(day: date, hours: int) -> None:
    length = cut_off(CHICAGO, day) - cut_off(CHICAGO, day - timedelta(days=1))
    assert length == timedelta(hours=hours)


@pytest.mark.parametrize("at", ["02:30", "01:30", "00:00", "23:59:59"])
@given(instant=st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)))
def test_every_instant_belongs_to_exactly_one_day(at: str, instant: datetime) -> None:
    biller = a_biller(batch={"cut_off": at})
    day = business_day(biller, instant)
    assert cut_off(biller, day - timedelta(days=1)) <= instant < cut_off(biller, day)
