"""A probe asks broker and registry now and then, once at a time, and takes silence for a no."""

import asyncio

from services.bus.readiness import AGAIN_S, Asked
from tests.unit.parts import FakeClock


class Broker:
    """Answers as told, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: bool | Exception = True
        self.gate = asyncio.Event()
        self.gate.set()

    async def ask(self) -> bool:
        self.asked += 1
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


async def test_many_probes_are_one_question() -> None:
    broker, clock = Broker(), FakeClock()
    check = Asked(broker.ask, clock)
    assert await asyncio.gather(*(check() for _ in range(20))) == [True] * 20
    assert broker.asked == 1
    clock.move(seconds=AGAIN_S)
    assert await check()
    assert broker.asked == 2


async def test_a_no_and_a_fault_are_no_and_are_asked_again() -> None:
    broker, clock = Broker(), FakeClock()
    check = Asked(broker.ask, clock)
    for answer in (False, OSError("away")):
        broker.answer = answer
        assert not await check()
        clock.move(seconds=AGAIN_S)
    broker.answer = True
    assert await check()


async def test_silence_is_a_no() -> None:
    broker = Broker()
    broker.gate.clear()
    assert not await Asked(broker.ask, FakeClock(), limit_s=0.01)()
