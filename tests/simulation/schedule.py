"""One schedule from one seed: payments come in, faults strike, then all is calm and has to drain."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any
from unittest.mock import patch

import structlog

from services.bus import breaker, commits, cursors, delivery, doubt, partition, progress
from services.bus.progress import fresh_metadata
from services.bus.replayed import ACT, ATTEMPT, ORIGIN_OFFSET, ORIGIN_PARTITION, ORIGIN_TIMESTAMP
from services.events import PaymentReceived
from tests.simulation.broker import LIVE, REPLAY, Brokers
from tests.simulation.bus import Outcomes, Values
from tests.simulation.judge import Accepted, Judge
from tests.simulation.loop import PROCESS, Stuck
from tests.simulation.node import Make, Node, Site
from tests.simulation.partner import Partner
from tests.simulation.world import BEGINNING, World

BILLERS = ("acme", "birch", "cedar")
DRAINED_WITHIN_S = 240.0
SMALL = {
    (delivery, "FETCH_MOST"): 8,
    (commits, "COMMIT_EVERY_S"): 0.5,
    (delivery, "WINDOW"): 20,
    (cursors, "WINDOW"): 20,
    (cursors, "BILLERS_PART"): 8,
    (cursors, "OTHERS_PART"): 3,
    (cursors, "ACCOUNTS_PART"): 8,
    (cursors, "READ_AT_ONCE"): 5,
    (cursors, "NEARLY_EMPTY"): 3,
    (cursors, "HELD_LONG_S"): 0.5,
    (cursors, "HELD_LONG_AWAY_S"): 0.2,
    (cursors, "MOST_CURSORS"): 4,
    (delivery, "SPAN"): 48,
    (partition, "SPAN"): 48,
    (cursors, "SPAN"): 48,
    (progress, "SPAN"): 48,
}
"""The lane's own bounds, so small that a few dozen records reach every one."""


@dataclass(frozen=True)
class Run:
    """How one schedule went."""

    seed: int
    faults: tuple[str, ...]
    diary: tuple[str, ...]
    seconds: float


class Schedule:
    """Draws everything from the seed."""

    def __init__(self, seed: int, make: Make) -> None:
        self.seed = seed
        dice = Random(seed)
        self.world = world = World(seed, rate=dice.choice((0.0, 0.02, 0.05, 0.12)))
        world.random = dice
        self.brokers = Brokers(world, partitions=dice.choice((1, 1, 2, 3)))
        self.partner = Partner(world)
        self.site = Site(
            world, self.brokers, self.partner, Outcomes(), Values(), BILLERS[: dice.randint(1, 3)],
            asks=dice.random() < 0.85, in_flight=dice.choice((2, 4, 8)), make=make,
        )  # fmt: skip
        self.nodes = [Node(self.site, name) for name in "ABC"[: dice.choice((1, 2, 2, 3))]]
        self.judge = Judge(self.site)
        self.brokers.committed.append(self.judge.committed)
        self.brokers.overwritten.append(self._make_use_of_it)
        self.lasts_s = dice.uniform(4.0, 16.0)
        self.payments = dice.randint(5, 70)
        self.accounts = dice.randint(1, 6)
        self.crowded = dice.random() < 0.4
        for each in self.brokers.logs:
            self.brokers.offsets["", each] = (0, fresh_metadata())

    # -- what comes in ---------------------------------------------------------------------------------

    def plan(self) -> None:
        dice, loop = self.world.random, self.world.loop
        for node in self.nodes:
            loop.later(dice.choice((0.0, 0.0, dice.uniform(0, self.lasts_s / 2))), node.start)
        for number in range(self.payments):
            loop.later(dice.uniform(0, self.lasts_s * dice.random()), self._pay, number)
        temper = self.partner.temper
        accounts = [f"{biller}/{account}" for biller in self.site.billers for account in range(self.accounts)]
        if dice.random() < 0.3:
            temper.failing.update(dice.sample(accounts, 1))
            temper.ever_failed.update(temper.failing)
            loop.later(self.lasts_s + dice.uniform(10, 40), temper.failing.clear)
        if dice.random() < 0.4:
            temper.slow.update(dice.sample(self.site.billers, dice.randint(1, len(self.site.billers))))
        if dice.random() < 0.35:
            self._away(dice.choice(self.site.billers), dice.uniform(0, self.lasts_s / 2), dice.uniform(1, 25))
        if dice.random() < 0.25:  # a restless group
            for _ in range(dice.randint(4, 10)):
                loop.later(dice.uniform(0.5, self.lasts_s + 6.0), self.brokers.rebalance)
        for _ in range(dice.choice((0, 1, 2, 3, 5, 8))):
            loop.later(dice.uniform(0.2, self.lasts_s), self._strike)

    def _pay(self, number: int) -> None:
        dice = self.world.random
        biller = (
            self.site.billers[0] if self.crowded and dice.random() < 0.6 else dice.choice(self.site.billers)
        )
        account = str(dice.randrange(self.accounts))
        guid = f"p{number:03}"
        payment = a_payment(biller, account, guid, "c1")
        if dice.random() < 0.04:
            self.partner.temper.refuses.add(guid)
        if dice.random() < 0.03:
            record = self.brokers.append(LIVE, f"{biller}/{account}".encode(), b"poison")
            self.judge.accept(Accepted(record, None))
        first = self._put(LIVE, payment)
        self.judge.accept(first)
        for _ in range(dice.choice((0,) * 9 + (1, 2))):
            self.world.loop.later(dice.choice((0.0, 0.0, dice.uniform(0, 8))), self._repeat, first)
        if dice.random() < 0.05:
            self.world.loop.later(dice.uniform(0, 8), self._contradict, payment)

    def _put(self, topic: str, payment: PaymentReceived, **how: Any) -> Accepted:
        key = f"{payment.biller}/{payment.account}".encode()
        record = self.brokers.append(topic, key, self.site.values.encode(payment), **how)
        return Accepted(record, payment)

    def _repeat(self, first: Accepted) -> None:
        """IC sends it again, or an operator acts on it."""
        assert first.payment is not None
        if self.world.random.random() < 0.5 or not self.judge.finished(first):
            again = self._put(LIVE, first.payment)
        else:
            again = self._act_on(first, first.payment)
        again.repeats = True
        self.judge.accept(again)

    def _act_on(self, first: Accepted, payment: PaymentReceived) -> Accepted:
        """Replays it, rechecks what the partner may have lost, retries or dismisses what is parked."""
        outcome = self.site.outcomes.settled[first.fact]
        wishes = ("replay", "retry", "dismiss") if outcome.state == "parked" else ("replay", "recheck")
        wish = self.world.random.choice(wishes)
        self.world.note(f"an operator wants {wish} of {payment.payment_guid}, {outcome.state}")
        if wish == "recheck" and outcome.state == "posted" and self.site.asks:
            self.partner.forget(payment)
        if wish == "dismiss":
            self.judge.dismissed.add(first.fact)
        headers = {
            ORIGIN_PARTITION: first.record.partition,
            ORIGIN_OFFSET: first.record.offset,
            ORIGIN_TIMESTAMP: first.record.timestamp,
            ACT: wish if wish != "recheck" or self.site.asks else "replay",
            ATTEMPT: outcome.attempt,
        }
        return self._put(
            REPLAY,
            payment,
            headers=tuple((name, str(value).encode()) for name, value in headers.items()),
            number=first.record.partition,
        )

    def _contradict(self, payment: PaymentReceived) -> None:
        other = self._put(LIVE, replace(payment, amount=Decimal(99), content="c2"))
        other.conflicts = True
        self.judge.accept(other)

    # -- faults ----------------------------------------------------------------------------------------

    def _strike(self) -> None:
        dice, node = self.world.random, self.world.random.choice(self.nodes)
        kind = dice.choice(
            ("kill",) * 3
            + ("stop", "freeze", "freeze", "cut", "cut", "rebalance", "rebalance", "brokers", "garble")
        )
        if kind == "kill":
            node.kill(dice.choice((0, dice.randint(0, 60))))
            if dice.random() < 0.5:
                node.lose_disk()
            self.world.loop.later(dice.uniform(0.05, 5.0), node.start)
        elif kind == "stop":
            node.stop()
            self.world.loop.later(dice.uniform(0.5, 6.0), node.start)
        elif kind == "freeze":
            node.freeze(dice.choice((dice.uniform(0.2, 2.5), dice.uniform(2.5, 8.0))))
        elif kind == "cut":
            self._cut(node)
        elif kind == "rebalance":
            self.brokers.rebalance()
        elif kind == "garble":
            self._garble()
        else:
            self.world.note("the brokers are away")
            self.brokers.away = True
            self.world.loop.later(dice.uniform(0.3, 6.0), self.brokers.come_back)

    def _cut(self, node: Node) -> None:
        """Off from the brokers, not from the partners: it comes upon what it had to wait for, others too."""
        dice = self.world.random
        seconds = dice.choice((dice.uniform(0.5, 5.0), dice.uniform(10.0, 20.0)))
        for biller in self.site.billers if dice.random() < 0.6 else ():
            self._away(biller, 0.0, seconds * dice.uniform(0.4, 0.8))
        self.world.loop.later(dice.uniform(0.0, 1.0), node.cut, seconds)

    def _garble(self) -> None:
        """A partition's commit is no longer readable; then whoever knows more than it dies."""
        dice = self.world.random
        where = ("", dice.choice(list(self.brokers.logs)))
        offset, text = self.brokers.offsets[where]
        self.brokers.offsets[where] = (
            offset,
            dice.choice(("", "somebody else's", text[:-3], text.replace(",", ";"))),
        )
        self.world.note("a commit is garbled")
        for node in self.nodes:
            node.kill(0)
            self.world.loop.later(dice.uniform(0.05, 3.0), node.start)

    def _make_use_of_it(self) -> None:
        """A cursor's commit of an owner long gone came over that of the present one, which now dies."""
        dice = self.world.random
        if not self.world.calm and dice.random() < 0.7:
            for node in self.nodes:
                node.kill(dice.randint(0, 80))
                self.world.loop.later(dice.uniform(0.05, 3.0), node.start)

    def _away(self, biller: str, begin: float, seconds: float) -> None:
        away = self.partner.temper.away
        self.world.loop.later(begin, away.add, biller)
        self.world.loop.later(begin + seconds, away.discard, biller)

    # -- the run ---------------------------------------------------------------------------------------

    def _watch(self) -> None:
        for node in self.nodes:
            if exceeded := node.over_its_bounds():
                self.world.broken(f"over its bounds: {exceeded}")
        if not self.world.calm:
            self.world.loop.later(0.25, self._watch)

    async def _all_is_given_back(self) -> None:
        """Also by a process that has only just heard that others have its partitions."""
        for _ in range(20):
            await asyncio.sleep(1.0)
            kept = [what for node in self.nodes if (what := node.keeps_something())]
            if not kept:
                return
        self.world.broken(f"nothing is left to do, and the lane keeps {kept}")

    async def live(self) -> None:
        world = self.world
        self.plan()
        self._watch()
        await asyncio.sleep(self.lasts_s + 8.0)
        world.calm = True
        world.note("calm")
        deadline = world.loop.time() + DRAINED_WITHIN_S
        while world.loop.time() < deadline:
            for node in self.nodes:
                node.start()
            if self.judge.nothing_left():
                break
            await asyncio.sleep(1.0)
        else:
            world.broken(f"not drained: {'; '.join(self.judge.left())}")
        await self._all_is_given_back()
        self.judge.end()

    def run(self) -> Run:
        world = self.world
        try:
            world.loop.run_until_complete(self.live())
        except Stuck:
            world.broken("nothing is due any more")
        seconds = world.loop.time()
        for complaint in world.loop.complaints:
            world.broken(complaint)
        world.over = True
        world.loop.end(self.site.processes)
        return Run(self.seed, tuple(world.faults), tuple(world.diary), seconds)


def a_payment(biller: str, account: str, guid: str, content: str) -> PaymentReceived:
    return PaymentReceived(
        biller=biller, account=account, payment_guid=guid, resolution="matched", amount=Decimal(10),
        convenience_fee=Decimal(0), approved=True, tender="card", product="portal",
        paid_at=BEGINNING - timedelta(minutes=1), via="form", content=content, received_at=BEGINNING,
    )  # fmt: skip


@contextmanager
def small(dice: Random) -> Iterator[None]:
    """The lane's bounds made small, its own dice ours, its log silent."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    patches: list[Any] = [patch.object(module, name, value) for (module, name), value in SMALL.items()]
    patches += [patch.object(module, "random", dice) for module in (breaker, doubt)]
    for each in patches:
        each.start()
    try:
        yield
    finally:
        for each in patches:
            each.stop()
        structlog.configure(**before)


def simulate(seed: int, make: Make | None = None) -> Run:
    """One whole run; `faults` is empty where every promise was kept."""
    schedule = Schedule(seed, make or Make())
    token = PROCESS.set(None)
    try:
        with small(schedule.world.random):
            return schedule.run()
    finally:
        PROCESS.reset(token)
