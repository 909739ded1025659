"""What happens to a payment: received, brought to IMT, asked for where in doubt."""

from datetime import date, datetime
from typing import Protocol

from services.bus.accounts import AccountsView, Ambiguous, Match
from services.bus.billers import Biller, Billers
from services.bus.business_day import business_day
from services.bus.clock import Clock
from services.bus.lane import (
    Answer,
    CannotSay,
    Found,
    NotFound,
    Parked,
    Posted,
    Rejected,
    Settled,
    Settlement,
)
from services.events import PaymentOutcome, PaymentReceived, Resolution
from services.payments.imt import Posting, guid_at_imt
from services.payments.notice import Notice


class Named(Protocol):
    """What a notice, or the fact made of it, names the account by."""

    @property
    def invoice_number(self) -> str | None: ...
    @property
    def account_as_sent(self) -> str | None: ...


class Imt(Protocol):
    """What the handlers need of IMT's DataPump Payments; each call raises services.bus.partner's errors."""

    async def post(self, payment: PaymentReceived, batch_day: date) -> Posting | Rejected: ...
    async def find(self, biller: str, payment_guid: str) -> Posting | None: ...
    def patience_s(self, biller: str) -> float: ...
    def looks_up(self, biller: str) -> bool: ...


def receive_payment(
    notice: Notice, biller: Biller, accounts: AccountsView, via: str, at: datetime
) -> PaymentReceived:
    """The fact of a notice, with its account resolved once and for all."""
    account, resolution, candidates = resolve_account(notice, biller, accounts)
    return PaymentReceived(
        biller=biller.slug,
        account=account or f"?{notice.payment_guid}",
        payment_guid=notice.payment_guid,
        payment_guid_as_sent=notice.payment_guid_as_sent,
        invoice_number=notice.invoice_number,
        account_as_sent=notice.account_as_sent,
        resolution=resolution,
        candidates=candidates,
        amount=notice.amount,
        convenience_fee=notice.convenience_fee,
        approved=notice.approved,
        tender=notice.tender,
        card_type=notice.card_type,
        product=notice.product,
        agent=notice.agent,
        schedule_id=notice.schedule_id,
        schedule_kind=notice.schedule_kind,
        paid_at=notice.paid_at,
        description=notice.description,
        payer_name=notice.payer_name,
        biller_reference=notice.biller_reference,
        unsupported=notice.unsupported,
        via=via,
        content=notice.content,
        received_at=at,
    )


def resolve_account(
    notice: Named, biller: Biller, accounts: AccountsView
) -> tuple[str | None, Resolution, tuple[str, ...]]:
    """The account by invoice and by number as typed: one tells which the other means, and where the two
    disagree nobody guesses."""
    found = []
    if notice.invoice_number:
        found.append(accounts.by_invoice(biller.slug, notice.invoice_number))
    if notice.account_as_sent:
        found.append(accounts.find_typed(biller, notice.account_as_sent))
    matched = {each.account for each in found if isinstance(each, Match)}
    several = [each.candidates for each in found if isinstance(each, Ambiguous)]
    if len(matched) == 1 and all(matched <= set(candidates) for candidates in several):
        return matched.pop(), "matched", ()
    candidates = tuple(sorted(matched.union(*several)))
    return None, "ambiguous" if candidates else "unknown", candidates


async def post_payment(payment: PaymentReceived, imt: Imt, billers: Billers, clock: Clock) -> Settlement:
    """Brings the payment to IMT, into its batch."""
    if (why_not := nothing_to_post(payment, billers)) is not None:
        return why_not
    day = batch_day(billers[payment.biller], payment.received_at, clock.now())
    posted = await imt.post(payment, day)
    if isinstance(posted, Rejected):
        return posted
    return Posted(posted.reference, fields={"batch_day": posted.batch_day or day})


def batch_day(biller: Biller, received_at: datetime, now: datetime) -> date:
    """The business day of the receipt; of a late one, as the biller's rule says, the one open now."""
    days = business_day(biller, received_at), business_day(biller, now)
    return max(days) if biller.batch.late_payment == "open" else days[0]


def nothing_to_post(payment: PaymentReceived, billers: Billers) -> Settlement | None:
    """Why a payment does not go to IMT at all, or None."""
    if payment.biller not in billers:
        return Parked("unknown_biller", "no biller's file names this biller", True)
    if not payment.approved:
        return Rejected("not_approved", "IC recorded an attempt; no money was collected")
    if payment.unsupported is not None:
        return Parked(
            f"unsupported: {payment.unsupported}", "the money is taken; a person has to post it", True
        )
    if payment.resolution == "ambiguous":
        return Parked("account_ambiguous", f"{len(payment.candidates)} accounts match", True)
    if payment.resolution == "unknown":
        return Parked("account_unknown", "no account matches the invoice or number given", True)
    if payment.amount == 0:
        return Rejected("nothing_due", "a pay-in-full schedule met a zero balance")
    return None


async def find_payment(payment: PaymentReceived, imt: Imt, billers: Billers) -> Answer:
    """Asks IMT by PaymentGUID; found means found with this account and amount."""
    if nothing_to_post(payment, billers) is not None:
        return NotFound()
    if not imt.looks_up(payment.biller):
        return CannotSay("this IMT has no look-up of payments", ever=False)
    posting = await imt.find(payment.biller, guid_at_imt(payment))
    if posting is None:
        return NotFound()
    if posting.amount != payment.amount or posting.account != payment.account:
        return CannotSay("IMT has this PaymentGUID with another account or amount", ever=False)
    return Found(posting.reference, fields={"batch_day": posting.batch_day})


def patience_with_imt(payment: PaymentReceived, imt: Imt, billers: Billers) -> float:
    """Seconds for which IMT may still act on a request that was given up."""
    return imt.patience_s(payment.biller) if nothing_to_post(payment, billers) is None else 0.0


def someone_cannot_be_asked(billers: Billers) -> bool:
    """Whether the IMT of some biller has no look-up of payments."""
    return not all(biller.imt.looks_up_payments for biller in billers.values())


def record_outcome(payment: PaymentReceived, settled: Settled) -> PaymentOutcome:
    return PaymentOutcome(
        **settled.core(payment),
        amount=payment.amount,
        tender=payment.tender,
        product=payment.product,
        batch_day=settled.fields.get("batch_day"),
    )
