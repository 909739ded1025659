"""Does a biller's business day add up: what was received, what became of it, what IMT has of it.

Three passes, each of one payment at a time into services.operations.reconcile_book: the payments that were
received, in the ranges and by the rules of the batch; IMT's own list; the outcomes from the day's beginning
until now. What IMT's list lacks is asked for last, so that what is posted meanwhile is no difference.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from aiokafka.errors import KafkaError

from services.bus.biller import Biller
from services.bus.billers import Billers
from services.bus.business_day import business_day
from services.bus.catalog import load_catalog
from services.bus.clock import Clock
from services.bus.codec import Codec
from services.bus.connection import kafka_of
from services.bus.partitioning import place_of
from services.bus.partner import PartnerHttp
from services.bus.place import Place, Unreachable
from services.bus.registry import Registry, RegistryAway
from services.bus.secrets import Secrets
from services.bus.settings import Settings
from services.bus.wire import load_wire
from services.events import BatchClosed, OffsetRange, PaymentOutcome
from services.operations.day import day_of
from services.operations.events_of import events_of
from services.operations.reconcile_batch import check_batch
from services.operations.reconcile_book import Book
from services.operations.reconcile_partner import AT_ONCE, Lists, PartnerBatch
from services.operations.reconcile_words import Summary
from services.operations.topic_reader import TopicReader
from services.payments.batches import ClosedBatches, Day, batch_closed, counted_before
from services.payments.imt import DataPump
from services.payments.received import ReceivedPayments

Told = Callable[[int, int | None], None]
"""Told how many records are read, of how many in all."""
TELL_EVERY = 1_000
BEGINNING = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class Log:
    """What reading the bus needs."""

    settings: Settings
    secrets: Secrets
    codec: Codec


@asynccontextmanager
async def reconciling(
    settings: Settings, biller: Biller, day: date, clock: Clock
) -> AsyncIterator[Reconciling]:
    """What adds up a business day; its book names each difference for as long as this is open.

    Raises Unreachable where broker or registry does not answer, ConfigurationError where a topic or the
    biller's token is missing. A partner that cannot be asked is told in the summary.
    """
    catalog, secrets = load_catalog(settings.schemas), Secrets(settings.secrets)
    secrets.get(biller.imt.token)  # said before the long passes
    codec = Codec({name: topic.schema for name, topic in catalog.items()}, Registry(settings.registry))
    wire = load_wire(settings.schemas).imt
    plain = [biller.slug] if biller.plain_http else []
    with TemporaryDirectory(prefix="billbus-reconcile-") as folder:
        try:
            async with PartnerHttp(limit=AT_ONCE, plain_http=plain) as http:
                imt = DataPump(http, Billers({biller.slug: biller}), secrets, wire)
                with (
                    Place(kafka_of(settings), settings.registry) as place,
                    Book(Path(folder) / "book", day, lambda at: business_day(biller, at)) as book,
                ):
                    yield Reconciling(Log(settings, secrets, codec), place, imt, biller, day, clock, book)
        except RegistryAway as error:
            raise Unreachable(f"The schema registry does not answer: {error}") from None
        except (KafkaError, LookupError) as error:
            raise Unreachable(f"Kafka at {settings.bootstrap}: {type(error).__name__}") from None
        finally:
            codec.close()


class Reconciling:
    """The passes of one day; `book` has the differences once it ran."""

    def __init__(
        self,
        log: Log,
        place: Place,
        imt: Lists,
        biller: Biller,
        day: date,
        clock: Clock,
        book: Book,
    ) -> None:
        self._log = log
        self._place = place
        self._biller = biller
        self._day = day
        self._window = day_of(biller, day)
        self._clock = clock
        self.book = book
        self._told: Told = lambda *_: None
        self._partner = PartnerBatch(imt, biller.slug, day, book)
        self._done, self._total, self._last_told = 0, 0, 0

    async def run(self, told: Told) -> Summary:
        """All passes in their order."""
        self._told = told
        closed, published = await self._batches()
        batch = await self._count_received(closed)
        await self._partner.read(self._listed)
        await self._settle({r.partition: (r.begin, r.end) for r in batch.ranges})
        await self._partner.ask_for_the_rest()
        now, differences = self._clock.now(), self.book.counts()
        first = (self._day - timedelta(days=1)) not in published
        state, differing = check_batch(batch, published.get(self._day), now, first=first)
        return Summary(
            biller=self._biller,
            day=self._day,
            opened_at=batch.opened_at,
            closed_at=batch.closed_at,
            is_open=now < batch.closed_at,
            lines=tuple(self.book.lines()),
            declined=batch.declined,
            repeats=batch.repeats,
            batch=state,
            batch_differences=differing,
            imt=self._partner.side(differences),
            differences=differences,
        )

    async def _batches(self) -> tuple[ClosedBatches, Mapping[date, BatchClosed]]:
        """The biller's batches that the look-back of this day needs, and those of the day and of the last."""
        closed = ClosedBatches()
        published: dict[date, BatchClosed] = {}
        since = self._day - timedelta(days=self._biller.batch.repeat_days)
        with TopicReader(self._place, BatchClosed.TOPIC, self._clock) as reader:
            ends = reader.ends()
            number = place_of(self._biller.slug.encode(), len(ends))
            reader.read({number: reader.offsets_at(BEGINNING, ends)[number]}, ends)
            async for _, event in events_of(reader, self._log.codec, self._ours, self._read):
                if isinstance(event, BatchClosed) and event.biller == self._biller.slug:
                    if since <= event.batch_day < self._day:
                        closed.take(event)
                    if self._day - timedelta(days=1) <= event.batch_day <= self._day:
                        published.setdefault(event.batch_day, event)
        return closed, published

    async def _count_received(self, closed: ClosedBatches) -> BatchClosed:
        """The day as `batch.closed` would have it, and each payment that counts in the book."""
        sums = Day(counted=self.book)
        async with ReceivedPayments(self._log) as payments:
            begins = await payments.ends_at(self._window.begin)
            ends = await payments.ends_at(self._window.end)
            self._total = sum(ends.values()) - sum(begins.values())
            async for payment, stamped in counted_before(self._biller, self._day, begins, closed, payments):
                self.book.before(payment, stamped)
            before = payments.passed
            async for payment, stamped in payments.read(self._biller.slug, begins, ends):
                if sums.add(payment) == "counted":
                    self.book.received(payment, stamped)
                self._read(payments.passed - before - self._done)
        ranges = tuple(OffsetRange(partition=p, begin=begins[p], end=ends[p]) for p in sorted(ends))
        return batch_closed(self._biller, self._day, sums, ranges)

    async def _settle(self, ranges: Mapping[int, tuple[int, int]]) -> None:
        """What became of the day's payments, from its beginning until now."""
        with TopicReader(self._place, PaymentOutcome.TOPIC, self._clock) as reader:
            ends = reader.ends()
            begins = reader.offsets_at(self._window.begin, ends)
            self._total += sum(ends.values()) - sum(begins.values())
            reader.read(begins, ends)
            async for _, event in events_of(reader, self._log.codec, self._ours, self._read):
                if isinstance(event, PaymentOutcome) and event.biller == self._biller.slug:
                    begin, end = ranges.get(event.origin_partition, (0, 0))
                    offset = event.origin_offset
                    self.book.settled(event, of_the_day=begin <= offset < end, later=offset >= end)

    def _ours(self, key: bytes) -> bool:
        return key.partition(b"/")[0] == self._biller.slug.encode()

    def _listed(self, payments: int) -> None:
        self._total += payments
        self._read(payments)

    def _read(self, more: int) -> None:
        self._done += more
        if self._done - self._last_told >= TELL_EVERY or self._done >= self._total:
            self._last_told = self._done
            self._told(self._done, max(self._total, self._done))
