"""What the judge goes by: what was said and how it was answered, the partners' ledger, and the topics.

Everything here is seen from outside: nothing of the services is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal

Flow = Literal["invoices", "payments", "unsupported", "repeats", "settings", "rtdr", "links", "refusals"]
Expected = Literal["effect", "parked", "nothing", "superseded", "refused", "answer"]
Id = tuple[str, str]
"""A biller and the partner's own id of something."""
ZERO = Decimal("0.00")


@dataclass(frozen=True, slots=True)
class Effect:
    """What must stand in the partner's ledger exactly once. `value` is a setting's T or F."""

    id: str
    account: str
    amount: Decimal | None = None
    value: str | None = None
    indicator: str | None = None
    changed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Paid:
    """What of a payment goes into the batch totals; money in USD."""

    amount: Decimal
    fee: Decimal
    tender: str
    product: str
    channel: str
    agent: str | None = None
    approved: bool = True


@dataclass(slots=True)
class Said:
    """One thing that IC or IMT's people said, what it must lead to, and what it was answered.

    `name`: words that a refusal, or the reason of what is parked or has no effect, must hold. `wire` is what
    is sent; it never changes between two tries. `answer` stays empty while there is none that counts.
    """

    flow: Flow
    biller: str
    id: str
    expects: Expected
    name: str = ""
    amount: Decimal | None = None
    effects: tuple[Effect, ...] = ()
    paid: Paid | None = None
    wire: dict[str, Any] = field(default_factory=dict)
    answer: Literal["", "accepted", "refused"] = ""
    told: str = ""
    body: Any = None
    at: datetime | None = None
    tries: int = 0

    def accept(self, body: Any, at: datetime) -> None:
        self.answer, self.body, self.at = "accepted", body, at

    def refuse(self, told: str) -> None:
        self.answer, self.told = "refused", told


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the partners' ledger."""

    flow: Literal["payments", "invoices", "settings", "bills"]
    biller: str
    id: str
    account: str
    seq: int
    amount: Decimal | None = None
    value: str | None = None
    indicator: str | None = None
    batch_day: date | None = None
    opened: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """An outcome event: how one record ended, and where it stood on its topic."""

    flow: Literal["payments", "invoices", "settings"]
    biller: str
    id: str
    state: str
    reason: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Sum:
    """How many, and how much in USD."""

    count: int = 0
    amount: Decimal = ZERO
    fee: Decimal = ZERO

    def plus(self, amount: Decimal, fee: Decimal) -> Sum:
        return Sum(self.count + 1, self.amount + amount, self.fee + fee)

    def __str__(self) -> str:
        return f"{self.count} payments, {self.amount} and fees {self.fee}"


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch.closed event; `ranges` are the first offset and the end of each partition."""

    biller: str
    day: date
    all: Sum
    totals: Mapping[tuple[str, str], Sum]
    agents: Mapping[str, Sum]
    ranges: Mapping[int, tuple[int, int]]

    def holds(self, outcome: Outcome) -> bool:
        """Whether the outcome's record was received within this batch."""
        begin, end = self.ranges.get(outcome.partition, (0, 0))
        return begin <= outcome.offset < end


@dataclass
class Facts:
    """Everything that is known at the end of the day.

    `owed` is what each account owed (less than zero: a credit) before anybody paid, by biller and account;
    `days` the business day that must have closed, by biller; `live` the invoices whose bill's link was found
    live; `stale_allowed` the billers that chose a stale balance over none while IMT is away.
    """

    said: list[Said]
    rows: list[Row]
    outcomes: list[Outcome]
    batches: list[Batch]
    owed: Mapping[Id, Decimal]
    days: Mapping[str, date]
    live: set[Id]
    stale_allowed: set[str] = field(default_factory=set)
