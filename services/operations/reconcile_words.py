"""The words of a reconciled day: what was counted, and each way in which a payment can differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from services.bus.biller import Biller

REPLAY = "billbus replay payment.received --day {day} --biller {biller}"
PARKED = "billbus parked show {guid}"
WORDS: Mapping[str, tuple[str, str]] = {
    "missing": (
        "received, and nobody knows what became of it",
        f"if the payments service is up and has no lag: {REPLAY} --only-outcome missing",
    ),
    "lost_at_imt": ("posted, and IMT does not have it", f"{REPLAY} --recheck"),
    "doubled_at_imt": ("IMT has it more than once", "ask IMT to take the others back"),
    "wrong_amount": ("IMT has another amount", "ask IMT to correct it"),
    "wrong_account": ("IMT has it on another account", "ask IMT to move it"),
    "wrong_day": ("IMT has it in another batch", "ask IMT to move it"),
    "not_ours": ("IMT has it, and InvoiceCloud never told us of it", "ask IMT who posted it"),
    "at_imt_not_posted": ("IMT has it, and here it is not posted", f"{PARKED}; a retry asks IMT first"),
    "parked": ("waits for a person", f"{PARKED}, then retry or dismiss"),
    "conflict": ("its GUID came again with other content", f"{PARKED}, then dismiss"),
    "refused": ("IMT refused it, and the money is taken", "ask IMT why; else the money goes back at IC"),
    "late": ("posted into a later batch, as the biller's rule says", "nothing"),
    "from_another_day": ("of another day, posted into this batch, as the biller's rule says", "nothing"),
}
"""By kind of difference what it means and what to do, with {biller}, {day} and {guid}; the worst first."""
KINDS = tuple(WORDS)
NOTES = ("late", "from_another_day")
"""Kinds that are told and are as they should be."""
AT_IMT = (
    "lost_at_imt",
    "doubled_at_imt",
    "wrong_amount",
    "wrong_account",
    "wrong_day",
    "not_ours",
    "at_imt_not_posted",
)
"""Kinds in which IMT's list is not what we hold."""
STATES = ("posted", "refused", "dismissed", "parked", "missing")


@dataclass(frozen=True, slots=True)
class Totals:
    """Payments and their USD."""

    count: int = 0
    amount: Decimal = Decimal("0.00")

    def __add__(self, other: Totals) -> Totals:
        return Totals(self.count + other.count, self.amount + other.amount)


@dataclass(frozen=True, slots=True)
class Line:
    """The payments of one tender and product that are in one of STATES."""

    tender: str
    product: str
    state: str
    totals: Totals


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One payment that is not as it should be. What IMT has stands in `imt_…`: how often, on which account,
    USD of all its postings together, in which batch; `asked`: IMT was asked for it by its GUID.

    `received_day` and `batch_day` are business days: of the receipt, and of the batch we hold it posted in.
    """

    kind: str
    payment_guid: str
    account: str | None = None
    tender: str | None = None
    product: str | None = None
    amount: Decimal | None = None
    state: str | None = None
    reason: str | None = None
    received_day: date | None = None
    batch_day: date | None = None
    imt_count: int = 0
    imt_account: str | None = None
    imt_amount: Decimal | None = None
    imt_batch_day: date | None = None
    asked: bool = False


@dataclass(frozen=True, slots=True)
class BatchDifference:
    """A figure of `batch.closed` that is not what the log gives now."""

    what: str
    counted: str
    closed: str


BatchState = Literal["agrees", "differs", "open", "not closed"]
PartnerState = Literal["agrees", "differs", "no list", "not reached"]


@dataclass(frozen=True, kw_only=True)
class PartnerSide:
    """IMT's own list of the batch: what it holds, and what we hold posted there.

    `said` is what IMT says of its whole list, where it does; `reason` why there is no list.
    """

    state: PartnerState
    listed: Totals = Totals()
    expected: Totals = Totals()
    said: Totals | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A reconciled business day; instants are UTC. Money is USD of premium, each PaymentGUID once."""

    biller: Biller
    day: date
    opened_at: datetime
    closed_at: datetime
    is_open: bool
    lines: tuple[Line, ...]
    declined: int
    repeats: int
    batch: BatchState
    batch_differences: tuple[BatchDifference, ...] = ()
    imt: PartnerSide = field(default_factory=lambda: PartnerSide(state="no list"))
    differences: Mapping[str, int] = field(default_factory=dict)

    def totals(self, state: str | None = None) -> Totals:
        """Of everything that was received, or of what is in one of STATES."""
        return sum((line.totals for line in self.lines if state in (None, line.state)), Totals())

    @property
    def adds_up(self) -> bool:
        """Whether nothing is missing and nothing differs, as far as could be asked."""
        found = any(kind not in NOTES for kind in self.differences)
        return not (found or self.batch in ("differs", "not closed") or self.imt.state == "differs")
