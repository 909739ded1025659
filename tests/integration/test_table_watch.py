"""The watch over Faust's tables on the real broker: what the group has committed against what is there."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from services.bus.clock import Clock
from services.bus.table_watch import TableStalled, watch_tables
from services.events import PaymentReceived
from tests.on_the_bus import publish
from tests.stacks import Addresses
from tests.unit.payments_sample import a_payment

LIMIT_S = 30


def an_app(group: str) -> Any:
    """A Faust app that is started and does nothing."""
    return SimpleNamespace(
        conf=SimpleNamespace(id=group),
        started=True,
        consumer=SimpleNamespace(assignment=set),
        tables=SimpleNamespace(recovery=SimpleNamespace(active_offsets={})),
    )


async def test_a_group_that_finishes_nothing_ends_the_process_by_name(stack: Addresses) -> None:
    number = int(time.time())
    await asyncio.to_thread(publish, stack, replace(a_payment(), payment_guid=f"watched-{number}"))
    app = an_app(f"billbus.nobody-{number}.tables")
    async with asyncio.timeout(LIMIT_S):
        with pytest.raises(TableStalled, match=r"billing\.payment\.received\.v1/\d+ stands at 0 of \d+"):
            await watch_tables(app, [PaymentReceived.TOPIC], stack.bootstrap, Clock(), limit_s=1)
