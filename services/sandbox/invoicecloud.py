"""InvoiceCloud's CloudInvoicing.asmx: takes invoices, with a result each, and shows them again."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from starlette.responses import Response

from services.sandbox.amounts import cents
from services.sandbox.environment import Contracts
from services.sandbox.faults import Fault, Operation
from services.sandbox.insurers import Insurer, Insurers
from services.sandbox.ledger import Ledger
from services.sandbox.soap import SoapError, Tree, Wsdl, children, fault
from services.sandbox.wire import Asked

OPERATIONS = (
    Operation("ic.soap.upload_invoice", effect=True),
    Operation("ic.soap.view_invoice"),
)
_AMOUNTS = ("total_due", "balance_due", "minimum_due", "past_due", "credit")
_TOLD = "Refused, as told"


@dataclass(frozen=True, slots=True)
class SoapCall:
    """A call that was understood, with the operation it is."""

    operation: str
    asked: Asked


class InvoiceCloud:
    """Understands an envelope and says what answering it would do.

    `faulty` says of one invoice (insurer, invoice number) which fault hits it by itself, if any.
    """

    def __init__(
        self,
        contracts: Contracts,
        insurers: Insurers,
        ledger: Ledger,
        faulty: Callable[[str, str], Fault | None],
    ) -> None:
        self._rules: dict[str, Any] = contracts.invoicecloud["soap"]
        self.wsdl = Wsdl(contracts.wsdl)
        self._insurers = insurers
        self._ledger = ledger
        self._faulty = faulty

    @property
    def max_bytes(self) -> int:
        """The largest envelope that is taken."""
        return int(self._rules["max_bytes"])

    def understand(self, content: bytes) -> SoapCall | Response:
        """What is asked, or the fault of somebody or something it does not understand."""
        try:
            operation, parameters = self.wsdl.read(content)
        except SoapError as error:
            return faulty(str(error))
        names = self._rules["request"]
        request = parameters.get(names["envelope"])
        known = {
            self._upload_name: (OPERATIONS[0], self._upload),
            self._view_name: (OPERATIONS[1], self._view),
        }
        if operation not in known or not isinstance(request, dict):
            return faulty("There is no such operation")
        insurer, key = (
            self._insurers.by_guid(request[names["biller_guid"]]),
            request[names["web_service_key"]],
        )
        if insurer is None or not self._insurers.knows(insurer.web_service_key, key):
            return faulty(str(self._rules["wrong_key_fault"]))
        named, understood = known[operation]
        return SoapCall(named.name, understood(insurer, request))

    def _upload(self, insurer: Insurer, request: Tree) -> Asked:
        names = self._rules["request"]
        sent = request[names["invoices"]]
        invoices = children(sent, names["invoice"]) if isinstance(sent, dict) else []
        subjects = tuple(about for one in invoices for about in (self._number(one), self._account(one)))

        def answer() -> Response:
            most = int(self._rules["max_invoices"])
            if not invoices or len(invoices) > most:
                return self._said(
                    self._upload_name, self._no(f"Between 1 and {most} invoices are taken at once")
                )
            with self._ledger.effect():
                results = [self._take(insurer, invoice) for invoice in invoices]
            return self._results([result for result in results if result is not None])

        def refuse() -> Response:
            return self._results([self._result(invoice, error=_TOLD) for invoice in invoices])

        def refuse_whole() -> Response:
            return self._said(self._upload_name, self._no(_TOLD))

        return Asked(insurer.slug, subjects, answer, refuse, refuse_whole)

    def _take(self, insurer: Insurer, invoice: Tree) -> Tree | None:
        """One invoice: a row of the ledger, or the reason why not; None where its result is left out."""
        number = self._number(invoice)
        fault = self._faulty(insurer.slug, number)
        if fault is not None and fault.kind == "reject":
            return self._result(invoice, error=_TOLD)
        wrong = self._wrong(insurer, invoice)
        if wrong:
            return self._result(invoice, error=wrong)
        balance = self._rules["invoice"]["balance_due"]
        seq = self._ledger.add(
            "invoices",
            biller=insurer.slug,
            natural_id=number,
            account=self._account(invoice),
            fields=invoice,
            at=self._ledger.tick(),
            amount=cents(invoice[balance], balance),
        )
        return None if fault is not None else self._result(invoice, reference=_reference(seq))

    def _wrong(self, insurer: Insurer, invoice: Tree) -> str | None:
        """Why IC would not take an invoice that the schema allows."""
        names = self._rules["invoice"]
        if not self._number(invoice).strip():
            return f"{names['invoice_number']} is empty"
        if not self._account(invoice).strip():
            return f"{self._rules['customer']['account']} is empty"
        set_up = {"invoice_type_id": insurer.invoice_type_id, "biller_code": insurer.biller_code}
        for name, known in set_up.items():
            if known and invoice.get(names[name], known) != known:
                return f"{names[name]} is not this biller's"
        negative = [names[name] for name in _AMOUNTS if Decimal(invoice.get(names[name]) or 0) < 0]
        return f"{negative[0]} is below zero" if negative else None

    def _view(self, insurer: Insurer, request: Tree) -> Asked:
        names, reply = self._rules["request"], self._rules["reply"]
        number = request[names["invoice_number"]]

        def answer() -> Response:
            row = self._ledger.newest("invoices", insurer.slug, number)
            if row is None:
                return self._said(self._view_name, self._no(str(self._rules["not_found"])))
            shown = {
                reply["success"]: True,
                reply["reference"]: _reference(row.seq),
                reply["invoice"]: row.fields,
            }
            return self._said(self._view_name, shown)

        return Asked(insurer.slug, (number,), answer, lambda: self._said(self._view_name, self._no(_TOLD)))

    def _results(self, results: list[Tree]) -> Response:
        """Success of the whole call says that it was worked on; each invoice has its own."""
        reply = self._rules["reply"]
        return self._said(
            self._upload_name, {reply["success"]: True, reply["results"]: {reply["result"]: results}}
        )

    def _result(self, invoice: Tree, *, error: str | None = None, reference: str | None = None) -> Tree:
        reply = self._rules["reply"]
        return {
            reply["invoice_number"]: self._number(invoice),
            reply["success"]: error is None,
            reply["error"]: error,
            reply["reference"]: reference,
        }

    def _no(self, message: str) -> Tree:
        return {self._rules["reply"]["success"]: False, self._rules["reply"]["error"]: message}

    def _said(self, operation: str, result: Tree) -> Response:
        return _xml(self.wsdl.envelope(f"{operation}Response", {f"{operation}Result": result}))

    def _number(self, invoice: Tree) -> str:
        return str(invoice[self._rules["invoice"]["invoice_number"]])

    def _account(self, invoice: Tree) -> str:
        return str(invoice[self._rules["request"]["customer"]][self._rules["customer"]["account"]])

    @property
    def _upload_name(self) -> str:
        return str(self._rules["operations"]["upload"])

    @property
    def _view_name(self) -> str:
        return str(self._rules["operations"]["view"])


def faulty(message: str) -> Response:
    """A SOAP fault over HTTP."""
    return _xml(fault(message), 500)


def _xml(content: bytes, status: int = 200) -> Response:
    return Response(content, status, media_type="text/xml")


def _reference(seq: int) -> str:
    return f"I{seq:08d}"
