"""Calls that change nothing, one to each service of each partner, to learn whether it answers."""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from uuid import UUID

from services.bus.billers import Biller, Billers
from services.bus.clock import Clock
from services.bus.partner import Outage, PartnerError, PartnerHttp, Reply
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


@dataclass(frozen=True)
class Answer:
    """Of one service: its trouble, if any, the name of the secret that it was asked with, and by how many
    seconds its clock is ahead of ours (None where it does not tell its time)."""

    secret: str
    trouble: Trouble | None = None
    ahead_s: float | None = None


async def ask_partners(settings: Settings, billers: Billers, clock: Clock) -> dict[str, Answer]:
    """What each service of each biller answers, by name, such as `acme Settings`."""
    secrets = Secrets(settings.secrets)
    imt = load_wire(settings.schemas).imt
    contract, soap = load_contract(settings.partners)
    plain = [biller.slug for biller in billers.values() if biller.plain_http]
    async with PartnerHttp(limit=4, plain_http=plain) as http:
        invoice_cloud = InvoiceCloud(http, billers, secrets, contract, soap)
        asked: dict[str, Awaitable[Answer]] = {}
        for biller in billers.values():
            headers = imt.auth.headers(secrets.get(biller.imt.token))
            for service, url in harmless(biller, imt).items():
                question = http.request(
                    "GET",
                    url,
                    biller=biller.slug,
                    service=service,
                    headers=headers,
                    deadline_s=biller.imt.deadline_s,
                )
                asked[f"{biller.slug} {service}"] = _answer(question, biller.imt.token, clock)
            view = invoice_cloud.view(biller.slug, NOBODY)
            key = biller.invoice_cloud.web_service_key
            asked[f"{biller.slug} InvoiceCloud"] = _answer(view, key, clock)
        answers = await asyncio.gather(*asked.values())
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


async def _answer(question: Awaitable[object], secret: str, clock: Clock) -> Answer:
    try:
        reply = await question
    except PartnerError as error:
        reached = isinstance(error, Outage) and not error.never_sent
        return Answer(secret, Trouble(error.reason, reached))
    return Answer(secret, ahead_s=_ahead_s(reply, clock) if isinstance(reply, Reply) else None)


def _ahead_s(reply: Reply, clock: Clock) -> float | None:
    try:
        told = parsedate_to_datetime(reply.headers.get("date", ""))
    except ValueError:
        return None
    return None if told.tzinfo is None else (told - clock.now()).total_seconds()
