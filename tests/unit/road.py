"""A lane's attempts on fakes, with the real index: what the tests of its decisions stand on."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from services.bus.codec import Codec
from services.bus.doubt import Answered, Attempts, Done, Item, Later
from services.bus.lane import (
    Answer,
    Lane,
    Posted,
    Settlement,
)
from services.bus.outcomes import OutcomeIndex
from services.bus.partition import Stretch
from services.bus.pauses import Pauses
from services.bus.progress import Progress, Restored
from services.bus.publisher import Publisher
from services.bus.registry import RegistryAway
from services.bus.replayed import Act
from services.events import PaymentOutcome, PaymentReceived
from services.payments.handlers import record_outcome
from tests.unit.parts import NOON, FakeClock, FakePublisher
from tests.unit.payments_sample import a_payment

PATIENCE_S = 6.0


def always() -> bool:
    """The record stays ours."""
    return True


class OneEvent:
    """Decodes everything to one event; `away` while the registry is."""

    def __init__(self, event: PaymentReceived) -> None:
        self.event, self.away = event, False

    async def decode(self, topic: str, value: bytes | None) -> PaymentReceived:
        assert (topic, value) == (PaymentReceived.TOPIC, b"bytes")
        if self.away:
            raise RegistryAway("away")
        return self.event


@dataclass
class Partner:
    """Answers what it is told to, one after the other; remembers what it was sent."""

    does: list[Settlement | Exception] = field(default_factory=list)
    says: list[Answer | Exception] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    asked: int = 0

    async def deliver(self, event: PaymentReceived) -> Settlement:
        self.sent.append(event.payment_guid)
        answer = self.does.pop(0) if self.does else Posted("R-1")
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def ask(self, event: PaymentReceived) -> Answer:
        assert event.payment_guid
        self.asked += 1
        answer = self.says.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Road:
    """A lane's attempts on fakes, with the real index."""

    def __init__(self, folder: Path, partner: Partner, **lane: Any) -> None:
        self.clock, self.publisher, self.codec = FakeClock(), FakePublisher(), OneEvent(a_payment())
        self.pauses = Pauses()
        self.index = OutcomeIndex(folder / "x.sqlite", "", PaymentOutcome.TOPIC, cast("Codec", None)).open()
        ask: Callable[[PaymentReceived], Awaitable[Answer]] | None = partner.ask
        self.attempts = Attempts(
            Lane(
                name="payments.post",
                reads=PaymentReceived,
                deliver=partner.deliver,
                writes=record_outcome,
                patience=lambda _: PATIENCE_S,
                **{"ask": ask, **lane},
            ),
            cast("Codec", self.codec),
            cast("Publisher", self.publisher),
            self.clock,
            self.index,
            self.pauses,
        )

    def item(
        self, *, in_doubt: bool = False, event: PaymentReceived | None = None, act: Act | None = None
    ) -> Item:
        self.codec.event = event or self.codec.event
        return Item(
            topic=PaymentReceived.TOPIC, partition=3, offset=7, key=b"acme/1", value=b"bytes", taken_at=NOON,
            headers=(), in_doubt=in_doubt, believe_from=self.clock.monotonic(), at=7, biller="acme",
            stretch=Stretch("", Progress(0, 0), Restored(0)), held_since=0.0,
            act=act,
        )  # fmt: skip

    async def attempt(self, item: Item) -> Done | Later:
        """One attempt, with the telling of its outcome."""
        result = await self.attempts.attempt(item, always)
        return await self.attempts.tell(item) if isinstance(result, Answered) else result

    async def to_the_end(self, item: Item, limit: int = 50) -> Done:
        """Attempts until it ends, moving the clock as the lane would wait."""
        for _ in range(limit):
            result = await self.attempt(item)
            if isinstance(result, Done):
                return result
            self.clock.move(seconds=result.delay_s)
        raise AssertionError("it did not end")

    @property
    def outcomes(self) -> list[PaymentOutcome]:
        return self.publisher.events
