"""Taking a BIF file: refused whole, or each good row as invoice.issued, and the file as file.received."""

import asyncio
import os
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from io import BufferedIOBase
from weakref import WeakValueDictionary

import structlog

from services.bus import links, metrics
from services.bus.billers import Biller
from services.bus.publisher import Handed, NotAcknowledged, Publisher
from services.bus.service import Bus
from services.bus.trace import current_traceparent
from services.events import Event, FileReceived, InvoiceIssued, Refusal
from services.invoices.bif import FileRefused, Inspected, check_biller, checksum, inspect
from services.invoices.files import Files, Uploads
from services.invoices.layout import Layout
from services.invoices.rows import RowReader, rows
from services.invoices.rules import ZERO, Values

log = structlog.get_logger()
CHUNK = 250
"""Rows published together; more of them in one go would hold up other requests."""
AT_ONCE = 3
"""Chunks that wait for their acknowledgement: memory is bounded by this, whatever the file."""
FILES_AT_ONCE = 2
KEPT_REFUSALS = 1000


class Feed:
    """Publishes in chunks, in order, a few under way at a time; raises NotAcknowledged."""

    def __init__(self, publisher: Publisher) -> None:
        self._publisher = publisher
        self._under_way: deque[asyncio.Task[None]] = deque()

    async def put(self, events: Sequence[Event]) -> None:
        if len(self._under_way) >= AT_ONCE:
            await self._under_way.popleft()
        # not in a task: an account's newer bill may stand in one chunk, and its older in the next
        handed = await self._publisher.hand_over(events, current_traceparent())
        self._under_way.append(asyncio.create_task(self._wait_for(handed)))

    async def _wait_for(self, handed: Handed) -> None:
        for failure in await self._publisher.acknowledged(handed):
            if failure is not None:
                raise failure

    async def end(self) -> None:
        """Waits until all are acknowledged."""
        while self._under_way:
            await self._under_way.popleft()

    async def abandon(self) -> None:
        await asyncio.gather(*self._under_way, return_exceptions=True)


class FileTaker:
    """Takes BIF files, a few at a time."""

    def __init__(self, bus: Bus, layout: Layout, files: Files, uploads: Uploads) -> None:
        self._bus = bus
        self._layout = layout
        self._files = files
        self._uploads = uploads
        self._turn = asyncio.Semaphore(FILES_AT_ONCE)
        self._same: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def take(self, biller: Biller, file: BufferedIOBase, name: str) -> FileReceived:
        """What became of the file; the same file again gets the same answer and has no effect.

        Returns once every row and the file itself are acknowledged; raises NotAcknowledged when the bus is
        away, and then the file can be sent again.
        """
        if not (self._files.ready and self._uploads.ready):  # just started: every file would look new
            raise NotAcknowledged("the files are still being read")
        async with self._turn:
            file_id = await asyncio.to_thread(checksum, file)
            async with self._same.setdefault((biller.slug, file_id), asyncio.Lock()):
                known = self._files.find(biller.slug, file_id)
                if known is not None and known.state == "accepted":
                    return known
                return await self._take_new(biller, file, file_id, name)

    async def _take_new(self, biller: Biller, file: BufferedIOBase, file_id: str, name: str) -> FileReceived:
        received_at = self._bus.clock.now()
        try:
            check_size(file, self._bus.settings.bif_limit_bytes)
            found = await asyncio.to_thread(inspect, file, self._layout)
            check_biller(found, biller)
        except FileRefused as refused:
            log.warning("bif.refused", biller=biller.slug, file_id=file_id, code=refused.code)
            event = refusal_of(biller, file_id, name, refused, received_at)
            known = self._files.find(biller.slug, file_id)
            if known is not None and known.reason == event.reason:
                return known
        else:
            event = await self._take_rows(biller, file, file_id, name, found, received_at)
        await self._bus.publisher.publish(event, traceparent=current_traceparent())
        self._files.take(event)
        return event

    async def _take_rows(
        self,
        biller: Biller,
        file: BufferedIOBase,
        file_id: str,
        name: str,
        found: Inspected,
        at: datetime,
    ) -> FileReceived:
        reader = RowReader(self._layout, found.header, biller, self._bus.support, found.repeats)
        feed = Feed(self._bus.publisher)
        refusals: list[Refusal] = []
        batch: list[InvoiceIssued] = []
        accepted, unchanged, total = 0, 0, ZERO
        try:
            for number, result in enumerate(rows(file, self._layout, found, reader), start=1):
                if isinstance(result, dict):
                    invoice = self._issue(biller, file_id, result, at)
                    batch.append(invoice)
                    accepted, total = accepted + 1, total + invoice.balance_due
                    unchanged += self._uploads.settled(invoice)
                elif len(refusals) < KEPT_REFUSALS:
                    refusals += result
                if number % CHUNK == 0:
                    await feed.put(batch)
                    batch = []
                    await asyncio.sleep(0)
            await feed.put(batch)
            await feed.end()
        finally:
            await feed.abandon()
            found.repeats.close()
        for slug, times in reader.refused_by_name.items():
            metrics.REFUSED.labels("invoices", slug).inc(times)
        metrics.ACCEPTED.labels("invoices", biller.slug, "invoice").inc(accepted)
        log.info("bif.taken", biller=biller.slug, file_id=file_id, rows=found.rows, accepted=accepted)
        return FileReceived(
            biller=biller.slug,
            file_id=file_id,
            file_name=name,
            state="accepted",
            rows=found.rows,
            accepted=accepted,
            unchanged=unchanged,
            refused=found.rows - accepted,
            balance_due=total,
            refusals=tuple(refusals[:KEPT_REFUSALS]),
            received_at=at,
        )

    def _issue(self, biller: Biller, file_id: str, values: Values, at: datetime) -> InvoiceIssued:
        """The fact of a row, with the link to its bill."""
        expires_at = link_expiry(biller, values)
        return InvoiceIssued(
            biller=biller.slug,
            file_id=file_id,
            bill_link=links.mint(
                biller,
                self._bus.secrets,
                self._bus.settings.public_bills_url,
                values["invoice_number"],
                values["bill_id"],
                expires_at,
            ),
            bill_link_expires_at=expires_at,
            issued_at=at,
            **values,
        )


def link_expiry(biller: Biller, values: Values) -> datetime:
    """The instant (UTC) from which the bill's link is dead: some days after the bill's date, at midnight."""
    last = values["invoice_date"] + timedelta(days=biller.links.valid_days)
    return datetime.combine(last, time(), biller.timezone).astimezone(UTC)


def check_size(file: BufferedIOBase, limit: int) -> None:
    """Refuses a file beyond the limit, in bytes, however it came."""
    if os.fstat(file.fileno()).st_size > limit:
        raise FileRefused("too_large", f"larger than {limit} bytes")


def refusal_of(biller: Biller, file_id: str, name: str, refused: FileRefused, at: datetime) -> FileReceived:
    return FileReceived(
        biller=biller.slug,
        file_id=file_id,
        file_name=name,
        state="refused",
        reason=f"{refused.code}: {refused.reason}",
        rows=refused.rows,
        accepted=0,
        refused=refused.rows,
        balance_due=Decimal("0.00"),
        received_at=at,
    )
