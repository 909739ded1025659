"""Who an event is: its key on the topic, its CloudEvents id, and the id its delivery is remembered by.

The same fact always has the same ce_id (UUIDv5 of its natural key), so a reader that drops doubles by
ce_id sees each fact once, however often it was written.
"""

import hashlib
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid5

from services.events import (
    BatchClosed,
    Event,
    FileReceived,
    InvoiceIssued,
    InvoiceOutcome,
    OperationAudited,
    PaymentOutcome,
    PaymentReceived,
    SettingChanged,
    SettingOutcome,
)

NAMESPACE = UUID("6f3f6c0e-6a0f-5d0b-9a8e-0b1dcb1f2a6e")
Outcome = InvoiceOutcome | PaymentOutcome | SettingOutcome
Delivered = InvoiceIssued | PaymentReceived | SettingChanged

_NATURAL: dict[str, Callable[[Any], tuple[object, ...]]] = {
    "PaymentReceived": lambda e: (e.biller, e.payment_guid, e.content),
    "InvoiceIssued": lambda e: (e.biller, e.invoice_number, e.content),
    "SettingChanged": lambda e: (e.biller, e.change_id, e.indicator, e.content),
    "PaymentOutcome": lambda e: (e.event_id, e.state, e.attempt),
    "InvoiceOutcome": lambda e: (e.event_id, e.state, e.attempt),
    "SettingOutcome": lambda e: (e.event_id, e.state, e.attempt),
    "BalanceChanged": lambda e: (e.biller, e.account, e.as_of, e.cause, e.balance_due, e.credit),
    "BalanceCurrent": lambda e: (e.biller, e.account, e.as_of, e.updated_at),
    "EnrollmentCurrent": lambda e: (e.biller, e.account, e.updated_at),
    "AccountCurrent": lambda e: (e.biller, e.account, e.updated_at),
    "BatchClosed": lambda e: (e.biller, e.batch_day),
    "BillLinked": lambda e: (e.biller, e.invoice_number, e.bill_id, e.expires_at, e.state, e.reason),
    "FileReceived": lambda e: (e.biller, e.file_id, e.state),
    "OperationAudited": lambda e: (e.operator, e.action, e.target, e.at),
}


def event_id(event: Event) -> UUID:
    """The event's ce_id."""
    name = type(event).__name__
    return uuid5(NAMESPACE, "|".join([event.TOPIC, *(str(part) for part in _NATURAL[name](event))]))


def key(event: Event) -> str:
    """The record key: `biller/account`, or the biller alone where the event concerns no account."""
    if isinstance(event, BatchClosed | FileReceived):
        return event.biller
    if isinstance(event, OperationAudited):
        return event.biller or "-"
    return f"{event.biller}/{event.account}"


def natural_id(event: Delivered) -> str:
    """The partner's own id of what is delivered; a retry by the partner carries the same one."""
    if isinstance(event, PaymentReceived):
        return event.payment_guid
    if isinstance(event, InvoiceIssued):
        return f"{event.invoice_number}/{event.content}"
    return f"{event.change_id}/{event.indicator}"


def delivery_id(event: Delivered | Outcome, natural: str | None = None) -> UUID:
    """The id that the index of outcomes keeps: topic family, biller and natural id, without the content."""
    if natural is None:
        natural = event.natural_id if isinstance(event, Outcome) else natural_id(event)
    family = event.TOPIC.split(".")[1]
    return uuid5(NAMESPACE, f"{family}|{event.biller}|{natural}")


def digest(*parts: object) -> str:
    """16 hex digits over what a partner sent, in a fixed order; None and '' differ."""
    text = "\x1f".join("\x00" if part is None else str(part) for part in parts)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
