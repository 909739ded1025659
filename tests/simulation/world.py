"""What everything in a simulation shares: the clock, the dice, the diary, and the wire to the brokers."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, TypeVar

from aiokafka.errors import KafkaConnectionError

from services.bus.clock import Clock
from tests.simulation.loop import PROCESS, VirtualLoop

T = TypeVar("T")
BEGINNING = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


class World(Clock):
    """One run.

    Attributes:
        calm: no fault is drawn any more.
        over: the run was judged; whoever still asks for something is turned away.
        diary: what happened, in order; the same seed writes the same one.
        faults: promises that were broken.
    """

    def __init__(self, seed: int, rate: float) -> None:
        self.random = Random(seed)
        self.loop = VirtualLoop()
        self.rate = rate
        self.calm = False
        self.over = False
        self.diary: list[str] = []
        self.faults: list[str] = []

    def now(self) -> datetime:
        return BEGINNING + timedelta(milliseconds=int(self.loop.time() * 1000))

    def monotonic(self) -> float:
        return self.loop.time()

    def note(self, what: str) -> None:
        process = PROCESS.get()
        self.diary.append(f"{self.loop.time():9.4f} {process.name if process else '-'}: {what}")

    def broken(self, promise: str) -> None:
        self.note(f"BROKEN {promise}")
        self.faults.append(promise)

    def strikes(self, share: float = 1.0) -> bool:
        """Whether a fault happens now; `share` of this schedule's rate."""
        return not self.calm and self.random.random() < self.rate * share

    def a_moment(self) -> float:
        """Seconds that something quick takes."""
        return self.random.uniform(0.0005, 0.01)


class Link:
    """A process's connection to the brokers: what is sent is served in that order, if it arrives at all."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._served_at = 0.0
        self.away: Callable[[], bool] = lambda: False

    def send(self, serve: Callable[[], Any]) -> "asyncio.Future[Any]":
        """Asks the brokers; KafkaConnectionError where no answer comes, whatever they did with it."""
        world, loop = self._world, self._world.loop
        answer: asyncio.Future[Any] = loop.create_future()
        if world.over:
            answer.set_exception(KafkaConnectionError("over"))
            return answer
        travel = world.a_moment() if not world.strikes() else world.random.uniform(0.05, 2.0)
        at = self._served_at = max(self._served_at, loop.time() + travel)
        lost, unanswered = world.strikes(0.5), world.strikes(0.5)

        def arrive() -> None:
            if lost or self.away():
                loop.later(world.random.uniform(0.01, 1.5), give_up)
                return
            try:
                served = serve()
            except Exception as refused:
                loop.later(world.a_moment(), _fail, answer, refused)
                return
            if unanswered:
                loop.later(world.random.uniform(0.01, 1.0), give_up)
            elif isinstance(served, asyncio.Future):
                served.add_done_callback(lambda done: loop.later(world.a_moment(), _pass_on, answer, done))
            else:
                loop.later(world.a_moment(), _tell, answer, served)

        def give_up() -> None:
            _fail(answer, KafkaConnectionError("no answer"))

        loop.later(at - loop.time(), arrive)
        return answer


def _tell(answer: "asyncio.Future[Any]", value: Any) -> None:
    if not answer.done():
        answer.set_result(value)


def _fail(answer: "asyncio.Future[Any]", error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
        answer.exception()  # of a process that was killed nobody asks for it any more


def _pass_on(answer: "asyncio.Future[Any]", done: "asyncio.Future[Any]") -> None:
    if (error := done.exception()) is not None:
        assert isinstance(error, Exception)
        _fail(answer, error)
    else:
        _tell(answer, done.result())
