"""What the partner answers now about one delivery: read only, and said in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from services.bus.biller import Biller
from services.bus.billers import Billers, read_biller
from services.bus.faults import PartnerError
from services.bus.identity import Delivered
from services.bus.partner import PartnerHttp
from services.bus.secrets import Secrets
from services.bus.settings import ConfigurationError, Settings
from services.bus.support import SupportMatrix
from services.bus.wire import load_wire
from services.events import InvoiceIssued, PaymentReceived, SettingChanged
from services.invoices.invoicecloud import InvoiceCloud
from services.invoices.invoicecloud import load_contract as load_cloud
from services.payments.imt import DataPump, guid_at_imt
from services.settings.imt import ImtSettings

Verdict = Literal["has it", "has something else", "does not have it", "cannot be asked", "is away"]


@dataclass(frozen=True, kw_only=True)
class PartnerSays:
    """`partner` is IMT or InvoiceCloud; `account` where it named one; `told` what else, by name."""

    partner: str
    verdict: Verdict
    said: str
    account: str | None = None
    told: Mapping[str, object] = field(default_factory=dict)


def known_biller(settings: Settings, slug: str) -> Biller | None:
    """The biller by its file alone; None where there is no file that can be read."""
    path = settings.billers / f"{slug}.yaml"
    if not path.is_file():
        return None
    support = SupportMatrix.load(settings.partners / "support.yaml")
    return read_biller(path, Secrets(settings.secrets), support)[0]


async def ask_partner(settings: Settings, fact: Delivered) -> PartnerSays:
    """Asks about a payment, an invoice or a setting; whatever fails is an answer too."""
    partner = "InvoiceCloud" if isinstance(fact, InvoiceIssued) else "IMT"
    biller = known_biller(settings, fact.biller)
    if biller is None:
        said = f"no biller's file names {fact.biller} here"
        return PartnerSays(partner=partner, verdict="cannot be asked", said=said)
    try:
        async with PartnerHttp(limit=1, plain_http=[biller.slug] if biller.plain_http else []) as http:
            return await _ask(settings, Billers({biller.slug: biller}), http, fact)
    except PartnerError as error:
        return PartnerSays(partner=partner, verdict="is away", said=error.reason)
    except ConfigurationError as error:
        return PartnerSays(partner=partner, verdict="cannot be asked", said="; ".join(error.problems))


async def _ask(settings: Settings, billers: Billers, http: PartnerHttp, fact: Delivered) -> PartnerSays:
    secrets = Secrets(settings.secrets)
    imt = load_wire(settings.schemas).imt
    if isinstance(fact, PaymentReceived):
        return await _ask_payment(DataPump(http, billers, secrets, imt), fact)
    if isinstance(fact, SettingChanged):
        return await _ask_setting(ImtSettings(http, billers, secrets, imt), fact)
    contract, soap = load_cloud(settings.partners)
    return await _ask_invoice(InvoiceCloud(http, billers, secrets, contract, soap), fact)


async def _ask_payment(imt: DataPump, payment: PaymentReceived) -> PartnerSays:
    if not imt.looks_up(payment.biller):
        return PartnerSays(
            partner="IMT", verdict="cannot be asked", said="this IMT has no look-up of payments"
        )
    posting = await imt.find(payment.biller, guid_at_imt(payment))
    if posting is None:
        return PartnerSays(partner="IMT", verdict="does not have it", said="no payment has this PaymentGUID")
    same = posting.amount == payment.amount and posting.account == payment.account
    unresolved = payment.resolution != "matched" and posting.amount == payment.amount
    said = "this PaymentGUID is posted with this account and amount"
    if not same:
        said = "this PaymentGUID is posted with another account or amount"
    if unresolved:
        said = "this PaymentGUID is posted with this amount, on the account shown"
    return PartnerSays(
        partner="IMT",
        verdict="has it" if same or unresolved else "has something else",
        said=said,
        account=posting.account,
        told={"amount": posting.amount, "reference": posting.reference, "batch_day": posting.batch_day},
    )


async def _ask_setting(imt: ImtSettings, setting: SettingChanged) -> PartnerSays:
    if setting.indicator == "account_link":
        return PartnerSays(
            partner="IMT", verdict="cannot be asked", said="a link is IC's own; IMT keeps none"
        )
    there = await imt.read_indicator(setting, setting.imt_number or setting.number)
    if there is None:
        said = f"{setting.indicator} was never set for this number"
        return PartnerSays(partner="IMT", verdict="does not have it", said=said)
    ours = there.value == setting.value and there.change_id == setting.change_id
    said = "set by this very change" if ours else "set by another change, or by somebody else"
    return PartnerSays(
        partner="IMT",
        verdict="has it" if ours else "has something else",
        said=said,
        told={setting.indicator: there.value, "change_id": there.change_id, "reference": there.reference},
    )


async def _ask_invoice(cloud: InvoiceCloud, invoice: InvoiceIssued) -> PartnerSays:
    viewed = await cloud.view(invoice.biller, invoice.invoice_number)
    if viewed is None:
        said = "no invoice has this number"
        return PartnerSays(partner="InvoiceCloud", verdict="does not have it", said=said)
    ours = viewed.is_of(invoice)
    return PartnerSays(
        partner="InvoiceCloud",
        verdict="has it" if ours else "has something else",
        said="this number, with this content" if ours else "this number, with another content",
        told={
            "reference": viewed.reference,
            "balance_due": viewed.fields["balance_due"],
            "invoice_date": viewed.fields["invoice_date"],
            "due_date": viewed.fields["due_date"],
        },
    )
