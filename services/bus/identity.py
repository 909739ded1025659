"""Who an event is: its key on the topic, its CloudEvents id, and the id its delivery is remembered by.

The same fact always has the same ce_id (UUIDv5 of its natural key), so a reader that drops doubles by
ce_id sees each fact once, however often it was written.
"""

import hashlib
from collections.abc import Callable
from typing import Any
from uuid import UUID

from services.events import (
    BY_TOPIC,
    BatchClosed,
    Event,
    FileReceived,
    InvoiceIssued,
    InvoiceOutcome,
    OperationAudited,
    PauseCurrent,
    PaymentOutcome,
    PaymentReceived,
    SettingChanged,
    SettingOutcome,
)

NAMESPACE = UUID("6f3f6c0e-6a0f-5d0b-9a8e-0b1dcb1f2a6e")
_NAMESPACE = NAMESPACE.bytes
_FAMILY = {topic: topic.split(".")[1] for topic in BY_TOPIC}
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
    "PauseCurrent": lambda e: (e.biller, e.updated_at),
}


def event_id(event: Event) -> UUID:
    """The event's ce_id."""
    return UUID(bytes=_named(_natural_name(event)))


def event_id_text(event: Event) -> str:
    """The event's ce_id as the header has it; a third of the work of `str(event_id(event))`."""
    digits = _named(_natural_name(event)).hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _natural_name(event: Event) -> str:
    return "|".join([event.TOPIC, *map(str, _NATURAL[type(event).__name__](event))])


def _named(name: str) -> bytes:
    """The 16 bytes of the UUIDv5 of a name; uuid.uuid5 makes the same in three times as long."""
    digest = bytearray(hashlib.sha1(_NAMESPACE + name.encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    return bytes(digest)


def key(event: Event) -> str:
    """The record key: `biller/account`, or the biller alone where the event concerns no account."""
    if isinstance(event, BatchClosed | FileReceived | PauseCurrent):
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
    return UUID(bytes=delivery_key(event, natural))


def delivery_key(event: Delivered | Outcome, natural: str | None = None) -> bytes:
    """The 16 bytes of `delivery_id`."""
    if natural is None:
        natural = event.natural_id if isinstance(event, Outcome) else natural_id(event)
    return named_delivery(_FAMILY[event.TOPIC], event.biller, natural)


def named_delivery(family: str, biller: str, natural: str) -> bytes:
    """The same of what the id is made of; the family is `payment`, `invoice` or `setting`."""
    return _named(f"{family}|{biller}|{natural}")


def digest(*parts: object) -> str:
    """16 hex digits over what a partner sent, in a fixed order; None and '' differ."""
    text = "\x1f".join(["\x00" if part is None else str(part) for part in parts])
    return hashlib.sha256(text.encode()).hexdigest()[:16]
