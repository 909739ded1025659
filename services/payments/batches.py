"""Closing a biller's business day: what was received between two cut-offs, counted by offsets.

In each partition a day ends at the first offset stamped at or after the cut-off and begins where the last
one ended, so that any replica computes the same; the event of a day has one ce_id whoever writes it.
"""

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition

from services.bus import metrics
from services.bus.billers import Biller
from services.bus.business_day import business_day, cut_off
from services.bus.codec import Codec, Undecodable
from services.bus.service import Bus
from services.bus.views import View, whole
from services.events import AgentTotal, BatchClosed, BatchTotal, OffsetRange, PaymentReceived

log = structlog.get_logger()
MARGIN = timedelta(seconds=2)
"""The broker's clock may be this far behind ours before a late stamp could fall into a closed day."""
ZERO = Decimal("0.00")


class ClosedBatches(View[BatchClosed]):
    """The last batch of each biller, whole in every replica."""

    def __init__(self) -> None:
        self._last: dict[str, BatchClosed] = {}
        super().__init__(reads=BatchClosed, apply=self.take)

    def take(self, closed: BatchClosed) -> None:
        last = self._last.get(closed.biller)
        if last is None or closed.batch_day > last.batch_day:
            self._last[closed.biller] = closed

    def last(self, biller: str) -> BatchClosed | None:
        return self._last.get(biller)


@dataclass
class Sum:
    count: int = 0
    amount: Decimal = ZERO
    fee: Decimal = ZERO

    def add(self, payment: PaymentReceived) -> None:
        self.count += 1
        self.amount += payment.amount
        self.fee += payment.convenience_fee


@dataclass
class Day:
    """The running totals of one biller's day; a PaymentGUID counts once."""

    biller: str
    counted: set[str] = field(default_factory=set)
    all: Sum = field(default_factory=Sum)
    totals: dict[tuple[str, str], Sum] = field(default_factory=dict)
    agents: dict[str, Sum] = field(default_factory=dict)
    declined: int = 0
    repeats: int = 0

    def add(self, payment: PaymentReceived) -> None:
        if payment.payment_guid in self.counted:
            self.repeats += 1
            return
        self.counted.add(payment.payment_guid)
        if not payment.approved:
            self.declined += 1
            return
        self.all.add(payment)
        self.totals.setdefault((payment.tender, payment.product), Sum()).add(payment)
        if payment.product == "agent_connect":
            self.agents.setdefault(payment.agent or "", Sum()).add(payment)


class BatchClock:
    """Closes, for one biller at a time, every business day whose cut-off has passed."""

    def __init__(self, bus: Bus, closed: ClosedBatches) -> None:
        self._bus = bus
        self._closed = closed
        self._first: dict[str, date] = {}

    async def close_due(self, biller: Biller) -> None:
        """Closes the oldest day that is due; the next tick closes the next one."""
        last = self._closed.last(biller.slug)
        day = last.batch_day + timedelta(days=1) if last else await self._first_day(biller)
        if cut_off(biller, day) > self._bus.clock.now() - MARGIN:
            return
        async with Log(self._bus) as payments:
            event = await self._sum_up(biller, day, last, payments)
        await self._bus.publisher.publish(event)
        self._closed.take(event)
        metrics.BATCHES_CLOSED.labels(biller.slug).inc()
        log.info(
            "batch_closed", biller=biller.slug, day=str(day), count=event.count, amount=str(event.amount)
        )

    async def _first_day(self, biller: Biller) -> date:
        """The day of its first payment on the log, else the one that is open now; looked for once."""
        if biller.slug not in self._first:
            first = business_day(biller, self._bus.clock.now() - MARGIN)
            async with Log(self._bus) as payments:
                async for payment, stamped in payments.read(await payments.begins(), await payments.ends()):
                    if payment.biller == biller.slug:
                        first = business_day(biller, stamped)
                        break
            self._first[biller.slug] = first
        return self._first[biller.slug]

    async def _sum_up(
        self, biller: Biller, day: date, last: BatchClosed | None, payments: "Log"
    ) -> BatchClosed:
        closed_at = cut_off(biller, day)
        begins = {r.partition: r.end for r in last.ranges} if last else await payments.begins()
        ends = await payments.ends_at(closed_at)
        sums = Day(biller.slug)
        if last is not None:  # a repeat of yesterday's notice counts on no second day
            earlier = Day(biller.slug)
            async for payment, _ in payments.read({r.partition: r.begin for r in last.ranges}, begins):
                if payment.biller == biller.slug:
                    earlier.add(payment)
            sums.counted = earlier.counted
        async for payment, _ in payments.read(begins, ends):
            if payment.biller == biller.slug:
                sums.add(payment)
        return BatchClosed(
            biller=biller.slug,
            batch_day=day,
            opened_at=cut_off(biller, day - timedelta(days=1)),
            closed_at=closed_at,
            count=sums.all.count,
            amount=sums.all.amount,
            convenience_fee=sums.all.fee,
            totals=tuple(
                BatchTotal(tender=t, product=p, count=s.count, amount=s.amount, convenience_fee=s.fee)
                for (t, p), s in sorted(sums.totals.items())
            ),
            agents=tuple(
                AgentTotal(agent=a, count=s.count, amount=s.amount, convenience_fee=s.fee)
                for a, s in sorted(sums.agents.items())
            ),
            declined=sums.declined,
            repeats=sums.repeats,
            ranges=tuple(OffsetRange(partition=p, begin=begins.get(p, 0), end=ends[p]) for p in sorted(ends)),
            rule=biller.batch.rule,
        )


class Log:
    """Reads ranges of the payments topic, without a group."""

    def __init__(self, bus: Bus) -> None:
        self._codec: Codec = bus.codec
        self._topic = PaymentReceived.TOPIC
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bus.settings.bootstrap, enable_auto_commit=False, auto_offset_reset="earliest"
        )

    async def __aenter__(self) -> "Log":
        try:
            await self._consumer.start()
            self._partitions = await whole(self._consumer, self._topic)
        except BaseException:
            await self._consumer.stop()
            raise
        self._consumer.assign(self._partitions)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._consumer.stop()

    async def begins(self) -> dict[int, int]:
        return numbers(await self._consumer.beginning_offsets(self._partitions))

    async def ends(self) -> dict[int, int]:
        return numbers(await self._consumer.end_offsets(self._partitions))

    async def ends_at(self, at: datetime) -> dict[int, int]:
        """By partition the first offset stamped at or after an instant, else the end of the log."""
        stamp = int(at.timestamp() * 1000)
        found = await self._consumer.offsets_for_times(dict.fromkeys(self._partitions, stamp))
        ends = await self.ends()
        return {p.partition: found[p].offset if found[p] else ends[p.partition] for p in self._partitions}

    async def read(
        self, begins: Mapping[int, int], ends: Mapping[int, int]
    ) -> AsyncIterator[tuple[PaymentReceived, datetime]]:
        """The payments from `begins` up to, not including, `ends`, with the instants the bus gave them."""
        first = await self.begins()
        open_ = {}
        for partition in self._partitions:
            begin = max(begins.get(partition.partition, 0), first[partition.partition])
            if begin < ends[partition.partition]:
                open_[partition] = ends[partition.partition]
                self._consumer.seek(partition, begin)
        while open_:
            for partition, records in (await self._consumer.getmany(*open_, timeout_ms=200)).items():
                for record in records:
                    if record.offset < ends[partition.partition]:
                        try:
                            event = await self._codec.decode(self._topic, record.value)
                        except Undecodable:
                            continue  # the lane buries it
                        if isinstance(event, PaymentReceived):
                            yield event, datetime.fromtimestamp(record.timestamp / 1000).astimezone()
            for partition in list(open_):
                if await self._consumer.position(partition) >= open_[partition]:
                    del open_[partition]


def numbers(offsets: Mapping[TopicPartition, int]) -> dict[int, int]:
    return {partition.partition: offset for partition, offset in offsets.items()}
