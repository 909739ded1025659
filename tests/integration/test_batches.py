"""Batches over the real broker: two replicas close the same day at the same moment, as the same fact."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

from deploy.local.processes import DEMO_BILLERS, prepare
from services.bus.biller import Biller
from services.bus.clock import Clock
from services.bus.identity import event_id
from services.bus.place import Place
from services.bus.replayed import Act
from services.bus.service import Bus, open_bus
from services.bus.settings import load_settings
from services.events import BatchClosed, PaymentReceived
from services.operations.reemitting import Reemitter, coordinates_of
from services.operations.topic_reader import TopicReader
from services.payments.batches import MARGIN, BatchClock, ClosedBatches
from tests.deadline import until
from tests.on_the_bus import publish, read
from tests.stacks import Addresses
from tests.unit.parts import a_biller
from tests.unit.payments_sample import a_payment

CUT_OFF_IN_S = 2
LIMIT_S = 30


def test_two_replicas_close_the_same_day_at_once_as_the_same_fact(stack: Addresses, tmp_path: Path) -> None:
    slug = f"noon-{int(time.time())}"
    payments = [
        replace(a_payment(), biller=slug, account=f"{n:010d}", payment_guid=f"g-{n}", amount=Decimal(n))
        for n in range(1, 25)
    ]
    publish(stack, *payments)
    publish(stack, replace(payments[0], account="9999999999", amount=Decimal("500.00")))
    biller, ends = whose_day_ends_soon(slug)
    until(lambda: datetime.now(ends.tzinfo) > ends, LIMIT_S, "the cut-off")
    publish(stack, replace(payments[0], payment_guid="late", amount=Decimal("1000.00")))

    closed = asyncio.run(close_twice(stack, tmp_path, biller))

    assert len(closed) == 2
    assert closed[0] == closed[1]
    assert (closed[0].batch_day, closed[0].closed_at) == (ends.date(), ends)
    assert (closed[0].count, closed[0].amount, closed[0].repeats) == (24, Decimal("300.00"), 1)
    on_topic = [batch for batch in read(stack, BatchClosed) if batch.biller == slug]
    assert len({event_id(batch) for batch in on_topic}) == 1
    assert on_topic[0] == closed[0]

    replayed(stack, slug)
    assert asyncio.run(close_twice(stack, tmp_path / "again", biller)) == closed


def replayed(stack: Addresses, slug: str) -> None:
    """All payments of the biller once more, on `.replay`."""
    topic = PaymentReceived.TOPIC
    with (
        Place(stack.bootstrap, stack.registry) as place,
        TopicReader(place, topic, Clock()) as reader,
        Reemitter(place, topic, "again", Clock()) as writer,
    ):
        ends = reader.ends()
        reader.read(dict.fromkeys(ends, 0), ends)
        while not reader.finished:
            for record in reader.fetch():
                if record.key().startswith(f"{slug}/".encode()):
                    headers, origin = record.headers(), coordinates_of(record)
                    writer.emit(record.key(), record.value(), headers, origin, Act("replay"))
        writer.flush()


def whose_day_ends_soon(slug: str) -> tuple[Biller, datetime]:
    """A biller, and the instant at which its business day ends."""
    zone = a_biller().timezone
    ends = (datetime.now(zone) + timedelta(seconds=CUT_OFF_IN_S)).replace(microsecond=0)
    return a_biller(slug, batch={"cut_off": f"{ends:%H:%M:%S}"}), ends


async def close_twice(stack: Addresses, folder: Path, biller: Biller) -> list[BatchClosed]:
    """What two replicas that know of no batch make of the day."""
    with a_bus(stack, folder) as bus:
        await bus.codec.start()
        await bus.publisher.start()
        try:
            views = [ClosedBatches(), ClosedBatches()]
            clocks = [BatchClock(bus, view) for view in views]
            async with asyncio.timeout(LIMIT_S):
                await asyncio.sleep(MARGIN.total_seconds())
                await asyncio.gather(*(clock.close_due(biller) for clock in clocks))
            return [last for view in views if (last := view.last(biller.slug))]
        finally:
            await bus.publisher.stop()


@contextmanager
def a_bus(stack: Addresses, folder: Path) -> Iterator[Bus]:
    """What a service stands on, with the demo's billers."""
    billers, secrets, _ = prepare(folder, DEMO_BILLERS)
    bus = open_bus(
        load_settings(
            service="payments",
            bootstrap=stack.bootstrap,
            registry=stack.registry,
            billers=billers,
            secrets=secrets,
            state=folder / "state",
        )
    )
    try:
        yield bus
    finally:
        bus.codec.close()
