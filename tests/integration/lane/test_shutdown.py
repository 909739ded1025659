"""Stopping: what is under way ends and is committed, the partitions go over at once, and nothing hangs."""

import asyncio
import time
from collections import Counter

from deploy.local import Stack
from tests.lane_bench import Bench, Ledger, payments, reaches


async def test_stopped_with_slow_calls_while_another_joins_it_hands_over_within_seconds(bench: Bench) -> None:
    ledger, sent = Ledger(slow_s=0.8), payments(120, 120)
    taken: list[float] = []
    async with bench.lane(ledger, in_flight=15) as first:
        await bench.publish(*sent)
        await reaches(lambda: len(ledger.effects) >= 15)
        async with bench.lane(ledger, in_flight=50) as second:
            at_work = ledger.running.total()
            first.stop()
            stopped = time.monotonic()
            await reaches(lambda: all(map(second.owns, range(12))))
            taken.append(time.monotonic() - stopped)
            ledger.slow_s = 0.0
            await reaches(lambda: len(set(ledger.guids)) == 120)
    assert at_work
    assert Counter(ledger.guids).most_common(1)[0][1] == 1
    assert taken[0] < 8, "the calls under way, one rebalance, the commits read"


async def test_stopped_while_the_broker_is_gone_it_is_out_within_its_grace(
    bench: Bench, own_stack: Stack
) -> None:
    ledger, sent = Ledger(slow_s=0.3), payments(400, 400)

    async def run() -> float:
        async with bench.lane(ledger, in_flight=20):
            await bench.publish(*sent)
            await reaches(lambda: len(ledger.effects) > 20)
            own_stack.kill_broker()
            began = time.monotonic()
        return time.monotonic() - began

    took = await run()
    await asyncio.to_thread(own_stack.start_broker)
    assert took < 5 + 5 + 4 * 5 + 2, "drain, the last commit, four closings"
    async with bench.lane(ledger, in_flight=50):
        ledger.slow_s = 0.0
        await reaches(lambda: len(set(ledger.guids)) == 400, 60)
    assert Counter(ledger.guids).most_common(1)[0][1] == 1
