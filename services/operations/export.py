"""A topic's records of one business day as Parquet, for analysts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from services.bus.business_day import HasBusinessDay, cut_off
from services.bus.catalog import Topic
from services.bus.clock import Clock
from services.bus.codec import Codec, Undecodable
from services.bus.connection import kafka_of
from services.bus.place import Place, Unreachable
from services.bus.registry import Registry, RegistryAway
from services.bus.settings import Settings
from services.operations.parquet_columns import columns
from services.operations.parquet_files import DayFiles, Written
from services.operations.topic_reader import TopicReader

MOST_TOLD = 20


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What to export: the business day `day` of each of these billers, by slug."""

    topic: Topic
    day: date
    billers: Mapping[str, HasBusinessDay]
    folder: Path
    personal_data: bool = False


@dataclass(kw_only=True)
class Report:
    """What came of it. `places` are the first of the unreadable records, as partition@offset.

    `forgotten` counts records of a compacted topic that forget a key, `others` the records of billers that
    were not asked for (`other_billers`: the first of their slugs). The day of a biller in `open_days` has not
    ended, so more records will come.
    """

    files: list[Written] = field(default_factory=list)
    forgotten: int = 0
    unreadable: int = 0
    places: list[str] = field(default_factory=list)
    others: int = 0
    other_billers: set[str] = field(default_factory=set)
    open_days: list[str] = field(default_factory=list)


async def export_day(
    settings: Settings, wanted: Wanted, clock: Clock, progress: Callable[[int, int], None]
) -> Report:
    """Writes FOLDER/TOPIC/biller=…/day=…/part-0.parquet; a file that is there is replaced.

    Rows stand in the order of partition and offset. `progress` is told records read, and how many there are.

    Raises Unreachable, KafkaException for what the broker refuses, ConfigurationError where it lacks the
    topic, OSError where the folder cannot be written.
    """
    registry = Registry(settings.registry)
    try:
        with (
            Place(kafka_of(settings), settings.registry) as place,
            TopicReader(place, wanted.topic.name, clock) as reader,
        ):
            codec = Codec({wanted.topic.name: wanted.topic.schema}, registry)
            return await Export(wanted, codec).run(reader, clock.now(), progress)
    finally:
        registry.close()


class Export:
    """Takes what was wanted out of a topic."""

    def __init__(self, wanted: Wanted, codec: Codec) -> None:
        self._wanted = wanted
        self._codec = codec
        self._report = Report()
        before = wanted.day - timedelta(days=1)
        self._days = {
            s: (cut_off(each, before), cut_off(each, wanted.day)) for s, each in wanted.billers.items()
        }

    async def run(self, reader: TopicReader, now: datetime, progress: Callable[[int, int], None]) -> Report:
        """Reads and writes; `now` says whose day is still open."""
        wanted, ends = self._wanted, reader.ends()
        begin = reader.offsets_at(min(begin for begin, _ in self._days.values()), ends)
        until = reader.offsets_at(max(end for _, end in self._days.values()), ends)
        self._report.open_days = sorted(slug for slug, (_, end) in self._days.items() if end > now)
        total, done = sum(until[p] - begin[p] for p in begin), 0
        schema = columns(wanted.topic.schema, personal_data=wanted.personal_data)
        with DayFiles(wanted.folder / wanted.topic.name, wanted.day, schema) as files:
            # one partition after the other, so that rows stand in the same order each time
            for partition in sorted(begin):
                reader.read({partition: begin[partition]}, until)
                while not reader.finished:
                    for record in reader.fetch():
                        await self._take(record, files)
                        done += 1
                    progress(done, total)
                    await asyncio.sleep(0)  # where Ctrl-C takes effect
            self._report.files = files.finish()
        return self._report

    async def _take(self, record: Any, files: DayFiles) -> None:
        slug = (record.key() or b"").decode(errors="replace").partition("/")[0]
        stored = datetime.fromtimestamp(record.timestamp()[1] / 1000, UTC)
        day = self._days.get(slug)
        if day is None:
            self._report.others += 1
            if len(self._report.other_billers) < MOST_TOLD:
                self._report.other_billers.add(slug)
            return
        if not day[0] <= stored < day[1]:
            return
        if record.value() is None:
            self._report.forgotten += 1
            return
        try:
            event = await self._codec.decode(self._wanted.topic.name, record.value())
        except Undecodable:
            self._unreadable(record)
            return
        except RegistryAway as error:
            raise Unreachable(f"The schema registry does not answer: {error}") from None
        ce_id = dict(record.headers() or []).get("ce_id")
        files.add(
            slug,
            {
                "kafka_partition": record.partition(),
                "kafka_offset": record.offset(),
                "stored_at": stored,
                "ce_id": ce_id.decode(errors="replace") if ce_id else None,
                **event.as_record(),
            },
        )

    def _unreadable(self, record: Any) -> None:
        self._report.unreadable += 1
        if len(self._report.places) < MOST_TOLD:
            self._report.places.append(f"{record.partition()}@{record.offset()}")
