"""Everything that the log has of a payment, an invoice, an account or a trace id, in order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

from services.bus.biller import Biller
from services.bus.catalog import REPLAY, Topic, load_catalog
from services.bus.clock import Clock
from services.bus.identity import natural_id
from services.bus.settings import Settings
from services.events import (
    AccountCurrent,
    BatchClosed,
    FileReceived,
    OperationAudited,
    PaymentOutcome,
    PaymentReceived,
    SettingChanged,
    SettingOutcome,
)
from services.operations.beside import beside_of
from services.operations.day import Window, around, day_of
from services.operations.personal_data import masked, masked_key
from services.operations.trace_find import Finder, Kind, NotClear, Subject, kinds_of
from services.operations.trace_lanes import unsettled
from services.operations.trace_log import Log, Part, Seen, open_log
from services.operations.trace_scan import Told
from services.operations.trace_story import belongs, concerns
from services.operations.trace_words import words_of

__all__ = ["Asked", "Entry", "NotClear", "Searched", "Story", "trace"]

DAYS = 3
MOST_RECORDS = 5000
"""Records of a story that are kept; an account has that many in years."""
UNRESOLVED = "/?"
"""In the key of what named no known account."""
NO_BILLER = "-"
"""The key of an operator's act on no single biller."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is traced. `billers` are those that can be meant; `account` narrows it to one, as typed.

    Looked for is what came in on the business day `day`, or without one in the last `days` days; told is what
    happened to it in `days` days from there. `kind` None: by its looks.
    """

    text: str
    billers: Mapping[str, Biller]
    kind: Kind | None = None
    account: str = ""
    day: date | None = None
    days: int = DAYS
    personal_data: bool = False


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One record of the story: `at` when the broker took it (UTC), `words` what it says.

    `value` is None where it cannot be read; personal data in it and in `key` is hidden unless asked for.
    `act`, `run` and `origin` (partition@offset) belong to `.replay`, `origin` to `.dlq` as well.
    """

    at: datetime
    topic: str
    short: str
    partition: int
    offset: int
    key: str
    words: str
    id: str | None
    trace_id: str | None
    value: dict[str, Any] | None
    act: str | None = None
    run: str | None = None
    origin: str | None = None


@dataclass(frozen=True, kw_only=True)
class Searched:
    """What was gone through: `windows` of time (UTC) in which it was looked for, and how much was read."""

    looked: tuple[Window, ...]
    followed: Window
    kinds: tuple[Kind, ...]
    records: int
    bytes: int


@dataclass(frozen=True, kw_only=True)
class Story:
    """What was found; `entries` is empty and `kind` None where there is nothing.

    `unsettled` are sentences on what has no final outcome. `more` says that only the first MOST_RECORDS
    records were kept.
    """

    kind: Kind | None
    text: str
    keys: tuple[str, ...]
    zone: tzinfo
    entries: tuple[Entry, ...]
    unsettled: tuple[str, ...]
    searched: Searched
    more: bool = False


async def trace(settings: Settings, asked: Asked, clock: Clock, told: Told | None = None) -> Story:
    """Reads the log and nothing else; `told` hears how many records are searched, of how many.

    Raises NotClear where several accounts could be meant, Unreachable, KafkaException.
    """
    catalog = load_catalog(settings.schemas)
    async with open_log(settings, catalog, clock) as log:
        return await _Trace(log, catalog, asked, clock.now(), told).run()


class _Trace:
    def __init__(
        self, log: Log, catalog: Mapping[str, Topic], asked: Asked, now: datetime, told: Told | None
    ) -> None:
        self._log = log
        self._catalog = catalog
        self._asked = asked
        self._now = now
        self._told = told
        self._looks = tuple(self._looked())
        self._follow = self._followed()
        self._kinds = (asked.kind,) if asked.kind else kinds_of(asked.text)

    def _looked(self) -> Iterator[Window]:
        """The day that was named, or the last days, the newest first."""
        asked, soon = self._asked, self._now + timedelta(minutes=1)  # clocks differ a little
        if asked.day is not None:
            day = asked.day
            yield around({slug: day_of(biller, day) for slug, biller in asked.billers.items()})
            return
        for number in range(asked.days):
            end = soon - timedelta(days=number)
            yield Window(end - timedelta(days=1), end)

    def _followed(self) -> Window:
        asked, soon = self._asked, self._now + timedelta(minutes=1)
        if asked.day is None:
            return Window(self._looks[-1].begin, soon)
        return Window(self._looks[0].begin, min(soon, self._looks[0].end + timedelta(days=asked.days - 1)))

    async def run(self) -> Story:
        asked = self._asked
        finder = Finder(self._log, asked.billers, self._looks, self._told, personal_data=asked.personal_data)
        subject = await finder.subject(asked.text, self._kinds, asked.account)
        if subject is None:
            return self._story(None, (), (), more=False)
        records, more = await self._records(subject)
        chosen, ties = belongs(subject, records)
        payments = [seen for seen in chosen if isinstance(seen.event, PaymentReceived)]
        chosen += [
            seen async for seen in self._of_billers(subject, ties.words()) if concerns(seen, ties, payments)
        ]
        if not chosen:
            return self._story(None, (), (), more=False)
        chosen.sort(key=_order)
        return self._story(subject, chosen, await unsettled(self._log, chosen, self._now), more=more)

    async def _records(self, subject: Subject) -> tuple[list[Seen], bool]:
        """What stands under the subject's keys, and under those to which unresolved records were moved."""
        found: list[Seen] = []
        keys, wanted = set(), set(subject.keys)
        while wanted:
            parts = [part for key in wanted for part in self._parts(key, subject)]
            async for seen in self._log.find(parts, wanted):
                if seen.key in wanted:
                    found.append(seen)
                if len(found) >= MOST_RECORDS:
                    return found, True
            keys |= wanted
            wanted = await self._moved_to(wanted) - keys
        return found, False

    def _parts(self, key: str, subject: Subject) -> Iterator[Part]:
        for topic in self._catalog.values():
            if topic.key != "biller/account":
                continue
            if topic.cleanup == "compact":
                if subject.kind == "account" and topic.name != AccountCurrent.TOPIC:
                    yield Part(topic.name, None, key)
                continue
            for name in self._log.beside(topic):
                yield Part(name, self._follow, key)

    async def _moved_to(self, keys: Iterable[str]) -> set[str]:
        """The keys under which unresolved records went on once their account was known."""
        ids = {key.partition(UNRESOLVED)[2] for key in keys if UNRESOLVED in key}
        outcomes = (PaymentOutcome.TOPIC, SettingOutcome.TOPIC)
        replays = (PaymentReceived.TOPIC + REPLAY, SettingChanged.TOPIC + REPLAY)
        moved = set()
        async for seen in self._log.find([Part(name, self._follow) for name in outcomes + replays], ids):
            event = seen.event
            if isinstance(event, PaymentReceived | SettingChanged):
                about = natural_id(event)
            elif isinstance(event, PaymentOutcome | SettingOutcome):
                about = event.natural_id
            else:
                continue
            if about in ids:
                moved.add(seen.key)
        return moved

    async def _of_billers(self, subject: Subject, words: Collection[str]) -> AsyncIterator[Seen]:
        """Records of the billers as a whole that may belong to it: batches, files, operators' acts."""
        for slug in sorted({key.partition("/")[0] for key in subject.keys}):
            batches = [Part(BatchClosed.TOPIC, self._follow, slug)]
            async for seen in self._log.find(batches, [slug]):
                if seen.key == slug:
                    yield seen
            named = [Part(FileReceived.TOPIC, self._follow, slug)]
            named += [Part(OperationAudited.TOPIC, self._follow, key) for key in (slug, NO_BILLER)]
            async for seen in self._log.find(named, words):
                if seen.key in (slug, NO_BILLER):
                    yield seen

    def _story(
        self, subject: Subject | None, chosen: Collection[Seen], said: Collection[str], *, more: bool
    ) -> Story:
        keys = subject.keys if subject else ()
        shown = keys if self._asked.personal_data else tuple(masked_key(key) for key in keys)
        return Story(
            kind=subject.kind if subject else None,
            text=subject.text if subject else self._asked.text,
            keys=shown,
            zone=self._zone(keys),
            entries=tuple(self._entry(seen) for seen in chosen),
            unsettled=tuple(said),
            searched=Searched(
                looked=self._looks,
                followed=self._follow,
                kinds=self._kinds,
                records=self._log.scan.records,
                bytes=self._log.scan.bytes,
            ),
            more=more,
        )

    def _zone(self, keys: Collection[str]) -> tzinfo:
        """The billers' timezone; UTC where they have several."""
        slugs = {key.partition("/")[0] for key in keys} or set(self._asked.billers)
        zones = {
            str(self._asked.billers[slug].timezone): self._asked.billers[slug].timezone for slug in slugs
        }
        return next(iter(zones.values())) if len(zones) == 1 else UTC

    def _entry(self, seen: Seen) -> Entry:
        topic, headers = self._catalog[seen.live_topic], seen.headers
        beside = beside_of(headers)
        value = seen.event.as_record() if seen.event is not None else None
        if value is not None and not self._asked.personal_data:
            value = masked(topic.schema, value)
        return Entry(
            at=seen.at,
            topic=seen.hit.topic,
            short=topic.short + seen.hit.topic.removeprefix(topic.name),
            partition=seen.hit.partition,
            offset=seen.hit.offset,
            key=seen.key if self._asked.personal_data else masked_key(seen.key),
            words=words_of(seen),
            id=headers.get("ce_id"),
            trace_id=seen.trace_id or None,
            value=value,
            act=(beside.act or "replay") if seen.replayed else None,
            run=beside.run,
            origin=beside.origin,
        )


def _order(seen: Seen) -> tuple[int, int, str, int, int]:
    """By the broker's stamp; what came in the same millisecond, causes first."""
    hit = seen.hit
    rank = 0 if isinstance(seen.event, FileReceived) else 2 if hit.topic.endswith(".outcome.v1") else 1
    if isinstance(seen.event, OperationAudited | BatchClosed):
        rank = 3
    return hit.timestamp, rank, hit.topic, hit.partition, hit.offset
