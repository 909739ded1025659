"""A lane on the real broker whose partner takes many payments in one call."""

import asyncio
from collections.abc import Sequence

from services.bus.batching import Answers, Batches
from services.bus.clock import Clock
from services.events import PaymentReceived
from tests.lane_bench import Bench, Ledger, payments, reaches

MOST = 8


async def test_a_call_never_has_two_payments_of_one_account(bench: Bench) -> None:
    ledger, sent = Ledger(slow_s=0.02), payments(400, 20)
    each, calls = ledger.deliver, list[list[str]]()

    async def deliver_many(events: Sequence[PaymentReceived]) -> Answers:
        calls.append([event.account for event in events])
        return await asyncio.gather(*map(each, events))

    ledger.deliver = Batches(  # type: ignore[method-assign]  # one call for many
        deliver_many, clock=Clock(), most=MOST, most_bytes=MOST, size=lambda _: 1
    )
    async with bench.lane(ledger):
        await bench.publish(*sent)
        await reaches(lambda: len(ledger.effects) >= len(sent))
    assert sorted(ledger.guids) == sorted(payment.payment_guid for payment in sent)
    for account in {payment.account for payment in sent}:
        mine = [payment.payment_guid for payment in sent if payment.account == account]
        assert [guid for key, guid in ledger.effects if key == account] == mine
    assert all(len(set(accounts)) == len(accounts) <= MOST for accounts in calls)
    assert max(map(len, calls)) == MOST
    assert ledger.overlaps == 0
