"""What a record says, as one sentence for a person; personal data only where the caller lets it through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from services.bus.identity import Outcome
from services.events import (
    BalanceChanged,
    BalanceCurrent,
    BatchClosed,
    BillLinked,
    EnrollmentCurrent,
    FileReceived,
    InvoiceIssued,
    InvoiceOutcome,
    OperationAudited,
    PaymentOutcome,
    PaymentReceived,
    SettingChanged,
    SettingOutcome,
)
from services.operations.beside import beside_of
from services.operations.trace_log import Seen

PARTNER: dict[type, str] = {InvoiceOutcome: "InvoiceCloud", PaymentOutcome: "IMT", SettingOutcome: "IMT"}
DID: dict[type, str] = {
    InvoiceOutcome: "has the invoice",
    PaymentOutcome: "posted it",
    SettingOutcome: "applied it",
}
INDICATORS = {"autopay": "autopay", "paperless": "paperless billing", "account_link": "the account link"}


def words_of(seen: Seen) -> str:
    """One sentence; never a name, an address or an account number."""
    if seen.dead:
        return _dead_letter(seen)
    if seen.event is None:
        return f"cannot be read: {seen.unreadable}" if seen.unreadable else "is forgotten"
    return _act(seen) if seen.replayed else _say(seen.event)


def _say(event: Any) -> str:
    if isinstance(event, Outcome):
        return _outcome(event)
    say = SAID.get(type(event))
    return say(event) if say else type(event).__name__


def _payment(event: PaymentReceived) -> str:
    approved = "an approved payment" if event.approved else "a declined payment"
    card = f" ({event.card_type})" if event.card_type else ""
    said = (
        f"InvoiceCloud told of {approved} of {event.amount} by {event.tender}{card}, product {event.product}"
    )
    if event.invoice_number:
        said += f", for invoice {event.invoice_number}"
    if event.resolution != "matched":
        said += f"; its account is {event.resolution}"
    if event.unsupported:
        said += f"; not supported: {event.unsupported}"
    return said


def _invoice(event: InvoiceIssued) -> str:
    return (
        f"IMT issued invoice {event.invoice_number} of {event.balance_due}, due {event.due_date} "
        f"(row {event.row} of file {event.file_id[:12]})"
    )


def _setting(event: SettingChanged) -> str:
    said = f"{INDICATORS[event.indicator]} was switched {_on(event.value)} at InvoiceCloud"
    return said if event.resolution == "matched" else f"{said}; its account is {event.resolution}"


def _outcome(event: Outcome) -> str:
    partner = PARTNER[type(event)]
    detail = f": {event.reason}" if event.reason else ""
    if event.detail:
        detail += f" ({event.detail})"
    tried = f", attempt {event.attempt}"
    if event.state == "posted":
        said = f"{partner} {DID[type(event)]}"
        if event.partner_reference:
            said += f" as {event.partner_reference}"
        if event.looked_up:
            said += ", found by asking it"
        if isinstance(event, PaymentOutcome) and event.batch_day:
            said += f", batch of {event.batch_day}"
        return said + tried
    if event.state == "rejected":
        return f"{partner} refused it{detail}{tried}"
    if event.state == "parked":
        sent = "never sent" if event.never_sent else "may have arrived"
        return f"parked for a person{detail}; {sent}{tried}"
    if event.state == "superseded":
        return f"not sent, for something newer is there{detail}{tried}"
    return f"dismissed by an operator{detail}{tried}"


def _balance(event: BalanceChanged) -> str:
    before = "" if event.previous_balance_due is None else f" (was {event.previous_balance_due})"
    return f"balance due is {event.balance_due}{before}, by {event.cause}"


def _balance_now(event: BalanceCurrent) -> str:
    return f"current balance: {event.balance_due} due, {event.past_due} past due, {event.credit} credit"


def _enrollment(event: EnrollmentCurrent) -> str:
    told = {"autopay": event.autopay, "paperless": event.paperless, "linked": event.linked}
    said = ", ".join(f"{name} {_on(value)}" for name, value in told.items() if value is not None)
    return f"current enrollment: {said or 'nothing known'}"


def _batch(event: BatchClosed) -> str:
    return f"the batch of {event.batch_day} closed and counted it: {event.count} payments, {event.amount}"


def _bill(event: BillLinked) -> str:
    reason = f": {event.reason}" if event.reason else ""
    return f"the link to the bill of invoice {event.invoice_number} is {event.state}{reason}"


def _file(event: FileReceived) -> str:
    return (
        f"IMT's file {event.file_id[:12]} was {event.state}: {event.rows} rows, {event.accepted} accepted, "
        f"{event.refused} refused"
    )


def _audited(event: OperationAudited) -> str:
    done = f"{event.operator}: {event.action} of {event.target}"
    return f"{done}, because {event.reason!r}; result: {event.result}"


def _act(seen: Seen) -> str:
    told = beside_of(seen.headers)
    wish = told.act or "replay"
    said = f"{wish} by run {told.run or '?'} of {told.origin or '?'}"
    if wish in ("retry", "dismiss"):
        said += f", parked at attempt {told.attempt or '?'}"
    if told.reason:
        said += f", because {told.reason!r}"
    return said


def _dead_letter(seen: Seen) -> str:
    told = beside_of(seen.headers)
    return (
        f"nobody could read {told.origin or 'a record'}: {told.reason or 'no reason told'} "
        f"(lane {told.lane or '?'}, {len(seen.hit.value or b'')} bytes kept)"
    )


def _on(value: bool) -> str:
    return "on" if value else "off"


SAID: dict[type, Callable[[Any], str]] = {
    PaymentReceived: _payment,
    InvoiceIssued: _invoice,
    SettingChanged: _setting,
    BalanceChanged: _balance,
    BalanceCurrent: _balance_now,
    EnrollmentCurrent: _enrollment,
    BatchClosed: _batch,
    BillLinked: _bill,
    FileReceived: _file,
    OperationAudited: _audited,
}
