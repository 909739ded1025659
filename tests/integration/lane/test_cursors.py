"""Who is in the way goes behind a cursor of its own; nothing is lost, doubled or disordered by it."""

import asyncio
from collections import Counter
from dataclasses import replace
from uuid import uuid4

from services.bus.cursors import WINDOW
from services.bus.lane import Settlement
from services.bus.partner import Outage, Retryable
from services.bus.progress import SPAN
from services.events import PaymentReceived
from tests.lane_bench import Bench, Ledger, partition_of, payments, reaches


def of(biller: str, count: int, accounts: int = 120) -> list[PaymentReceived]:
    return [replace(each, biller=biller) for each in payments(count, accounts)]


def in_order(ledger: Ledger, sent: list[PaymentReceived]) -> bool:
    """Each payment once, and each account's in the order in which they were published."""
    wanted: dict[str, list[str]] = {}
    for each in sent:
        wanted.setdefault(each.account, []).append(each.payment_guid)
    mine = {each.payment_guid for each in sent}
    found: dict[str, list[str]] = {}
    for account, guid in ledger.effects:
        if guid in mine:
            found.setdefault(account, []).append(guid)
    return found == wanted


class Away:
    """A partner that is away for one biller until told otherwise."""

    def __init__(self, biller: str) -> None:
        self.biller, self.over = biller, False
        self.ledger = Ledger(slow_s=0.002, fails=self.fails)

    def fails(self, event: PaymentReceived) -> Exception | None:
        if event.biller == self.biller and not self.over:
            return Outage(event.biller, "imt", "refused")
        return None

    def done(self, biller_of_guid: dict[str, str], biller: str) -> int:
        return sum(biller_of_guid.get(guid) == biller for guid in self.ledger.guids)


async def test_a_biller_that_is_away_does_not_slow_another(bench: Bench) -> None:
    away = Away("acme")
    down, up = of("acme", 7_000), of("birch", 600)
    whose = {each.payment_guid: each.biller for each in [*down, *up]}
    async with bench.lane(away.ledger) as lane:
        await bench.publish(*down)
        await bench.publish(*up)
        await reaches(lambda: away.done(whose, "birch") == 600, 40)
        assert away.done(whose, "acme") == 0
        held = [sum(s.held for s in owned.stretches) for owned in lane._owned.values()]
        assert max(held) <= 2 * WINDOW
        away.over = True
        await reaches(lambda: away.done(whose, "acme") == len(down), 60)
        await reaches(lambda: bench.behind(lane) == 0)
        await reaches(lambda: not any(owned.cursors for owned in lane._owned.values()))
        after = of("acme", 100)
        await bench.publish(*after)
        await reaches(lambda: away.ledger.guids[-1] and len(away.ledger.guids) == len(down) + 700)
    assert in_order(away.ledger, [*down, *after])
    assert in_order(away.ledger, up)
    assert Counter(away.ledger.guids).most_common(1)[0][1] == 1


async def test_a_takeover_goes_on_from_an_open_cursor(bench: Bench) -> None:
    away = Away("acme")
    down, up = of("acme", 7_000), of("birch", 300)
    whose = {each.payment_guid: each.biller for each in [*down, *up]}
    async with bench.lane(away.ledger, crash=True) as lane:
        await bench.publish(*down)
        await bench.publish(*up)
        await reaches(lambda: away.done(whose, "birch") == 300, 40)
        assert any("acme" in owned.cursors for owned in lane._owned.values())
    async with bench.lane(away.ledger, crash=True) as lane:
        more = of("birch", 100)
        whose |= {each.payment_guid: each.biller for each in more}
        await bench.publish(*more)
        await reaches(lambda: away.done(whose, "birch") == 400, 40)
        away.over = True
        await reaches(lambda: away.done(whose, "acme") > 2_000, 40)
    async with bench.lane(away.ledger) as lane:
        await reaches(lambda: len(set(away.ledger.guids)) == 7_400, 60)
        await reaches(
            lambda: bench.behind(lane) == 0 and not any(o.cursors for o in lane._owned.values()), 60
        )
    assert Counter(away.ledger.guids).most_common(1)[0][1] == 1
    assert in_order(away.ledger, down)


async def test_an_account_that_fails_for_ever_does_not_stop_its_partition(bench: Bench) -> None:
    stuck, others = payments(1, 1)[0], payments(40_000, 800)
    here = [
        each for each in others if partition_of(each) == partition_of(stuck) and each.account != stuck.account
    ]
    here = here[: SPAN + 400]
    assert len(here) > SPAN

    def fails(event: PaymentReceived) -> Exception | None:
        return Retryable("acme", "imt", "no") if event.payment_guid == stuck.payment_guid else None

    ledger = Ledger(fails=fails)
    async with bench.lane(ledger) as lane:
        await bench.publish(stuck)
        await bench.publish(*here)
        await reaches(lambda: set(ledger.guids) == {p.payment_guid for p in here}, 40)
        await reaches(lambda: bench.behind(lane) == 0)
        ledger.fails = lambda _: None
        await reaches(lambda: stuck.payment_guid in ledger.guids, 60)
    assert len(ledger.guids) == len(here) + 1


async def test_a_slow_biller_that_never_fails_does_not_slow_another(bench: Bench) -> None:
    ledger = Ledger()
    quick = ledger.deliver
    slow, fast = of("acme", 7_000), of("birch", 600)
    over = asyncio.Event()

    async def deliver(event: PaymentReceived) -> Settlement:
        if event.biller == "acme" and not over.is_set():
            await asyncio.wait([asyncio.ensure_future(over.wait())], timeout=2)
        return await quick(event)

    ledger.deliver = deliver  # type: ignore[method-assign]  # one biller's partner takes two seconds
    whose = {each.payment_guid: each.biller for each in [*slow, *fast]}
    async with bench.lane(ledger):
        await bench.publish(*slow)
        await bench.publish(*fast)
        await reaches(lambda: sum(whose[g] == "birch" for g in ledger.guids) == 600, 40)
        assert sum(whose[g] == "acme" for g in ledger.guids) < 6_000
        over.set()
        await reaches(lambda: len(ledger.guids) == 7_600, 60)
    assert in_order(ledger, slow)


async def test_who_cannot_be_asked_has_in_doubt_only_what_was_really_handed_over(bench: Bench) -> None:
    ledger, sent = Ledger(slow_s=0.2), payments(600, 600)
    unaskable = {"options": {"ask": None, "exact": True}, "in_flight": 20}
    async with bench.lane(ledger, crash=True, **unaskable):
        await bench.publish(*sent)
        await reaches(lambda: len(ledger.effects) > 60 and ledger.running.total() > 0)
    before = len(ledger.effects)
    async with bench.lane(ledger, **unaskable) as lane:
        ledger.slow_s = 0.0
        await reaches(lambda: bench.behind(lane) == 0, 40)
    parked = [o for o in await bench.outcomes(sent) if o.state == "parked"]
    assert 0 < len(parked) <= 40, f"{len(parked)} of {before}"
    assert {o.reason for o in parked} == {"in_doubt"}
    in_ledger = Counter(ledger.guids)
    assert max(in_ledger.values()) == 1
    assert {o.natural_id for o in parked} >= {p.payment_guid for p in sent} - set(in_ledger)


async def test_a_replayed_record_from_before_the_index_is_looked_up_not_sent_blindly(bench: Bench) -> None:
    old = payments(30, 30)
    ledger = Ledger(effects=[(each.account, each.payment_guid) for each in old[:20]])
    async with bench.lane(ledger) as lane:
        lane._index._since = {0: 4_000_000_000_000}  # type: ignore[union-attr]  # it knows nothing older
        await bench.replay(*old)
        await reaches(lambda: len(set(ledger.guids)) == 30)
        await reaches(lambda: ledger.asked >= 30)
    assert len(ledger.guids) == 30


async def test_a_replay_beside_live_skips_what_is_settled_and_keeps_the_order_of_a_key(bench: Bench) -> None:
    ledger = Ledger(slow_s=0.005)
    first, later = payments(200, 10), payments(200, 10)
    missing = [replace(each, payment_guid=f"{uuid4()}") for each in payments(20, 10)]
    async with bench.lane(ledger) as lane:
        await bench.publish(*first)
        await reaches(lambda: len(ledger.effects) == 200)
        await asyncio.gather(bench.replay(*first, *missing), bench.publish(*later))
        await reaches(lambda: len(ledger.effects) == 420)
        await reaches(lambda: bench.behind(lane) == 0)
    assert (ledger.overlaps, len(set(ledger.guids))) == (0, 420)
