"""Stopping: what is under way ends and is committed, the partitions go over at once, and nothing hangs."""

import asyncio
import time
from collections import Counter

import pytest
from aiokafka import AIOKafkaConsumer

from deploy.local import Stack
from services.bus.closing import start_consumer, stop_consumer
from services.events import PaymentReceived
from tests.lane_bench import Bench, Ledger, payments, reaches


async def test_stopped_with_slow_calls_while_another_joins_it_hands_over_within_seconds(bench: Bench) -> None:
    ledger, sent, others = Ledger(slow_s=0.8), payments(120, 120), asyncio.all_tasks()
    async with bench.lane(ledger, in_flight=15) as first:
        await bench.publish(*sent)
        await reaches(lambda: len(ledger.effects) >= 15)
        async with bench.lane(ledger, in_flight=50) as second:
            await reaches(lambda: ledger.running.total() >= 10)
            first.stop()
            stopped = time.monotonic()
            await reaches(lambda: all(map(second.owns, range(12))))
            took_s = time.monotonic() - stopped
            ledger.slow_s = 0.0
            await reaches(lambda: len(set(ledger.guids)) == 120)
    assert Counter(ledger.guids).most_common(1)[0][1] == 1
    await reaches(lambda: asyncio.all_tasks() <= others, 5)  # not even of a takeover that had just begun
    assert took_s < 8, "the calls under way, one rebalance, the commits read"


async def test_stopped_while_the_broker_is_gone_it_is_out_within_its_grace(
    bench: Bench, own_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.bus.delivery.COMMIT_LIMIT_S", 1.0)
    monkeypatch.setattr("services.bus.closing.CLOSE_LIMIT_S", 1.0)
    ledger, sent = Ledger(slow_s=0.3), payments(400, 400)

    async def run() -> float:
        async with bench.lane(ledger, in_flight=20):
            await bench.publish(*sent)
            await reaches(lambda: len(ledger.effects) > 20)
            own_stack.kill_broker()
            began = time.monotonic()
        return time.monotonic() - began

    took = await run()
    own_stack.start_broker()  # in this thread: the broker would not outlive another
    assert took < 5 + 1 + 6 * 1 + 4, "the calls under way, the last commit, six closings, and some air"
    async with bench.lane(ledger, in_flight=50):
        ledger.slow_s = 0.0
        await reaches(lambda: len(set(ledger.guids)) == 400, 60)
    assert Counter(ledger.guids).most_common(1)[0][1] == 1


async def test_a_stop_that_is_cut_short_leaves_neither_a_task_nor_a_connection(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = asyncio.all_tasks()
    consumer = AIOKafkaConsumer(
        PaymentReceived.TOPIC, bootstrap_servers=bench.stack.bootstrap, group_id=f"{bench.group}.cut"
    )
    await consumer.start()
    await reaches(consumer.assignment)
    opened = list(consumer._client._conns.values())
    monkeypatch.setattr("services.bus.closing.CLOSE_LIMIT_S", 0.001)
    await stop_consumer(consumer)
    assert len(opened) > 1
    await reaches(lambda: asyncio.all_tasks() <= others, 5)
    assert not any(each.connected() for each in [*opened, *consumer._client._conns.values()])


async def test_who_is_cancelled_while_a_consumer_starts_leaves_neither_a_task_nor_a_connection(
    bench: Bench,
) -> None:
    others = asyncio.all_tasks()
    cut_short = 0
    for fifths_of_ms in range(30):
        consumer = AIOKafkaConsumer(bootstrap_servers=bench.stack.bootstrap)
        starting = asyncio.create_task(start_consumer(consumer))
        await asyncio.sleep(fifths_of_ms / 5000)
        cut_short += starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await stop_consumer(consumer)
    assert cut_short > 1
    await reaches(lambda: asyncio.all_tasks() <= others, 5)  # connections: the fixture looks for them
