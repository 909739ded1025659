"""The schedule of a storm, drawn from its seed: one fault after another, each with a name.

`strike` inflicts them on the running world and notes when each began.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

from confluent_kafka import KafkaException, Producer

from tests.chaos.client import Client
from tests.chaos.facts import Place, Window
from tests.chaos.topics import PAYMENT_RECEIVED
from tests.chaos.world import World

CALM = "calm"
SESSION_S = 3.0
KILL_BOUND_S = 5.0
LANE_GROUP = "billbus.payments.post"
POST = {"service": "imt.datapump", "operation": "post_payment"}
IMT = {"service": "imt"}
ALWAYS = [POST | {"kind": "slow", "fraction": 0.5, "delay_s": 0.1}]
"""The partner takes its time, so that at any moment something is under way."""
BUSY_S = 1.5
"""So long the partner has been slow when a replica is stopped, so that much is under way and waits."""
PARTNER: dict[str, Callable[[Random], list[dict[str, Any]]]] = {
    "apply then hang": lambda _: [POST | {"kind": "apply_then_hang", "fraction": 0.03, "delay_s": 8}],
    "500": lambda r: [
        POST | {"kind": "error", "fraction": r.uniform(0.05, 0.3)},
        POST | {"kind": "error_after", "fraction": r.uniform(0.05, 0.3)},
    ],
    "reset": lambda r: [
        POST | {"kind": "reset", "when": "after", "fraction": r.uniform(0.05, 0.2)},
        POST | {"kind": "reset", "when": "before", "fraction": r.uniform(0.05, 0.2)},
    ],
    "slow": lambda r: [IMT | {"kind": "slow", "fraction": 0.3, "delay_s": r.uniform(0.3, 1.5)}],
    "maintenance": lambda _: [IMT | {"kind": "maintenance"}],
    "maintenance of one": lambda r: [
        IMT | {"kind": "maintenance", "biller": r.choice(("acme", "birch", "cedar"))}
    ],
}
POISON: tuple[bytes, ...] = (
    b"",
    b"not avro",
    b"\x00\x00\x00\x00",
    b"\x00\x7f\xff\xff\xff\x02\x04",
    b"\x01" * 40,
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A fault by name: how long it lasts and how long the world is left alone after it, in seconds.

    In a brisk storm as well it lasts `least_s` and leaves `least_rest_s`: with less it would show nothing.
    """

    name: str
    lasts_s: tuple[float, float]
    rest_s: float
    weight: int = 1
    least_s: float = 0.0
    least_rest_s: float = 0.0


KINDS = (
    Kind("kill -9", (0.0, 0.0), 12.0, 3, least_rest_s=KILL_BOUND_S + 2),
    Kind("kill -9 of settings", (0.0, 0.0), 5.0),
    Kind("SIGSTOP", (SESSION_S + 1.5, SESSION_S + 12), 10.0, least_s=SESSION_S + 1.5),
    Kind("broker kill", (0.5, 3.0), 14.0),
    Kind("broker stop", (0.5, 3.0), 14.0),
    Kind("apply then hang", (4.0, 8.0), 10.0),
    Kind("500", (4.0, 8.0), 9.0),
    Kind("reset", (4.0, 8.0), 9.0),
    Kind("slow", (4.0, 8.0), 4.0),
    Kind("maintenance", (4.0, 10.0), 12.0),
    Kind("maintenance of one", (4.0, 10.0), 12.0),
    Kind("duplicates", (5.0, 8.0), 4.0),
    Kind("poison", (0.0, 0.0), 4.0),
    Kind("scale out and in", (6.0, 10.0), 4.0),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault at `at_s` seconds of the storm, for `lasts_s` seconds."""

    name: str
    at_s: float
    lasts_s: float


def draw_storm(seed: int, length_s: float, names: Sequence[str] = (), brisk: float = 1.0) -> list[Fault]:
    """Every kind (or those named) as often as its weight, in a drawn order, again and again until the end.

    `brisk` below 1 shortens every fault and the rest after it, as far as its kind allows.
    """
    random = Random(f"storm {seed}")
    kinds = [kind for kind in KINDS if not names or kind.name in names]
    faults: list[Fault] = []
    at_s = random.uniform(2.0, 4.0)
    while True:
        for kind in _round(kinds, random):
            lasts_s = max(random.uniform(*kind.lasts_s) * brisk, kind.least_s)
            rest_s = max(kind.rest_s * brisk, kind.least_rest_s)
            if at_s + lasts_s + rest_s > length_s:
                return faults
            faults.append(Fault(kind.name, at_s, lasts_s))
            at_s += lasts_s + rest_s + random.uniform(0.0, brisk)


def _round(kinds: Sequence[Kind], random: Random) -> list[Kind]:
    several = [kind for kind in kinds for _ in range(kind.weight)]
    return random.sample(several, len(several))


@dataclass
class Storm:
    """Inflicts faults; `windows` says what began when, `poison` where undecodable records were put."""

    world: World
    client: Client
    random: Random
    say: Callable[[str], None]
    windows: list[Window] = field(default_factory=list)
    poison: dict[Place, float] = field(default_factory=dict)

    async def strike(self, faults: Sequence[Fault]) -> None:
        """One after another, each at its time, or as soon as the one before it is over."""
        await self._partner_does([])
        began = time.monotonic()
        self.windows.append(Window(CALM, time.time(), 0))
        for fault in faults:
            await asyncio.sleep(max(0.0, began + fault.at_s - time.monotonic()))
            window = Window(fault.name, time.time())
            self.windows.append(window)
            await self._inflict(fault, window)
            self.say(f"{fault.name} for {fault.lasts_s:.1f} s{': ' if window.said else ''}{window.said}")

    def _inflict(self, fault: Fault, window: Window) -> Awaitable[None]:
        strikes = {
            "kill -9": self._kill,
            "kill -9 of settings": self._kill_settings,
            "SIGSTOP": self._freeze,
            "broker kill": self._broker,
            "broker stop": self._broker,
            "duplicates": self._duplicates,
            "poison": self._poison,
            "scale out and in": self._scale,
            **dict.fromkeys(PARTNER, self._partner),
        }
        return strikes[fault.name](window, fault.lasts_s)

    async def _kill(self, window: Window, _: float) -> None:
        """The bound is promised with another replica alive, and where nobody is joining.

        One that still starts is none yet; of one killed while it joins the broker knows nothing before it
        has shared out the partitions once more, and the session begins only then.
        """
        window.said = name = self._any_payments()
        alive = self._payments()
        if all([await self.world.ready(each) for each in alive]) and await self.world.has_settled(
            LANE_GROUP, len(alive)
        ):
            window.bound_s = KILL_BOUND_S
        else:
            window.said += ", while the group is joining"
        await self.world.kill(name, self.random.uniform(0.0, 4.0))
        window.struck = time.time()

    async def _kill_settings(self, _window: Window, _: float) -> None:
        await self.world.kill("settings", self.random.uniform(0.0, 2.0))

    async def _freeze(self, window: Window, lasts_s: float) -> None:
        window.said = name = self._any_payments()
        slow = {"kind": "slow", "delay_s": self.random.uniform(0.5, 1.5)}
        await self._partner_does([POST | slow])
        await asyncio.sleep(BUSY_S)
        self.world.freeze(name)
        await asyncio.sleep(lasts_s)
        self.world.thaw(name)
        await self._partner_does([])

    async def _broker(self, window: Window, lasts_s: float) -> None:
        stack = self.world.stack
        await self.world.do(stack.kill_broker if window.name == "broker kill" else stack.stop_broker)
        await asyncio.sleep(lasts_s)
        await self.world.do(stack.start_broker)

    async def _partner(self, window: Window, lasts_s: float) -> None:
        specs = PARTNER[window.name](self.random)
        ours = {each["id"] for each in (await self._partner_does(specs))[: len(specs)]}
        await asyncio.sleep(lasts_s)
        on = (await self.world.control("GET", "/control/faults"))["on"]
        window.injected = sum(each["hits"] for each in on if each["id"] in ours)
        await self._partner_does([])

    async def _partner_does(self, specs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """These faults from now on, instead of those before; the first that fires is the one."""
        seed = self.random.randrange(10**6)
        seeded = [spec | {"seed": seed + n} for n, spec in enumerate([*specs, *ALWAYS])]
        await self.world.control("DELETE", "/control/faults")
        added: list[dict[str, Any]] = await self.world.control("PUT", "/control/faults", seeded)
        return added

    async def _duplicates(self, window: Window, lasts_s: float) -> None:
        before, self.client.duplicating = self.client.copies, True
        await asyncio.sleep(lasts_s)
        self.client.duplicating = False
        window.injected = self.client.copies - before

    async def _poison(self, window: Window, _: float) -> None:
        """Bytes nobody can decode, under keys of accounts that are paying."""
        placed: list[Any] = []
        producer = Producer({"bootstrap.servers": self.world.stack.bootstrap, "acks": "all"})
        for bytes_ in self.random.sample(POISON, len(POISON)):
            key = f"acme/1{self.random.randrange(1, 1001):09d}"
            producer.produce(PAYMENT_RECEIVED, bytes_, key, on_delivery=lambda e, m: placed.append((e, m)))
        await self.world.do(producer.flush, 20.0)
        for error, message in placed:
            if error is not None:
                raise KafkaException(error)
            self.poison[Place(message.partition(), message.offset())] = window.begin
        window.injected = len(placed)

    async def _scale(self, window: Window, lasts_s: float) -> None:
        """One more replica, and then one of them less by SIGTERM, not always the new one."""
        number = 1 + max(int(name.partition("-")[2] or 1) for name in self._payments())
        await self.world.scale_out(f"payments-{number}")
        await asyncio.sleep(lasts_s)
        window.said = leaving = self._any_payments()
        await self.world.scale_in(leaving)

    def _payments(self) -> list[str]:
        return [name for name in self.world.replicas if name.partition("-")[0] == "payments"]

    def _any_payments(self) -> str:
        """A replica that runs now; there are two or more that should."""
        alive = [name for name in self._payments() if self.world.processes.alive(name)]
        return self.random.choice(alive or self._payments())
