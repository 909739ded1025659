"""A machine on which one process at a time runs the lane, unchanged; its disk outlives the process."""

import asyncio
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import cast

from services.bus import progress
from services.bus.codec import Codec
from services.bus.delivery import Delivery, Limits
from services.bus.lane import Lane
from services.bus.publisher import Publisher
from services.events import PaymentReceived
from services.payments.handlers import record_outcome
from tests.simulation.broker import Brokers
from tests.simulation.bus import Index, Outcomes, Speaker, Values, new_disk
from tests.simulation.client import Client
from tests.simulation.loop import PROCESS, Process
from tests.simulation.partner import PATIENCE_S, Partner
from tests.simulation.world import World

RETRY_FOR_S = 10.0


@dataclass(frozen=True)
class Make:
    """How a lane is made; a deliberately broken one replaces a part."""

    delivery: type[Delivery[PaymentReceived]] = Delivery
    index: type[Index] = Index
    patience_s: float = PATIENCE_S
    pinned: bool = True


@dataclass
class Site:
    """Everything outside the processes."""

    world: World
    brokers: Brokers
    partner: Partner
    outcomes: Outcomes
    values: Values
    billers: tuple[str, ...]
    asks: bool
    in_flight: int
    make: Make
    processes: list[Process] = field(default_factory=list)


class Node:
    """Starts, stops, kills and freezes; restarts what died of itself."""

    def __init__(self, site: Site, name: str) -> None:
        self._site = site
        self._name = name
        self._disk = new_disk()
        self.process: Process | None = None
        self.delivery: Delivery[PaymentReceived] | None = None
        self.client: Client | None = None

    @property
    def runs(self) -> bool:
        return self.process is not None and not self.process.dead

    def start(self) -> None:
        if self.runs or self._site.world.over:
            return
        site = self._site
        self.process = Process(f"{self._name}.{sum(p.name.startswith(self._name) for p in site.processes)}")
        site.processes.append(self.process)
        context = copy_context()
        context.run(PROCESS.set, self.process)
        task = site.world.loop.create_task(self._run(), context=context)
        process = self.process
        task.add_done_callback(lambda done: self._ended(process, done), context=site.world.loop.world_context)

    async def _run(self) -> None:
        site = self._site
        site.world.note("starts")
        client = Client(site.world, site.brokers, pinned=site.make.pinned)
        self.client = client
        self.delivery = site.make.delivery(
            a_lane(site),
            broker=client,
            codec=cast("Codec", site.values),
            publisher=cast("Publisher", Speaker(site.world, site.outcomes, client.away)),
            clock=site.world,
            limits=Limits(in_flight=site.in_flight, grace_s=5.0),
            index=site.make.index(site.world, site.outcomes, self._disk, client.away),
            billers=site.billers,
        )
        await self.delivery.run()

    def _ended(self, process: Process, done: "asyncio.Task[None]") -> None:
        if self._site.world.over or process is not self.process:
            return
        self.process = None
        if not done.cancelled() and (error := done.exception()) is not None:
            self._site.world.broken(f"the process ended with {error!r} {getattr(error, 'exceptions', '')}")
            self._site.world.loop.later(1.0, self.start)
        else:
            self._site.world.note(f"{self._name} ended")

    def stop(self) -> None:
        """SIGTERM."""
        if self.runs and self.delivery is not None and self.process is not None and not self.process.frozen:
            self._site.world.note(f"{self._name} is told to stop")
            self.delivery.stop()

    def kill(self, steps: int) -> None:
        """SIGKILL, in so many steps."""
        if self.runs and self.process is not None:
            self._site.world.note(f"{self._name} is killed in {steps}")
            self.process.steps_left = steps

    def freeze(self, seconds: float) -> None:
        """SIGSTOP, and SIGCONT after so many seconds."""
        if self.runs and self.process is not None and not self.process.frozen:
            self._site.world.note(f"{self._name} is frozen for {seconds:.2f} s")
            self.process.frozen = True
            self._site.world.loop.later(seconds, self._site.world.loop.thaw, self.process)

    def cut(self, seconds: float) -> None:
        if self.runs and self.client is not None:
            self._site.world.note(f"{self._name} is cut off for {seconds:.2f} s")
            self.client.cut(seconds)

    def over_its_bounds(self) -> str:
        """Which bound of memory or of calls the lane exceeds now, or ''."""
        lane = self.delivery
        if not self.runs or lane is None:
            return ""
        if lane._shares.in_flight > 2 * self._site.in_flight:
            return f"{lane._shares.in_flight} in flight"
        for owned in lane._owned.values():
            held = [stretch.held for stretch in owned.stretches]
            if max(held) > progress.SPAN:
                return f"{held} records held"
        return ""

    def keeps_something(self) -> str:
        """What the lane still counts as taken although nothing is left to do, or ''."""
        lane = self.delivery
        cut_off = self.client is None or self.client.away()  # then it still has outcomes to say
        if not self.runs or lane is None or cut_off or not (lane._shares.in_flight or lane._busy):
            return ""
        return f"{lane._shares.in_flight} places, {len(lane._busy)} keys"

    def lose_disk(self) -> None:
        self._site.world.note(f"{self._name} loses its disk")
        self._disk = new_disk()


def a_lane(site: Site) -> Lane[PaymentReceived]:
    def patience(_: PaymentReceived) -> float:
        return site.make.patience_s

    return Lane(
        name="payments.post",
        reads=PaymentReceived,
        deliver=site.partner.deliver,
        ask=site.partner.ask if site.asks else None,
        writes=record_outcome,
        patience=patience,
        exact=not site.asks,
        retry_for_s=RETRY_FOR_S,
    )
