"""What happens to an invoice: uploaded to IC, asked for where in doubt, and kept on its account's record."""

from collections.abc import Sequence
from typing import Protocol

from services.bus.accounts import normalise
from services.bus.billers import Billers
from services.bus.lane import Answer, Found, NotFound, Parked, Posted, Rejected, Settled, Settlement
from services.bus.partner import Unknown
from services.events import AccountCurrent, InvoiceIssued, InvoiceOutcome
from services.invoices.invoicecloud import REFUSED, Uploaded, Viewed

MOST_INVOICES = 60


class Cloud(Protocol):
    """What the handlers need of IC; each call raises services.bus.partner's errors."""

    async def upload(self, invoices: Sequence[InvoiceIssued]) -> Sequence[Uploaded | Unknown]: ...
    async def view(self, biller_slug: str, invoice_number: str) -> Viewed | None: ...
    def patience_s(self, biller: str) -> float: ...


async def upload_invoices(
    invoices: Sequence[InvoiceIssued], cloud: Cloud, billers: Billers
) -> Sequence[Settlement | Unknown]:
    """Brings invoices of one biller to IC in one call."""
    if invoices[0].biller not in billers:
        gone = Parked("unknown_biller", "no biller's file names this biller", never_sent=True)
        return [gone] * len(invoices)
    return [settle_upload(answer) for answer in await cloud.upload(invoices)]


def settle_upload(answer: Uploaded | Unknown) -> Settlement | Unknown:
    """What IC's word on one invoice means for it."""
    if isinstance(answer, Unknown):
        return answer
    return Posted(answer.reference) if answer.taken else Rejected(REFUSED, answer.said)


async def find_invoice(invoice: InvoiceIssued, cloud: Cloud, billers: Billers) -> Answer:
    """Asks IC by number; found means found with this content, since a correction has the same number."""
    if invoice.biller not in billers:
        return NotFound()
    viewed = await cloud.view(invoice.biller, invoice.invoice_number)
    if viewed is None or not viewed.is_of(invoice):
        return NotFound()
    return Found(viewed.reference)


def patience_with_invoicecloud(invoice: InvoiceIssued, cloud: Cloud, billers: Billers) -> float:
    """Seconds for which IC may still act on a request that was given up."""
    return cloud.patience_s(invoice.biller) if invoice.biller in billers else 0.0


def order_invoice(invoice: InvoiceIssued) -> tuple[str, str]:
    """A new bill of an account replaces the old one: by its date, and a correction by when it came."""
    return (
        invoice.account,
        f"{invoice.invoice_date.isoformat()} {invoice.issued_at.isoformat('T', 'milliseconds')}",
    )


def record_outcome(invoice: InvoiceIssued, settled: Settled) -> InvoiceOutcome:
    return InvoiceOutcome(
        **settled.core(invoice), invoice_number=invoice.invoice_number, file_id=invoice.file_id
    )


def keep_account(
    current: AccountCurrent | None, invoice: InvoiceIssued, billers: Billers
) -> AccountCurrent | None:
    """The account's record after an invoice: its newest one, its policies, and the numbers it is known by."""
    if invoice.biller not in billers:
        return None
    # the same event may come twice, so being newer is decided by what it says, not by when it comes
    newest = current is None or (invoice.invoice_date, invoice.issued_at) >= (
        current.invoice_date,
        current.updated_at,
    )
    known = current.invoices if current else ()
    others = tuple(number for number in known if number != invoice.invoice_number)
    if not newest and len(others) < len(known):
        return None
    numbers = (
        (invoice.invoice_number, *others) if newest else (*known[:1], invoice.invoice_number, *known[1:])
    )
    latest = invoice if newest or current is None else current
    return AccountCurrent(
        biller=invoice.biller,
        account=invoice.account,
        normalised=normalise(invoice.account, billers[invoice.biller].accounts),
        policies=latest.policies,
        invoice_number=latest.invoice_number,
        invoice_date=latest.invoice_date,
        invoices=numbers[:MOST_INVOICES],
        updated_at=max(current.updated_at, invoice.issued_at) if current else invoice.issued_at,
    )
