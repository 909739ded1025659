"""Calls that change nothing, one to each service of each partner, to learn whether it answers."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from uuid import UUID

from services.bus.billers import Biller, Billers
from services.bus.partner import Outage, PartnerError, PartnerHttp
from services.bus.secrets import Secrets
from services.bus.settings import Settings
from services.bus.wire import Imt, load_wire
from services.invoices.invoicecloud import InvoiceCloud, load_contract

NOBODY = "billbus-doctor"
NO_GUID = str(UUID(int=0))


@dataclass(frozen=True)
class Trouble:
    """What is wrong with a service; `reached` when something answered there."""

    reason: str
    reached: bool


async def ask_partners(settings: Settings, billers: Billers) -> dict[str, Trouble | None]:
    """For each service of each biller, by name: None where it answers, else what is wrong with it."""
    secrets = Secrets(settings.secrets)
    imt = load_wire(settings.schemas).imt
    contract, soap = load_contract(settings.partners)
    plain = [biller.slug for biller in billers.values() if biller.plain_http]
    async with PartnerHttp(limit=4, plain_http=plain) as http:
        invoice_cloud = InvoiceCloud(http, billers, secrets, contract, soap)
        asked: dict[str, Awaitable[object]] = {}
        for biller in billers.values():
            headers = imt.auth.headers(secrets.get(biller.imt.token))
            for service, url in harmless(biller, imt).items():
                asked[f"{biller.slug} {service}"] = _ask(http, biller, service, url, headers)
            asked[f"{biller.slug} InvoiceCloud"] = invoice_cloud.view(biller.slug, NOBODY)
        answers = await asyncio.gather(*(_answer(question) for question in asked.values()))
    return dict(zip(asked, answers, strict=True))


def harmless(biller: Biller, imt: Imt) -> dict[str, str]:
    """By service of IMT, an address that asks for something that nobody has."""
    services, access = imt.services, biller.imt
    return {
        "payments-due": services.payments_due.operations["read_account"].url(
            access.payments_due, account=NOBODY
        ),
        "DataPump Payments": services.datapump.operations["read_payment"].url(access.datapump, guid=NO_GUID),
        "Settings": services.settings.operations["read_settings"].url(access.settings, number=NOBODY),
        "Bills": services.bills.operations["read_bill"].url(access.bills, bill_id=NOBODY),
    }


async def _ask(http: PartnerHttp, biller: Biller, service: str, url: str, headers: dict[str, str]) -> object:
    return await http.request(
        "GET", url, biller=biller.slug, service=service, headers=headers, deadline_s=biller.imt.deadline_s
    )


async def _answer(question: Awaitable[object]) -> Trouble | None:
    try:
        await question
    except PartnerError as error:
        return Trouble(error.reason, reached=isinstance(error, Outage) and not error.never_sent)
    return None
