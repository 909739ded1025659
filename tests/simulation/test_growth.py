"""What a lane holds and how fast it is: neither the records before it nor one account's part in them count.

Time is virtual: a partner's call takes what it says, everything else next to nothing.
"""

import asyncio
import gc
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from aiokafka import ConsumerRecord

from services.bus.cursors import BILLERS_PART, READ_AT_ONCE, WINDOW
from services.bus.delivery import Delivery
from services.bus.doubt import Item
from services.bus.lane import Posted, Settlement
from services.bus.membership import Record
from services.bus.partner import Outage
from services.bus.progress import SPAN
from services.events import PaymentReceived
from tests.fake_broker import Desk, Log, Partner, a_record, at
from tests.lane_bench import reaches
from tests.simulation.world import World

BEHIND, ACCOUNTS, AT_ONCE = 1_000_000, 200, 100
CALL_S, IN_FLIGHT, LONG_S = 0.005, 20, 600.0
HOT, HOT_EVERY = "acme/HOT", 5
A_LITTLE = 1.25
"""What a lane may take longer: one place of twenty is the hot account's, and its cursor has to be opened."""
Name = Callable[[int], str]


@dataclass
class Backlog(Log):
    """Its records are made when they are read, so that it may be as long as one likes."""

    name: Name = str

    def read(self, offset: int, most: int) -> Sequence[Record]:
        return [self._record(each) for each in range(offset, min(offset + most, self.end))]

    def _record(self, offset: int) -> Record:
        guid = self.name(offset)
        return a_record(at(0), offset, guid.partition("-")[0].encode(), guid.encode())


class TakesItsTime(Partner):
    """Each call takes CALL_S; for the billers in `away` no connection comes about."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self.away: set[str] = set()
        self.ended: dict[str, float] = {}

    async def deliver(self, event: PaymentReceived) -> Settlement:
        if event.biller in self.away:
            raise Outage(event.biller, "imt", "refused")
        await asyncio.sleep(CALL_S)
        assert event.payment_guid not in self.ended
        self.ended[event.payment_guid] = self._world.monotonic()
        return Posted("R")

    def done(self, whose: str) -> list[str]:
        """What had an effect of a biller or an account, in that order."""
        return [guid for guid in self.ended if guid.startswith(whose)]


class Bench(Desk):
    """A lane before one long partition."""

    partner: TakesItsTime

    def __init__(self, folder: Path, world: World, end: int, name: Name) -> None:
        super().__init__(folder)
        self.partner, self.clock, self.billers = TakesItsTime(world), world, ("acme", "birch")
        self.broker.logs[at(0)], self.broker.at_once = Backlog(end=end, name=name), AT_ONCE


def held(lane: Delivery[PaymentReceived]) -> int:
    """How many records of the log there are in this process, wherever and in whatever form it keeps them."""
    remembered = [
        len(stretch.progress.finished) for owned in lane._owned.values() for stretch in owned.stretches
    ]
    assert max(remembered) <= SPAN
    gc.collect()  # an exception holds its frames until then
    return sum(isinstance(each, Item | ConsumerRecord) for each in gc.get_objects())


def in_order(guids: Sequence[str]) -> bool:
    """Whether those of each account had their effects in the order of their offsets."""
    offsets: defaultdict[str, list[int]] = defaultdict(list)
    for guid in guids:
        account, _, offset = guid.partition("-")
        offsets[account].append(int(offset))
    return all(found == sorted(found) for found in offsets.values())


def by_one_biller(offset: int) -> str:
    return f"acme/A{offset % ACCOUNTS}-{offset}"


def by_two_billers(offset: int) -> str:
    return f"{('acme', 'birch')[offset % 2]}/A{offset % ACCOUNTS}-{offset}"


def by_chance(offset: int) -> str:
    """Some accounts have several records close together, as in life."""
    return f"{('acme', 'birch')[offset % 2]}/A{blake2b(str(offset).encode()).digest()[0] % ACCOUNTS}-{offset}"


def with_a_hot_account(offset: int) -> str:
    return f"{HOT}-{offset}" if offset % HOT_EVERY == 0 else by_one_biller(offset)


@pytest.fixture
def world() -> Iterator[World]:
    made = World(seed=1, rate=0.0)
    made.loop.set_task_factory(None)  # its own remembers every task there was
    yield made
    made.loop.close()


def run(world: World, scenario: Coroutine[Any, Any, None]) -> None:
    world.loop.run_until_complete(scenario)


def test_a_million_behind_are_neither_held_nor_slower_than_the_first_few(
    tmp_path: Path, world: World
) -> None:
    bench = Bench(tmp_path, world, BEHIND, by_one_biller)
    most, took_s = 0, list[float]()

    async def drain() -> None:
        nonlocal most
        async with bench.lane(crash=True) as lane:
            for number in range(1, 13):
                began, wanted = world.monotonic(), number * 400
                await reaches(lambda: len(bench.partner.ended) >= wanted, LONG_S)  # noqa: B023 - awaited here
                took_s.append(world.monotonic() - began)
                most = max(most, held(lane))

    run(world, drain())
    assert most <= WINDOW + 2 * AT_ONCE  # what is one fetch beyond a full window, and the next one in hand
    assert sum(took_s[-3:]) <= A_LITTLE * sum(took_s[:3])
    assert sum(took_s) <= A_LITTLE * len(bench.partner.ended) * CALL_S / IN_FLIGHT
    assert in_order(bench.partner.done("acme"))


def test_a_backlog_that_moves_opens_no_cursor_however_much_one_fetch_brings(
    tmp_path: Path, world: World
) -> None:
    bench = Bench(tmp_path, world, BEHIND, by_chance)
    bench.broker.at_once = BEHIND
    opened: set[str] = set()

    async def drain() -> None:
        async with bench.lane(crash=True) as lane:
            for wanted in range(200, 6001, 200):
                await reaches(lambda: len(bench.partner.ended) >= wanted, LONG_S)  # noqa: B023 - awaited here
                opened.update(scope for owned in lane._owned.values() for scope in owned.cursors)

    run(world, drain())
    assert opened == set()
    assert in_order(list(bench.partner.ended))


def test_nor_are_they_held_while_a_partner_is_away_and_the_other_biller_goes_on(
    tmp_path: Path, world: World
) -> None:
    bench = Bench(tmp_path, world, BEHIND, by_two_billers)
    bench.partner.away = {"acme"}
    most = 0

    async def drain() -> None:
        nonlocal most
        async with bench.lane(crash=True) as lane:
            for wanted in range(150, 1501, 150):
                await reaches(lambda: len(bench.partner.done("birch")) >= wanted, LONG_S)  # noqa: B023 - the same
                most = max(most, held(lane))
            assert not bench.partner.done("acme")
            bench.partner.away.clear()
            await reaches(lambda: len(bench.partner.done("acme")) >= 600, LONG_S)
            most = max(most, held(lane))

    run(world, drain())
    assert most <= WINDOW + BILLERS_PART + READ_AT_ONCE + 2 * AT_ONCE
    assert in_order(list(bench.partner.ended))


def test_with_every_partner_away_only_a_window_is_held(tmp_path: Path, world: World) -> None:
    bench = Bench(tmp_path, world, BEHIND, by_two_billers)
    bench.partner.away = {"acme", "birch"}
    most = 0

    async def stand() -> None:
        nonlocal most
        async with bench.lane(crash=True) as lane:
            for _ in range(4):
                await asyncio.sleep(1)
                most = max(most, held(lane))
            bench.partner.away.clear()
            await reaches(lambda: len(bench.partner.ended) >= 600, LONG_S)

    run(world, stand())
    assert most <= WINDOW + 2 * AT_ONCE
    assert in_order(list(bench.partner.ended))


def test_an_account_that_has_a_fifth_of_all_slows_nobody_else(tmp_path: Path, world: World) -> None:
    count = 3000
    skewed, without = {}, {}

    async def through(end: int, name: Name) -> dict[str, float]:
        """When each of so many payments had its effect, in seconds from the first."""
        bench = Bench(tmp_path, world, end, name)
        async with bench.lane():
            await reaches(lambda: len(bench.partner.ended) == end, LONG_S)
        first = min(bench.partner.ended.values())
        return {guid: at_s - first for guid, at_s in bench.partner.ended.items()}

    async def both() -> None:
        nonlocal skewed, without
        skewed = await through(count, with_a_hot_account)
        without = await through(count - count // HOT_EVERY, by_one_biller)

    run(world, both())
    others = [at_s for guid, at_s in skewed.items() if not guid.startswith(f"{HOT}-")]
    assert max(others) <= A_LITTLE * max(without.values())
    assert max(without.values()) <= A_LITTLE * len(without) * CALL_S / IN_FLIGHT
    assert in_order(list(skewed))
