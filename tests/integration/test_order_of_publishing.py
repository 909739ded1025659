"""A long file's rows come onto the bus in its order, however many chunks wait for their acknowledgement."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from deploy.local.processes import ROOT
from services.bus.catalog import load_catalog
from services.bus.clock import Clock
from services.bus.codec import Codec
from services.bus.publisher import TOGETHER, Publisher
from services.bus.registry import Registry
from services.events import PaymentReceived
from services.invoices.taking import CHUNK, Feed
from tests.on_the_bus import read
from tests.stacks import Addresses
from tests.unit.payments_sample import a_payment

CHUNKS, ACCOUNTS = 20, 30
MADE = replace(a_payment(), biller="in-order")


def test_what_is_handed_over_later_comes_later(stack: Addresses) -> None:
    count = CHUNKS * CHUNK + TOGETHER // 2  # the last chunk goes another way than the full ones
    sent = [replace(MADE, account=f"A{n % ACCOUNTS}", payment_guid=f"{n:05d}") for n in range(count)]
    asyncio.run(feed(stack, sent))
    found: defaultdict[str, list[str]] = defaultdict(list)
    for payment in read(stack, PaymentReceived):
        if payment.biller == MADE.biller:
            found[payment.account].append(payment.payment_guid)
    assert sum(map(len, found.values())) == count
    assert all(guids == sorted(guids) for guids in found.values())


async def feed(stack: Addresses, events: Sequence[PaymentReceived]) -> None:
    registry = Registry(stack.registry)
    schemas = {name: topic.schema for name, topic in load_catalog(ROOT / "schemas").items()}
    codec = Codec(schemas, registry)
    await codec.start()
    publisher = Publisher(stack.bootstrap, "billbus/test", codec, Clock())
    await publisher.start()
    try:
        feeding = Feed(publisher)
        for start in range(0, len(events), CHUNK):
            await feeding.put(events[start : start + CHUNK])
        await feeding.end()
    finally:
        await publisher.stop()
        registry.close()
