"""A biller whose partner hangs holds no other biller's clock up."""

import asyncio

import pytest

from services.bus.biller import Biller
from services.bus.ticks import SideBySide
from tests.unit.parts import a_biller


async def test_one_hanging_run_holds_up_nobody_and_is_not_doubled() -> None:
    began: list[str] = []
    answered = asyncio.Event()

    async def run(biller: Biller) -> None:
        began.append(biller.slug)
        if biller.slug == "acme":
            await answered.wait()

    clock = SideBySide(run)
    for _ in range(2):
        for slug in ("acme", "birch"):
            await clock.tick(a_biller(slug))
        await asyncio.sleep(0)
    assert began == ["acme", "birch", "birch"]
    answered.set()
    await asyncio.sleep(0)
    await clock.tick(a_biller())
    await asyncio.sleep(0)
    assert began[3:] == ["acme"]


async def test_a_fault_of_ours_is_seen_at_the_next_tick() -> None:
    async def run(_: Biller) -> None:
        raise RuntimeError("ours")

    clock = SideBySide(run)
    await clock.tick(a_biller())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="ours"):
        await clock.tick(a_biller())
