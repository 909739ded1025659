"""What must hold within one invoice: the seed's rules, each by its name.

Each rule looks at a row's values and the biller, and names the first thing that breaks it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from services.bus.biller import Biller, NotifyDate

ZERO = Decimal("0.00")
Values = dict[str, Any]
FRIDAY, SUNDAY = 4, 6


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that a row breaks: our field, and what was expected of it."""

    field: str
    expected: str


def balance_forward(row: Values, _: Biller) -> Broken | None:
    """BalanceDue is what is past due and the current charges; a credit is 0 due and stands apart."""
    net = row["past_due"] + row["current_charges"]
    if row["balance_due"] != net and not (net < 0 and row["balance_due"] == 0):
        return Broken("balance_due", f"Balance Forward: past due plus current charges, {net}")
    credit = max(ZERO, -net)
    if row["credit"] is not None and row["credit"] != credit:
        return Broken("credit", f"Balance Forward: the credit is {credit}")
    return None


def minimum_payment(row: Values, _: Biller) -> Broken | None:
    """The minimum is always the balance due; of a credit also as customers see it, 0."""
    if row["minimum_due"] not in (row["balance_due"], max(ZERO, row["balance_due"])):
        return Broken("minimum_due", f"Minimum Payment: always the balance due, {row['balance_due']}")
    return None


def due_date(row: Values, _: Biller) -> Broken | None:
    if row["due_date"] < row["invoice_date"]:
        return Broken("due_date", "not before the bill's date")
    return None


def autopay_collection_date(row: Values, biller: Biller) -> Broken | None:
    """Collected between the bill's date and its due date; later only where the biller's file says so."""
    collected = row["autopay_collection_date"]
    if collected is None:
        return None
    if collected < row["invoice_date"]:
        return Broken("autopay_collection_date", "AutoPay Collection Date: not before the bill's date")
    if collected > row["due_date"] and not biller.autopay.collection_after_due:
        return Broken("autopay_collection_date", "AutoPay Collection Date: not after the due date")
    return None


Rule = Callable[[Values, Biller], Broken | None]
RULES: tuple[Rule, ...] = (balance_forward, minimum_payment, due_date, autopay_collection_date)


def settle_amounts(row: Values) -> None:
    """Shows a credit as 0 due with the credit kept apart, as customers see it."""
    net = row["past_due"] + row["current_charges"]
    row["credit"] = max(ZERO, -net)
    row["balance_due"] = row["minimum_due"] = max(ZERO, net)


def settle_notices(row: Values, biller: Biller) -> None:
    """The three e-mail notices: from the row, else by the biller's rule around the due date."""
    notify = biller.notify
    if row["first_notify_date"] is None and notify.first is not None:
        row["first_notify_date"] = notice(row, notify.first)
    if row["second_notify_date"] is None and notify.second is not None:
        row["second_notify_date"] = notice(row, notify.second)
    if row["third_notify_date"] is None and notify.third is not None:
        row["third_notify_date"] = notice(row, notify.third)


def notice(row: Values, rule: NotifyDate) -> date:
    """The day of a notice by the biller's rule, never before the bill itself, and then no weekend either."""
    due: date = row["due_date"]
    issued: date = row["invoice_date"]
    wanted = max(due + timedelta(days=rule.days), issued)
    day = moved(wanted, rule.weekend)
    return day if day >= issued else moved(wanted, "after")


def moved(day: date, weekend: str) -> date:
    """A day that falls on a weekend, moved to the Friday before or the Monday after, as the biller chose."""
    beyond = day.weekday() - FRIDAY
    if beyond <= 0 or weekend == "none":
        return day
    return (
        day - timedelta(days=beyond)
        if weekend == "before"
        else day + timedelta(days=SUNDAY - day.weekday() + 1)
    )
