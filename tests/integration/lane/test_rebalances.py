"""Members that come, go and are cut off while work is under way, on the real broker."""

import asyncio
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from deploy.local import Stack
from services.bus.delivery import Delivery
from services.events import PaymentReceived
from tests.lane_bench import Bench, Ledger, payments, reaches


@contextmanager
def frozen(stack: Stack) -> Iterator[None]:
    """The broker stands still, as one behind a cut cable: nobody is told, nothing is refused."""
    assert stack._broker is not None
    os.killpg(stack._broker.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(stack._broker.pid, signal.SIGCONT)


async def test_cut_off_from_the_group_it_sends_nothing_new_though_the_partner_is_there(
    bench: Bench, own_stack: Stack
) -> None:
    ledger, sent = Ledger(slow_s=0.3), payments(600, 600)
    begun: list[float] = []

    def noted(_: PaymentReceived) -> None:
        begun.append(time.monotonic())

    ledger.fails = noted
    async with bench.lane(ledger, in_flight=20) as lane:
        await bench.publish(*sent)
        await reaches(lambda: len(ledger.effects) > 40)
        with frozen(own_stack):
            await asyncio.sleep(4.5)  # the session of 3 s, and what was under way
            last_recognised = lane._broker.certain_until
            assert last_recognised < time.monotonic()
            assert max(begun) <= last_recognised + 0.05
            at_rest = len(ledger.effects)
            await asyncio.sleep(0.5)
            assert len(ledger.effects) == at_rest
        ledger.slow_s = 0.0
        await reaches(lambda: len(set(ledger.guids)) == 600, 60)
    assert Counter(ledger.guids).most_common(1)[0][1] == 1


def owns_any(lane: Delivery[PaymentReceived]) -> bool:
    return any(map(lane.owns, range(12)))


async def test_a_member_that_comes_and_goes_costs_no_effect_no_order_and_never_two_calls_of_an_account(
    bench: Bench,
) -> None:
    ledger, sent = Ledger(slow_s=0.05), payments(1500, 60)
    async with bench.lane(ledger, in_flight=20) as first:
        await bench.publish(*sent[:500])
        for turn in range(3):
            crash = turn == 1
            async with bench.lane(ledger, in_flight=20, crash=crash) as second:
                await reaches(partial(owns_any, second))
                await bench.publish(*sent[500 + turn * 300 : 800 + turn * 300])
            await reaches(partial(owns_any, first))
        ledger.slow_s = 0.0
        await reaches(lambda: len(set(ledger.guids)) == 1400, 60)
    assert Counter(ledger.guids).most_common(1)[0][1] == 1
    assert ledger.overlaps == 0
    for account in {payment.account for payment in sent}:
        mine = [guid for whose, guid in ledger.effects if whose == account]
        assert mine == sorted(mine)
