"""What the tests of invoices stand on: the demo billers, the real layout, and a bus that only remembers."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from services.bus.billers import Biller, read_biller
from services.bus.clock import Clock
from services.bus.publisher import Handed, NotAcknowledged
from services.bus.secrets import Secrets
from services.bus.settings import ROOT, Settings
from services.bus.support import SupportMatrix
from services.events import Event
from services.invoices.layout import Layout, load_layout

PARTNERS = ROOT / "schemas" / "partners"


class OneSecret(Secrets):
    """Every secret is made of its name."""

    def get(self, name: str) -> str:
        return f"secret-of-{name}"


class StoodClock(Clock):
    """Stands until it is moved."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
        self.seconds = 1000.0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.seconds

    def move(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)
        self.seconds += seconds


class Remembering:
    """A publisher that keeps what it was given, and can be away."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.largest = 0
        self.away_after = -1

    async def publish(self, *events: Event, traceparent: str | None = None) -> None:
        for failure in await self.acknowledged(await self.hand_over(events, traceparent)):
            if failure is not None:
                raise failure

    async def hand_over(self, events: Sequence[Event], traceparent: str | None = None) -> Handed:
        del traceparent
        handed = Handed([event.TOPIC for event in events], refused="")
        if 0 <= self.away_after <= len(self.events):
            handed.refused = "away"
        else:
            self.largest = max(self.largest, len(events))
            self.events += events
        return handed

    async def acknowledged(self, handed: Handed) -> list[NotAcknowledged | None]:
        return [NotAcknowledged(handed.refused) if handed.refused else None for _ in handed.topics]

    def of(self, kind: type[Event]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]


@cache
def support() -> SupportMatrix:
    return SupportMatrix.load(PARTNERS / "support.yaml")


@cache
def layout() -> Layout:
    return load_layout(PARTNERS / "bif.yaml")


def biller(slug: str = "acme", **changes: Any) -> Biller:
    return read(slug).model_copy(update=changes)


@cache
def read(slug: str) -> Biller:
    path = ROOT / "deploy" / "local" / "billers" / f"{slug}.yaml"
    found, problems = read_biller(path, OneSecret(), support())
    assert found is not None, problems
    return found


def bus(state: Path, billers: Sequence[Biller], **settings: Any) -> Any:
    return SimpleNamespace(
        settings=Settings(state=state, **settings),
        billers={each.slug: each for each in billers},
        secrets=OneSecret(),
        support=support(),
        publisher=Remembering(),
        clock=StoodClock(),
    )
