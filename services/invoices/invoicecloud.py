"""The client of IC's CloudInvoicing: uploads invoices, many in one call, and looks one up by its number."""

import re
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from services.bus.batching import RefusedWhole
from services.bus.billers import Biller, Billers
from services.bus.partner import Outage, PartnerHttp, Reply, Retryable, Unknown
from services.bus.secrets import Secrets
from services.bus.settings import ConfigurationError
from services.events import InvoiceIssued
from services.invoices.soap import Fault, Malformed, Soap

SERVICE = "ic.invoices"
REFUSED = "refused_by_invoicecloud"
ENVELOPE_BYTES = 4096
"""More than what stands around the invoices of a call."""
TAGS_BYTES = 2560
"""More than the elements, dates, amounts and flags of one invoice; its texts come on top."""
_XML = ("text/xml", "application/soap+xml")
_COMPARED = ("invoice_date", "due_date", "autopay_collection_date", "balance_due", "minimum_due")


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Operations(_Frozen):
    upload: str
    view: str


class Contract(_Frozen):
    """IC's SOAP service on the wire, from invoicecloud.yaml; every mapping goes from our word to IC's."""

    wsdl: str
    binding: str
    empty_date: date
    max_invoices: int
    max_bytes: int
    wrong_key_fault: str
    not_found: str
    refusal_faults: tuple[str, ...] = ()
    operations: Operations
    request: dict[str, str]
    reply: dict[str, str]
    invoice: dict[str, str]
    customer: dict[str, str]


def load_contract(partners: Path) -> tuple[Contract, Soap]:
    """IC's contract and its WSDL; raises ConfigurationError with everything wrong in them."""
    path = partners / "invoicecloud.yaml"
    try:
        contract = Contract.model_validate(yaml.safe_load(path.read_text(encoding="utf-8"))["soap"])
    except ValidationError as error:
        problems = [f"{path}: soap.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise ConfigurationError(problems) from None
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise ConfigurationError([f"{path}: {type(error).__name__}: {error}"]) from None
    return contract, Soap(partners / contract.wsdl, contract.binding)


@dataclass(frozen=True, slots=True)
class Uploaded:
    """IC's word on one invoice: taken, with its reference, or refused, with what it said."""

    taken: bool
    reference: str | None = None
    said: str | None = None


@dataclass(frozen=True, slots=True)
class Viewed:
    """An invoice as IC has it: the fields that tell its content, and how its customer is enrolled there."""

    content: str | None
    fields: dict[str, Any]
    reference: str | None
    autopay: bool | None = None
    paperless: bool | None = None

    def is_of(self, invoice: InvoiceIssued) -> bool:
        """Whether IC has this content, by our own reference where IC kept it, else by dates and amounts."""
        if self.content:
            return self.content == invoice.content
        return all(self.fields[name] == getattr(invoice, name) for name in _COMPARED)


class InvoiceCloud:
    """Raises services.bus.partner's errors; a look-up raises Retryable or Outage, since it has no effect."""

    def __init__(
        self, partners: PartnerHttp, billers: Billers, secrets: Secrets, contract: Contract, soap: Soap
    ) -> None:
        self._partners = partners
        self._billers = billers
        self._secrets = secrets
        self._contract = contract
        self._soap = soap

    @property
    def most_invoices(self) -> int:
        """Invoices that one call takes."""
        return self._contract.max_invoices

    @property
    def most_bytes(self) -> int:
        """Bytes of invoices that one call takes."""
        return self._contract.max_bytes - ENVELOPE_BYTES

    def size_of(self, invoice: InvoiceIssued) -> int:
        """At most so many bytes of a call."""
        texts = [value for value in invoice.as_record().values() if isinstance(value, str)]
        return TAGS_BYTES + len(escape("".join(texts)).encode())

    async def upload(self, invoices: Sequence[InvoiceIssued]) -> list[Uploaded | Unknown]:
        """Uploads invoices of one biller in one call.

        Answers for each in turn: Unknown where the answer holds no result for it. Raises RefusedWhole where
        IC refuses the call without a word on any of them.
        """
        wire, biller = self._contract, self._billers[invoices[0].biller]
        described = [self._invoice(biller, invoice) for invoice in invoices]
        sent = {wire.request["invoices"]: {wire.request["invoice"]: described}}
        reply = await self._call(biller, wire.operations.upload, sent)
        try:
            answer = self._soap.reply(wire.operations.upload, reply.body)
        except Fault as fault:
            raise self._faulted(biller, fault, invoices) from None
        except Malformed:
            raise Unknown(biller.slug, SERVICE, "the answer is not what the WSDL says") from None
        results = (answer.get(wire.reply["results"]) or {}).get(wire.reply["result"]) or []
        if not results and not answer[wire.reply["success"]]:
            raise self._refused_call(biller, str(answer.get(wire.reply["error"]) or ""), invoices)
        return self._each(biller, results, invoices)

    async def view(self, biller_slug: str, invoice_number: str) -> Viewed | None:
        """The invoice as IC has it, None where IC says that it has none."""
        wire, biller = self._contract, self._billers[biller_slug]
        try:
            reply = await self._call(
                biller, wire.operations.view, {wire.request["invoice_number"]: invoice_number}
            )
            answer = self._soap.reply(wire.operations.view, reply.body)
        except Fault as fault:
            self._wrong_key(biller, fault.text)
            raise Retryable(biller.slug, SERVICE, "the look-up was answered with a fault") from None
        except (Malformed, Unknown):
            raise Retryable(biller.slug, SERVICE, "the look-up had no usable answer") from None
        found = answer.get(wire.reply["invoice"])
        if answer[wire.reply["success"]] and found is not None:
            return self._viewed(found, answer.get(wire.reply["reference"]))
        if self._says(answer, wire.not_found):
            return None
        self._wrong_key(biller, str(answer.get(wire.reply["error"])))
        raise Retryable(biller.slug, SERVICE, "the look-up was refused")

    def patience_s(self, biller: str) -> float:
        """Our deadline and a margin: after that a request we gave up cannot take effect."""
        access = self._billers[biller].invoice_cloud
        return access.deadline_s + access.margin_s

    # -- out -------------------------------------------------------------------------------------------

    async def _call(self, biller: Biller, operation: str, sent: dict[str, Any]) -> Reply:
        wire, access = self._contract.request, biller.invoice_cloud
        credentials = {
            wire["biller_guid"]: access.biller_guid,
            wire["web_service_key"]: self._secrets.get(access.web_service_key),
        }
        return await self._partners.request(
            "POST",
            access.url,  # from the biller's file, never from the WSDL
            biller=biller.slug,
            service=SERVICE,
            headers={
                "Content-Type": "text/xml; charset=utf-8",
                "SOAPAction": self._soap.action(operation),
            },
            data=self._soap.request(operation, **{wire["envelope"]: credentials | sent}),
            deadline_s=access.deadline_s,
            content_types=_XML,
        )

    def _invoice(self, biller: Biller, invoice: InvoiceIssued) -> dict[str, Any]:
        """The invoice under IC's names; what is None has no element, an empty date is IC's own."""
        empty = self._contract.empty_date.isoformat()  # as text: zeep writes the year 1 without its zeros
        record = invoice.as_record()
        values = record | {
            "invoice_type_id": str(biller.invoice_cloud.invoice_type_id),
            "biller_code": biller.invoice_cloud.biller_code,
            "autopay_collection_date": invoice.autopay_collection_date or empty,
            "first_notify_date": invoice.first_notify_date or empty,
            "second_notify_date": invoice.second_notify_date or empty,
            "third_notify_date": invoice.third_notify_date or empty,
            "total_due": invoice.balance_due,
            # a credit shows as 0 due and is kept apart: IC takes no amount below zero
            "past_due": max(invoice.past_due, Decimal("0.00")),
            "paper": not invoice.paperless,
            # blocks and partial payments are managed at IC: what we send always says false
            "allow_partial_payments": False,
            "block_card": False,
            "block_eft": False,
        }
        sent = named(self._contract.invoice, values)
        return sent | {self._contract.request["customer"]: named(self._contract.customer, values)}

    # -- in --------------------------------------------------------------------------------------------

    def _each(
        self, biller: Biller, results: Sequence[dict[str, Any]], invoices: Sequence[InvoiceIssued]
    ) -> list[Uploaded | Unknown]:
        """Each invoice's result by its number; where a number was sent twice, in the order of the request."""
        wire = self._contract.reply
        sent = Counter(invoice.invoice_number for invoice in invoices)
        named_by: defaultdict[str, deque[dict[str, Any]]] = defaultdict(deque)
        for result in results:
            named_by[result[wire["invoice_number"]]].append(result)
        clear = {number for number, count in sent.items() if len(named_by[number]) == count}
        return [
            self._uploaded(named_by[invoice.invoice_number].popleft(), invoice)
            if invoice.invoice_number in clear
            else Unknown(biller.slug, SERVICE, "the answer has no result for the invoice")
            for invoice in invoices
        ]

    def _uploaded(self, result: dict[str, Any], invoice: InvoiceIssued) -> Uploaded:
        wire = self._contract.reply
        if result[wire["success"]]:
            return Uploaded(True, result.get(wire["reference"]))
        return Uploaded(False, said=without_values(str(result.get(wire["error"]) or ""), invoice))

    def _viewed(self, found: dict[str, Any], reference: str | None) -> Viewed:
        names, empty = self._contract.invoice, self._contract.empty_date
        fields = {name: found.get(names[name]) for name in _COMPARED}
        if fields["autopay_collection_date"] == empty:
            fields["autopay_collection_date"] = None
        customer = found.get(self._contract.request["customer"]) or {}
        paper = customer.get(self._contract.customer["paper"])
        return Viewed(
            found.get(names["content"]),
            fields,
            reference,
            autopay=customer.get(self._contract.customer["autopay"]),
            paperless=None if paper is None else not paper,
        )

    def _faulted(self, biller: Biller, fault: Fault, invoices: Sequence[InvoiceIssued]) -> Exception:
        """A fault is IC's refusal only where its text is known as one; otherwise nobody knows the effect."""
        self._wrong_key(biller, fault.text)
        if any(text in fault.text for text in self._contract.refusal_faults):
            return RefusedWhole(REFUSED, without_values(fault.text, *invoices))
        return Unknown(biller.slug, SERVICE, "answered with a SOAP fault")

    def _refused_call(self, biller: Biller, said: str, invoices: Sequence[InvoiceIssued]) -> Exception:
        """No without a result: of an invoice only if IC takes others, so alone it proves nothing."""
        self._wrong_key(biller, said)
        doubt = Unknown(
            biller.slug, SERVICE, "refuses the call, and the answer has no result for the invoice"
        )
        return RefusedWhole(REFUSED, without_values(said, *invoices), doubt)

    def _wrong_key(self, biller: Biller, text: str) -> None:
        if self._contract.wrong_key_fault in text:
            raise Outage(biller.slug, SERVICE, "refuses the Web Service Key or the Biller GUID")

    def _says(self, answer: dict[str, Any], text: str) -> bool:
        return text in str(answer.get(self._contract.reply["error"]) or "")


def named(names: dict[str, str], values: dict[str, Any]) -> dict[str, Any]:
    """Values under the partner's names."""
    return {wire: values[ours] for ours, wire in names.items() if values[ours] is not None}


def without_values(said: str, *invoices: InvoiceIssued) -> str:
    """IC's words on a refusal, short, and without the customers' data."""
    told = " ".join(said.split())
    for invoice in invoices:
        values = (invoice.account, invoice.customer_name, invoice.email, invoice.phone, invoice.address1)
        for value in filter(None, values):
            told = told.replace(value, "***")
    return re.sub(r"[0-9]{5,}", "***", told)[:200]
