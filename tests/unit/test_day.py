"""A biller's business day as a stretch of time, and as offsets of a topic."""

from datetime import UTC, date, datetime, timedelta
from typing import cast

import pytest

from services.operations.day import Window, around, day_of, ranges_of
from services.operations.topic_reader import TopicReader
from tests.unit.kafka_records import Reader, Record
from tests.unit.parts import NOON, a_biller

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("day", "hours"), [(date(2026, 3, 8), 23), (date(2026, 11, 1), 25), (date(2026, 11, 20), 24)]
)
def test_a_day_is_as_long_as_the_billers_clock_makes_it(day: date, hours: int) -> None:
    window = day_of(a_biller(batch={"cut_off": "17:00"}), day)
    assert window.end - window.begin == hours * HOUR
    assert day_of(a_biller(batch={"cut_off": "17:00"}), day + timedelta(days=1)).begin == window.end


def test_a_window_holds_its_begin_and_not_its_end() -> None:
    window = Window(NOON, NOON + HOUR)
    assert (NOON in window, NOON + HOUR in window) == (True, False)


def test_a_window_is_narrowed_and_never_widened() -> None:
    window = Window(NOON, NOON + 4 * HOUR)
    assert window.within(NOON - HOUR, None) == window
    assert window.within(NOON + HOUR, NOON + 2 * HOUR) == Window(NOON + HOUR, NOON + 2 * HOUR)
    assert window.within(NOON + 9 * HOUR, NOON + 10 * HOUR).begin not in window
    assert around({"a": window, "b": Window(NOON - HOUR, NOON)}) == Window(NOON - HOUR, NOON + 4 * HOUR)


def test_the_offsets_of_a_window_are_those_that_the_broker_stamped_within_it() -> None:
    reader = Reader(Record(b"acme/1", b""), Record(b"acme/2", b""))
    window = Window(datetime(2026, 11, 20, tzinfo=UTC), datetime(2026, 11, 21, tzinfo=UTC))
    assert ranges_of(cast("TopicReader", reader), window) == {3: range(2)}
    assert reader.asked == [window.begin, window.end]
