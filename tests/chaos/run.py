"""One storm from beginning to end: the world, the client, the faults, and the facts for the judge."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

from deploy.local.day.contract import Contract
from deploy.local.processes import ROOT
from tests.chaos.client import Client
from tests.chaos.facts import Effect, Facts
from tests.chaos.plan import Plan, draw_plan, utc_now
from tests.chaos.storm import Storm, draw_storm
from tests.chaos.topics import Topics
from tests.chaos.world import World

PAGE = 20_000
SETTLE_LIMIT_S = 180.0
"""So long after the storm everything that was accepted must have come to its end."""
LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Settings:
    """How a storm is to be; the same seed draws the same plan and the same faults."""

    seed: int
    events: int
    length_s: float
    faults: Sequence[str] = ()
    replicas: int = 2
    brisk: float = 1.0


async def run(settings: Settings, folder: Path, say: Callable[[str], None]) -> Facts:
    """Raises LocalError when the parts do not start or do not come back."""
    contract = Contract(ROOT / "schemas" / "partners")
    plan = draw_plan(settings.seed, settings.events, settings.length_s, contract, utc_now())
    faults = draw_storm(settings.seed, settings.length_s, settings.faults, settings.brisk)
    random = Random(f"strikes {settings.seed}")
    began = time.monotonic()
    async with World(folder, say, settings.replicas) as world:
        say(f"started in {time.monotonic() - began:.0f} s; {len(faults)} faults in {settings.length_s:.0f} s")
        async with Client(world, Random(f"client {settings.seed}")) as client:
            storm = Storm(world, client, random, say)
            sending = asyncio.create_task(client.send(plan.requests))
            await storm.strike(faults)
            await sending
        say(f"everything is sent ({client.tries:,} requests); waiting for it to come to its end")
        await world.settled()
        with Topics(world.stack.bootstrap, world.stack.registry, storm.poison) as topics:
            await _come_to_its_end(world, plan, topics, say)
            say("reading the ledger")
            return Facts(
                windows=storm.windows,
                payments=plan.payments,
                effects=await _ledger(world, "payments", contract),
                places=topics.places,
                copies=topics.copies,
                outcomes=topics.outcomes,
                poison=storm.poison,
                dead=topics.dead,
                changes=plan.changes,
                settings=await _ledger(world, "settings", contract),
            )


async def _come_to_its_end(world: World, plan: Plan, topics: Topics, say: Callable[[str], None]) -> None:
    """Returns when everything accepted has an outcome, and nothing more comes; or when time is up."""
    until = time.monotonic() + SETTLE_LIMIT_S
    wanted = {("payments", each.id) for each in plan.payments if each.accepted is not None}
    wanted |= {("settings", (each.biller, each.id)) for each in plan.changes if each.accepted is not None}
    while missing := wanted - topics.settled:
        if time.monotonic() > until:
            say(f"{len(missing):,} have no outcome after {SETTLE_LIMIT_S:.0f} s")
            return
        await world.do(topics.read_on)
        await asyncio.sleep(LOOK_EVERY_S)
    await asyncio.sleep(LOOK_EVERY_S)
    await world.do(topics.read_on)


async def _ledger(world: World, kind: str, contract: Contract) -> list[Effect]:
    """A whole ledger, never deduplicated."""
    indicator = contract.posted("settings")["indicator"]
    effects: list[Effect] = []
    after = 0
    while True:
        page = await world.control("GET", f"/control/ledger/{kind}?limit={PAGE}&after={after}")
        effects += _effects(page["rows"], indicator)
        if len(page["rows"]) < PAGE:
            return effects
        after = page["rows"][-1]["seq"]


def _effects(rows: Iterable[dict[str, Any]], indicator: str) -> list[Effect]:
    return [
        Effect(
            seq=row["seq"],
            at=datetime.fromisoformat(row["at"]).timestamp(),
            biller=row["biller"],
            id=row["natural_id"],
            account=row["account"],
            amount=None if row["amount"] is None else Decimal(row["amount"]),
            indicator=row["fields"].get(indicator, ""),
        )
        for row in rows
    ]
