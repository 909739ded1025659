"""Where a topic has the records of a stretch of time: a biller's business day, or any window.

The broker's stamp of a record decides. A window begins and ends, in each partition, at the first offset
stamped at or after its two instants, so whoever asks finds the same records, and no record lies in two days.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from services.bus.business_day import HasBusinessDay, cut_off
from services.operations.topic_reader import TopicReader

Ranges = Mapping[int, range]
"""Offsets by partition; a range is empty where the partition has no record of the window."""


@dataclass(frozen=True, slots=True)
class Window:
    """From `begin` (included) to `end` (not included), each with its offset."""

    begin: datetime
    end: datetime

    def __contains__(self, instant: datetime) -> bool:
        return self.begin <= instant < self.end

    def within(self, begin: datetime | None, end: datetime | None) -> "Window":
        """The part of it between two instants (None: no limit); an empty one ends as it begins."""
        first = max(self.begin, begin) if begin else self.begin
        last = min(self.end, end) if end else self.end
        return Window(first, max(first, last))


def day_of(biller: HasBusinessDay, day: date) -> Window:
    """The biller's business day: 23, 24 or 25 hours from cut-off to cut-off, in UTC."""
    return Window(cut_off(biller, day - timedelta(days=1)), cut_off(biller, day))


def around(windows: Mapping[str, Window]) -> Window:
    """The smallest window that holds all of these, of which there is at least one."""
    return Window(min(each.begin for each in windows.values()), max(each.end for each in windows.values()))


def ranges_of(reader: TopicReader, window: Window) -> dict[int, range]:
    """The offsets of the window in every partition of the reader's topic, up to what stands there now.

    Raises KafkaException, and Unreachable where the broker does not answer.
    """
    ends = reader.ends()  # asked first: a record that comes meanwhile belongs to nobody's answer yet
    begins, untils = reader.offsets_at(window.begin, ends), reader.offsets_at(window.end, ends)
    return {
        partition: range(begins[partition], max(begins[partition], untils[partition]))
        for partition in sorted(ends)
    }
