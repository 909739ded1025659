"""What unit tests of the partners' flows share: a biller, secrets, a clock, and a bus that only remembers."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from services.bus.biller import Biller
from services.bus.clock import Clock
from services.bus.publisher import NotAcknowledged
from services.bus.settings import ConfigurationError
from services.events import Event

NOON = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SECRETS = {
    "acme-token": "imt-token",
    "acme-key": "link-key",
    "birch-key": "other-key",
    "acme-bearer": "let-me-in",
}


def a_biller(slug: str = "acme", imt: str = "http://127.0.0.1:1/imt/acme", **more: Any) -> Biller:
    """A biller as its file would say it; `more` replaces whole parts."""
    stated: dict[str, Any] = {
        "slug": slug,
        "name": "Acme Mutual",
        "timezone": ZoneInfo("America/Chicago"),
        "batch": {"cut_off": "17:00"},
        "accounts": {"alphanumeric": False},
        "products": {"ivr": True},
        "features": {"balance_forward": True},
        "invoice_cloud": {
            "url": "http://127.0.0.1:1/ic",
            "biller_guid": "guid",
            "invoice_type_id": 1,
            "biller_code": "A",
            "web_service_key": "acme-ic-key",
        },
        "imt": {
            "payments_due": f"{imt}/payments-due",
            "datapump": f"{imt}/datapump",
            "settings": f"{imt}/settings",
            "bills": f"{imt}/bills",
            "token": "acme-token",
        },
        "intake": {"bearer": "acme-bearer"},
        "links": {"key": f"{slug}-key"},
    }
    return Biller.model_validate(stated | more)


class FakeSecrets:
    """Secrets of the invented billers."""

    def get(self, name: str) -> str:
        if name not in SECRETS:
            raise ConfigurationError([f"secret {name}: missing"])
        return SECRETS[name]


class FakeClock(Clock):
    """Stands still until moved."""

    def __init__(self, at: datetime = NOON) -> None:
        self.at = at
        self.ticks = 0.0

    def now(self) -> datetime:
        return self.at

    def monotonic(self) -> float:
        return self.ticks

    def move(self, **by: float) -> None:
        self.at += timedelta(**by)
        self.ticks += timedelta(**by).total_seconds()


class FakePublisher:
    """Remembers what was acknowledged, call by call; `away` while the bus acknowledges nothing."""

    def __init__(self) -> None:
        self.calls: list[Sequence[Event]] = []
        self.away = False

    @property
    def events(self) -> list[Any]:
        return [event for call in self.calls for event in call]

    async def publish(self, *events: Event, traceparent: str | None = None) -> None:
        del traceparent
        if self.away:
            raise NotAcknowledged("the bus is away")
        if events:
            self.calls.append(events)
