"""What happens to a bill's link: checked at IMT, opened by a customer, revoked."""

import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

import structlog

from services.bills.imt import Bills, Missing, There
from services.bills.linked import LinkedBills
from services.bus import links
from services.bus.biller import Biller
from services.bus.clock import Clock
from services.bus.lane import Parked, Posted, Rejected, Settlement
from services.bus.partner import PartnerError, Retryable, Stream
from services.bus.publisher import NotAcknowledged, Publisher
from services.bus.secrets import Secrets
from services.events import BillLinked, InvoiceIssued

log = structlog.get_logger()

UNCHECKED_AFTER = timedelta(hours=1)
MISSING_AGAIN_AFTER = timedelta(hours=1)
RECHECK_S = 5.0
RETRY_AFTER_S = 60
PDF = b"%PDF-"


@dataclass(slots=True)
class Desk:
    """What the handlers work with."""

    imt: Bills
    linked: LinkedBills
    publisher: Publisher
    secrets: Secrets
    clock: Clock


@dataclass(frozen=True, slots=True)
class Seen:
    """A bill that is there; `length` in bytes, where IMT says so."""

    invoice_number: str
    length: int | None


@dataclass(slots=True)
class Opened:
    """A bill that is there: its bytes, as they come from IMT. `close` it whatever happens."""

    invoice_number: str
    length: int | None
    chunks: AsyncIterator[bytes]
    close: AsyncExitStack = field(default_factory=AsyncExitStack)


@dataclass(frozen=True, slots=True)
class Closed:
    """Why a link shows no bill."""

    why: Literal["forged", "expired", "revoked", "missing", "away"]
    retry_after: int = RETRY_AFTER_S


async def check_bill(invoice: InvoiceIssued, biller: Biller | None, desk: Desk) -> Settlement:
    """Asks IMT for the bill behind a new link, and says what was found before it counts as done.

    While IMT is away it is asked again; an hour after the invoice came the link is said to be unchecked,
    and `recheck_bills` goes on. Raises PartnerError.
    """
    if biller is None:
        return Parked("unknown_biller", "no biller's file names this biller", never_sent=True)
    if desk.linked.is_revoked(biller.slug, invoice.invoice_number, invoice.bill_id):
        return Rejected("revoked", "the link was revoked before it was checked")
    try:
        found = await desk.imt.check(biller, invoice.bill_id)
    except PartnerError as fault:
        if desk.clock.now() - invoice.issued_at < UNCHECKED_AFTER:
            raise
        await _say(biller, _linked(invoice, "unchecked", "imt_away", desk.clock.now()), desk)
        return Parked("unchecked", f"IMT could not be asked for too long: {fault.reason}")
    state, reason = _state(found)
    event = _linked(invoice, state, reason, desk.clock.now())
    if not desk.linked.has(event):  # a replayed invoice finds its fact on the topic
        await _say(biller, event, desk)
    return Posted(reason=reason)


async def recheck_bills(biller: Biller, desk: Desk) -> None:
    """Asks again for bills that were unchecked or missing, for a few seconds; ends when IMT is away."""
    until = desk.clock.monotonic() + RECHECK_S
    for known in desk.linked.not_live(biller.slug):
        now = desk.clock.now()
        if desk.clock.monotonic() > until:
            return
        if known.state == "missing" and now - known.checked_at < MISSING_AGAIN_AFTER:
            continue
        try:
            state, reason = _state(await desk.imt.check(biller, known.bill_id))
            await _say(biller, _again(known, state, reason, now), desk)
        except PartnerError as fault:
            log.warning("bills.recheck_failed", biller=biller.slug, reason=fault.reason)
            return


def let_through(biller: Biller, token: str, desk: Desk) -> links.Claims | Closed:
    """What a link says, once signature, expiry and revocation let it through."""
    claims = links.read(biller, desk.secrets, token, desk.clock.now())
    if isinstance(claims, links.BadLink):
        return Closed(claims.reason)
    if not desk.linked.ready:
        return Closed("away", retry_after=5)
    if desk.linked.is_revoked(biller.slug, claims.invoice_number, claims.bill_id):
        return Closed("revoked")
    return claims


async def look_at_bill(biller: Biller, token: str, desk: Desk) -> Seen | Closed:
    """Whether the bill behind a link is there, without fetching it."""
    claims = let_through(biller, token, desk)
    if isinstance(claims, Closed):
        return claims
    try:
        found = await desk.imt.check(biller, claims.bill_id)
    except PartnerError as fault:
        return away(biller, fault)
    return Closed("missing") if isinstance(found, Missing) else Seen(claims.invoice_number, found.length)


def away(biller: Biller, fault: PartnerError) -> Closed:
    log.warning("bills.imt_away", biller=biller.slug, reason=fault.reason)
    wish = fault.retry_after
    return Closed("away", max(1, math.ceil(wish)) if wish is not None else RETRY_AFTER_S)


async def open_bill(biller: Biller, token: str, desk: Desk) -> Opened | Closed:
    """The bill behind a link, once signature, expiry and revocation let it through.

    Nothing is shown that does not begin like a PDF; what breaks off later is cut off, never completed.
    """
    claims = let_through(biller, token, desk)
    if isinstance(claims, Closed):
        return claims
    reading = desk.imt.read(biller, claims.bill_id)
    if isinstance(reading, Missing):
        return Closed("missing")
    async with AsyncExitStack() as stack:
        try:
            answer = await _begin(biller, claims.invoice_number, await stack.enter_async_context(reading))
        except PartnerError as fault:
            answer = away(biller, fault)
        if isinstance(answer, Opened):
            answer.close = stack.pop_all()
    return answer


async def _begin(biller: Biller, invoice_number: str, stream: Stream) -> Opened | Closed:
    if stream.status >= 400:
        return Closed("missing")
    chunks = stream.chunks()
    start = await _start(chunks)
    if not start.startswith(PDF):
        log.error("bills.not_a_pdf", biller=biller.slug, invoice=invoice_number)
        return Closed("missing" if not start else "away")
    length = stream.headers.get("Content-Length", "")
    return Opened(invoice_number, int(length) if length.isdigit() else None, _whole(start, chunks))


async def revoke_bills(biller: Biller, invoice_number: str, desk: Desk) -> tuple[BillLinked, ...]:
    """Makes the links of an invoice's bills dead for good; empty when no bill of it is known.

    Raises NotAcknowledged: then they are not revoked for certain.
    """
    known = desk.linked.of_invoice(biller.slug, invoice_number)
    now = desk.clock.now()
    live = [_again(bill, "revoked", "revoked_by_biller", now) for bill in known if bill.state != "revoked"]
    await desk.publisher.publish(*live)
    for bill in live:  # here at once; in the other replicas as soon as they have read it
        desk.linked.take(bill)
    return desk.linked.of_invoice(biller.slug, invoice_number)


async def _start(chunks: AsyncIterator[bytes]) -> bytes:
    """Enough of the body to see what it is."""
    start = b""
    async for chunk in chunks:
        start += chunk
        if len(start) >= len(PDF):
            break
    return start


async def _whole(start: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield start
    async for chunk in rest:
        yield chunk


async def _say(biller: Biller, event: BillLinked, desk: Desk) -> None:
    """Publishes what was found; asking again does no harm, so an event not acknowledged is Retryable."""
    try:
        await desk.publisher.publish(event)
    except NotAcknowledged as error:
        raise Retryable(biller.slug, "bus", str(error)) from error


State = Literal["live", "missing", "revoked", "unchecked"]


def _state(found: There | Missing) -> tuple[State, str | None]:
    return ("missing", found.reason) if isinstance(found, Missing) else ("live", None)


def _linked(invoice: InvoiceIssued, state: State, reason: str | None, now: datetime) -> BillLinked:
    return BillLinked(
        biller=invoice.biller,
        account=invoice.account,
        invoice_number=invoice.invoice_number,
        bill_id=invoice.bill_id,
        state=state,
        reason=reason,
        expires_at=invoice.bill_link_expires_at,
        checked_at=now,
    )


def _again(known: BillLinked, state: State, reason: str | None, now: datetime) -> BillLinked:
    return replace(known, state=state, reason=reason, checked_at=now)
