"""Closing a biller's business day: what was received between two cut-offs, counted by offsets.

In each partition a day ends at the first offset stamped at or after the cut-off and begins where the last
one ended, and payments count in the order of their stamps, so that any replica computes the same; the event
of a day has one ce_id whoever writes it.
"""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Literal, Protocol

import structlog

from services.bus import metrics
from services.bus.biller import MOST_REPEAT_DAYS
from services.bus.billers import Biller
from services.bus.business_day import business_day, cut_off
from services.bus.service import Bus
from services.bus.views import View
from services.events import AgentTotal, BatchClosed, BatchTotal, OffsetRange, PaymentReceived
from services.payments.received import ReceivedPayments

log = structlog.get_logger()
MARGIN = timedelta(seconds=2)
"""The broker's clock may be this far behind ours before a late stamp could fall into a closed day."""
ZERO = Decimal("0.00")


class ClosedBatches(View[BatchClosed]):
    """The last batches of each biller, as many as a look-back may need, whole in every replica."""

    def __init__(self) -> None:
        self._closed: dict[str, dict[date, BatchClosed]] = {}
        super().__init__(reads=BatchClosed, apply=self.take)

    def take(self, closed: BatchClosed) -> None:
        days = self._closed.setdefault(closed.biller, {})
        days.setdefault(closed.batch_day, closed)
        if len(days) > MOST_REPEAT_DAYS:
            del days[min(days)]

    def last(self, biller: str) -> BatchClosed | None:
        """The newest batch of a biller."""
        days = self._closed.get(biller)
        return days[max(days)] if days else None

    def since(self, biller: str, day: date) -> BatchClosed | None:
        """The oldest batch of that day or after it."""
        days = self._closed.get(biller, {})
        return days[min(later)] if (later := [each for each in days if each >= day]) else None


@dataclass
class Sum:
    count: int = 0
    amount: Decimal = ZERO
    fee: Decimal = ZERO

    def add(self, payment: PaymentReceived) -> None:
        self.count += 1
        self.amount += payment.amount
        self.fee += payment.convenience_fee


class Counted(Protocol):
    """The PaymentGUIDs that were counted; a set, or where they are too many for memory something like it."""

    def __contains__(self, guid: object, /) -> bool: ...
    def add(self, guid: str, /) -> None: ...


@dataclass
class Day:
    """The running totals of one biller's day; a PaymentGUID counts once, `counted` those of days before."""

    counted: Counted = field(default_factory=set[str])
    all: Sum = field(default_factory=Sum)
    totals: dict[tuple[str, str], Sum] = field(default_factory=dict)
    agents: dict[str, Sum] = field(default_factory=dict)
    declined: int = 0
    repeats: int = 0

    def add(self, payment: PaymentReceived) -> Literal["counted", "declined", "repeat"]:
        """As what it counts."""
        if guid_of(payment) in self.counted:
            self.repeats += 1
            return "repeat"
        self.counted.add(guid_of(payment))
        if not payment.approved:
            self.declined += 1
            return "declined"
        self.all.add(payment)
        self.totals.setdefault((payment.tender, payment.product), Sum()).add(payment)
        if payment.product == "agent_connect":
            self.agents.setdefault(payment.agent or "", Sum()).add(payment)
        return "counted"


def guid_of(payment: PaymentReceived) -> str:
    """The PaymentGUID as it is compared, whatever the case it was sent in."""
    return payment.payment_guid.lower()


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
        async with ReceivedPayments(self._bus) as payments:
            event = await self._sum_up(biller, day, payments)
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
            async with ReceivedPayments(self._bus) as payments:
                everything = payments.read(biller.slug, await payments.begins(), await payments.ends())
                async with aclosing(everything):
                    async for _, stamped in everything:
                        first = business_day(biller, stamped)
                        break
            self._first[biller.slug] = first
        return self._first[biller.slug]

    async def _sum_up(self, biller: Biller, day: date, payments: ReceivedPayments) -> BatchClosed:
        last = self._closed.last(biller.slug)
        begins = {r.partition: r.end for r in last.ranges} if last else await payments.begins()
        ends = await payments.ends_at(cut_off(biller, day))
        sums = Day(
            counted={guid_of(p) async for p, _ in counted_before(biller, day, begins, self._closed, payments)}
        )
        async for payment, _ in payments.read(biller.slug, begins, ends):
            sums.add(payment)
        ranges = tuple(OffsetRange(partition=p, begin=begins.get(p, 0), end=ends[p]) for p in sorted(ends))
        return batch_closed(biller, day, sums, ranges)


async def counted_before(
    biller: Biller,
    day: date,
    begins: Mapping[int, int],
    closed: ClosedBatches,
    payments: ReceivedPayments,
) -> AsyncGenerator[tuple[PaymentReceived, datetime], None]:
    """What came before the day, as far as the biller's rule looks back: it counts on no second day."""
    earliest = closed.since(biller.slug, day - timedelta(days=biller.batch.repeat_days))
    if earliest is not None:
        since = {r.partition: r.begin for r in earliest.ranges}
        async for payment, stamped in payments.read(biller.slug, since, begins):
            yield payment, stamped


def batch_closed(biller: Biller, day: date, sums: Day, ranges: tuple[OffsetRange, ...]) -> BatchClosed:
    """The event of a closed day."""
    return BatchClosed(
        biller=biller.slug,
        batch_day=day,
        opened_at=cut_off(biller, day - timedelta(days=1)),
        closed_at=cut_off(biller, day),
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
        ranges=ranges,
        rule=biller.batch.rule,
    )
