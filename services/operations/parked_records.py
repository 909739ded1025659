"""A delivery that waits for a person: what is known of it, how it is chosen, and its row in a file."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Literal, get_args

from services.bus.identity import Outcome, named_delivery
from services.events import PaymentOutcome

Family = Literal["payment", "invoice", "setting"]
FAMILIES: tuple[Family, ...] = get_args(Family)


@dataclass(frozen=True, kw_only=True)
class ParkedRecord:
    """A delivery that waits for a person, as its newest outcome has it.

    Attributes:
        account: IMT's number, or `?` and the natural id where none is known.
        amount: USD of premium, of a payment; with `tender` and `product`.
        batch_day: of a payment that was posted before, else None.
        topic, partition, offset: where its fact stands.
        settled_at: when it was parked (UTC).
    """

    family: Family
    biller: str
    account: str
    natural_id: str
    event_id: str
    attempt: int
    never_sent: bool
    reason: str
    detail: str | None
    content: str
    amount: Decimal | None
    tender: str | None
    product: str | None
    batch_day: date | None
    topic: str
    partition: int
    offset: int
    settled_at: datetime

    @property
    def delivery(self) -> bytes:
        """By which the outcomes of one delivery belong together."""
        return named_delivery(self.family, self.biller, self.natural_id)

    @property
    def unresolved(self) -> bool:
        """Whether nobody knows its account."""
        return self.account.startswith("?")


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which ones; what is left out matches all. `before` is the instant at which they had to be parked.

    `reason` also takes the first word of one that has more: `unsupported`.
    """

    biller: str = ""
    account: str = ""
    reason: str = ""
    family: Family | None = None
    before: datetime | None = None

    def where(self) -> tuple[str, list[object]]:
        """For SQL."""
        wanted: list[str] = ["1"]
        values: list[object] = []
        for column in ("biller", "account", "family"):
            if value := getattr(self, column):
                wanted.append(f"{column} = ?")
                values.append(value)
        if self.reason:
            wanted.append("(reason = ? OR substr(reason, 1, ?) = ?)")
            values += [self.reason, len(self.reason) + 1, f"{self.reason}:"]
        if self.before is not None:
            wanted.append("settled_ms <= ?")
            values.append(_millis(self.before))
        return " AND ".join(wanted), values


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How many of a biller are parked for one reason; `amount` (USD) of payments, `oldest` since when."""

    biller: str
    family: Family
    reason: str
    count: int
    amount: Decimal | None
    oldest: datetime


def newness(outcome: Outcome) -> tuple[int, bool]:
    """The greater, the newer: by attempt, of one attempt the final one."""
    return outcome.attempt, outcome.state != "parked"


def family_of(outcome: Outcome) -> Family:
    """Of which kind the delivery is."""
    found = outcome.TOPIC.split(".")[1]
    return next(family for family in FAMILIES if family == found)


def row_of(outcome: Outcome) -> tuple[object, ...]:
    """Its columns after the id, in the order of ParkedRecord."""
    payment = outcome if isinstance(outcome, PaymentOutcome) else None
    return (
        family_of(outcome),
        outcome.biller,
        outcome.account,
        outcome.natural_id,
        outcome.event_id,
        outcome.attempt,
        outcome.never_sent,
        outcome.reason or "",
        outcome.detail,
        outcome.content,
        int(payment.amount * 100) if payment else None,
        payment.tender if payment else None,
        payment.product if payment else None,
        payment.batch_day.isoformat() if payment and payment.batch_day else None,
        outcome.origin_topic,
        outcome.origin_partition,
        outcome.origin_offset,
        _millis(outcome.settled_at),
    )


def record_of(row: tuple[object, ...]) -> ParkedRecord:
    """What `row_of` made, with the id before it."""
    told = dict(zip((field.name for field in fields(ParkedRecord)), row[1:], strict=True))
    told["never_sent"] = bool(told["never_sent"])
    told["amount"] = dollars(told["amount"])
    told["batch_day"] = date.fromisoformat(str(told["batch_day"])) if told["batch_day"] else None
    told["settled_at"] = instant(told["settled_at"])
    return ParkedRecord(**told)  # type: ignore[arg-type]  # the table has the types


def dollars(cents: object) -> Decimal | None:
    """USD of whole cents."""
    return (Decimal(int(str(cents))) / 100).quantize(Decimal("0.01")) if cents is not None else None


def _millis(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def instant(millis: object) -> datetime:
    """Of milliseconds since 1970, UTC."""
    return datetime.fromtimestamp(int(str(millis)) / 1000, UTC)
