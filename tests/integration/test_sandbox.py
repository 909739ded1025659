"""The sandbox as a process of its own: both partners, each fault, and IC's side at play."""

import threading
import time
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
import zeep
from zeep.exceptions import Fault as SoapFault

from tests.deadline import until
from tests.sandbox_process import ACME_GUID, RunningSandbox, payment, running_sandbox, secret

ACCOUNT = "0000001001"
EMPTY_DATE = "0001-01-01"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSandbox]:
    with running_sandbox(tmp_path_factory.mktemp("sandbox")) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running: RunningSandbox) -> RunningSandbox:
    running.forget()
    running.seed(
        {
            "account": ACCOUNT,
            "past_due": "20.00",
            "current_charges": "100.50",
            "policies": ["P-1"],
            "bills": ["B-1", {"bill_id": "B-2", "bytes": 300_000}],
        }
    )
    return running


def count(sandbox: RunningSandbox, kind: str = "payments") -> int:
    return int(sandbox.ledger(kind)["count"])


def balance(sandbox: RunningSandbox) -> dict[str, str]:
    return dict(sandbox.imt("GET", f"/payments-due/accounts/{ACCOUNT}").json())


# IMT


def test_a_payment_lowers_the_balance_and_shows_in_the_changes(sandbox: RunningSandbox) -> None:
    before = balance(sandbox)
    assert sandbox.pay("g-1", amount="30.00").status_code == 201
    after = balance(sandbox)
    assert (before["BalanceDue"], before["PastDue"]) == ("120.50", "20.00")
    assert (after["BalanceDue"], after["PastDue"], after["MinimumDue"]) == ("90.50", "0.00", "90.50")
    assert after["AsOf"] > before["AsOf"]
    feed = sandbox.imt("GET", "/payments-due/changes", params={"since": after["AsOf"]}).json()
    assert feed["Changes"] == [after | {"Cause": "Payment"}]
    assert feed["More"] is False
    assert sandbox.imt("GET", "/payments-due/changes", params={"after": feed["Next"]}).json()["Changes"] == []


def test_what_is_too_much_becomes_a_credit(sandbox: RunningSandbox) -> None:
    sandbox.pay("g-1", amount="200.00")
    after = balance(sandbox)
    assert (after["BalanceDue"], after["CreditAmount"]) == ("0.00", "79.50")


def test_the_same_payment_twice_takes_effect_twice_and_the_look_up_says_so(sandbox: RunningSandbox) -> None:
    first, second = sandbox.pay("g-1").json(), sandbox.pay("g-1", amount="11.00").json()
    assert first["Reference"] != second["Reference"]
    found = sandbox.imt("GET", "/datapump/payments/g-1").json()
    assert found == payment("g-1") | {"Count": 2} | {name: first[name] for name in ("Reference", "PostedAt")}
    ledger = sandbox.ledger("payments")
    assert ledger["doubled"] == [{"biller": "acme", "natural_id": "g-1", "count": 2}]
    assert [row["amount"] for row in ledger["rows"]] == ["10.00", "11.00"]


def test_a_batch_is_listed_page_by_page(sandbox: RunningSandbox) -> None:
    for number in range(5):
        sandbox.pay(f"g-{number}", amount="1.10")
    query = {"batchDate": "2026-11-20", "limit": "2"}
    seen: list[str] = []
    while True:
        page = sandbox.imt("GET", "/datapump/payments", params=query).json()
        assert (page["Count"], page["Total"]) == (5, "5.50")
        seen += [one["PaymentGUID"] for one in page["Payments"]]
        if not page["More"]:
            break
        query["after"] = page["Next"]
    assert seen == [f"g-{number}" for number in range(5)]


def test_settings_are_absolute_and_each_post_is_a_row(sandbox: RunningSandbox) -> None:
    for value in ("T", "T", "F"):
        sandbox.imt("POST", "/settings/P-1", json={"Indicator": "AutoPay", "Value": value, "ChangeID": "c"})
    sandbox.imt("POST", "/settings/P-1", json={"Indicator": "Paperless", "Value": "T"})
    found = sandbox.imt("GET", "/settings/P-1").json()
    assert [(one["Indicator"], one["Value"]) for one in found["Settings"]] == [
        ("AutoPay", "F"),
        ("Paperless", "T"),
    ]
    assert count(sandbox, "settings") == 4


def test_a_bill_is_a_pdf_and_head_says_how_large(sandbox: RunningSandbox) -> None:
    head, got = sandbox.imt("HEAD", "/bills/B-2"), sandbox.imt("GET", "/bills/B-2")
    assert head.headers["content-length"] == str(len(got.content))
    assert got.content.startswith(b"%PDF-")
    assert len(got.content) >= 300_000
    assert sandbox.imt("HEAD", "/bills/B-9").status_code == 404
    sandbox.http.post("/control/accounts", json={"biller": "acme", "bills_gone": ["B-2"]}).raise_for_status()
    assert sandbox.imt("GET", "/bills/B-2").status_code == 404


def test_a_body_beyond_a_megabyte_is_not_taken(sandbox: RunningSandbox) -> None:
    reply = sandbox.imt("POST", "/datapump/payments", content=b" " * (1024 * 1024 + 1))
    assert reply.status_code == 413


# faults


def test_slow(sandbox: RunningSandbox) -> None:
    sandbox.fault(service="imt.datapump", kind="slow", delay_s=0.3)
    began = time.monotonic()
    assert sandbox.pay("g-1").status_code == 201
    assert time.monotonic() - began >= 0.3


def test_apply_then_hang(sandbox: RunningSandbox) -> None:
    sandbox.fault(service="imt.datapump", kind="apply_then_hang", count=1, delay_s=20)
    with pytest.raises(httpx.ReadTimeout):
        sandbox.imt("POST", "/datapump/payments", json=payment("g-1"), timeout=0.3)
    found = sandbox.imt("GET", "/datapump/payments/g-1")
    assert (found.status_code, found.json()["Count"]) == (200, 1)


def test_hang_then_apply_takes_effect_though_the_caller_has_gone(sandbox: RunningSandbox) -> None:
    sandbox.fault(service="imt.datapump", kind="hang_then_apply", count=1, delay_s=0.6)
    with pytest.raises(httpx.ReadTimeout):
        sandbox.imt("POST", "/datapump/payments", json=payment("g-1"), timeout=0.2)
    assert sandbox.imt("GET", "/datapump/payments/g-1").status_code == 404
    until(lambda: count(sandbox) == 1, 5, "the late effect")


@pytest.mark.parametrize(
    ("fault", "effects"),
    [
        ({"kind": "reset", "when": "before"}, 0),
        ({"kind": "reset"}, 1),
        ({"kind": "truncated"}, 1),
        ({"kind": "apply_then_hang", "delay_s": 0.1}, 1),
    ],
)
def test_connections_that_break(sandbox: RunningSandbox, fault: dict[str, Any], effects: int) -> None:
    sandbox.fault(service="imt.datapump", count=1, **fault)
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        sandbox.pay("g-1")
    assert count(sandbox) == effects
    assert sandbox.pay("g-2").status_code == 201, "the next connection is well"


def test_a_reset_is_one(sandbox: RunningSandbox) -> None:
    sandbox.fault(service="imt.datapump", kind="reset", count=1)
    with pytest.raises(httpx.ReadError) as raised:
        sandbox.pay("g-1")
    causes: list[BaseException] = []
    cause: BaseException | None = raised.value
    while cause is not None:
        causes.append(cause)
        cause = cause.__cause__ or cause.__context__
    assert any(isinstance(one, ConnectionResetError) for one in causes)


@pytest.mark.parametrize(
    ("fault", "status", "kind", "effects"),
    [
        ({"kind": "error"}, 500, "text/plain", 0),
        ({"kind": "error_after"}, 500, "text/plain", 1),
        ({"kind": "reject"}, 422, "application/json", 0),
        ({"kind": "maintenance"}, 503, "text/html", 0),
        ({"kind": "wrong_content_type"}, 200, "text/html", 0),
        ({"kind": "wrong_content_type", "when": "after"}, 200, "text/html", 1),
        ({"kind": "wrong_body"}, 201, "application/json", 1),
    ],
)
def test_answers_that_are_wrong(
    sandbox: RunningSandbox, fault: dict[str, Any], status: int, kind: str, effects: int
) -> None:
    sandbox.fault(service="imt.datapump", count=1, **fault)
    reply = sandbox.pay("g-1")
    assert (reply.status_code, reply.headers["content-type"].partition(";")[0]) == (status, kind)
    assert count(sandbox) == effects


def test_an_empty_success(sandbox: RunningSandbox) -> None:
    sandbox.fault(service="imt.datapump", kind="empty_success", count=1)
    reply = sandbox.pay("g-1")
    assert (reply.status_code, reply.content, count(sandbox)) == (201, b"", 1)


def test_a_fault_for_one_account_leaves_the_others_alone(sandbox: RunningSandbox) -> None:
    sandbox.seed({"account": "0000001002"})
    fault = sandbox.fault(service="imt.datapump.post_payment", kind="error", subject=ACCOUNT)
    assert [sandbox.pay("g-1").status_code, sandbox.pay("g-2", "0000001002").status_code] == [500, 201]
    on = sandbox.http.get("/control/faults").json()["on"]
    assert (on[0]["id"], on[0]["hits"]) == (fault["id"], 1)


def test_a_restored_backup(sandbox: RunningSandbox) -> None:
    sandbox.pay("g-1", amount="20.00")
    last = sandbox.ledger("payments")["last_seq"]
    sandbox.pay("g-2", amount="50.00")
    sandbox.http.delete("/control/ledger/payments", params={"after": last}).raise_for_status()
    assert sandbox.imt("GET", "/datapump/payments/g-2").status_code == 404
    assert balance(sandbox)["BalanceDue"] == "100.50"


# InvoiceCloud


def invoice(number: str, **other: Any) -> dict[str, Any]:
    return {
        "InvoiceNumber": number,
        "InvoiceTypeID": "101",
        "InvoiceDate": date(2026, 11, 1),
        "InvoiceDueDate": date(2026, 12, 1),
        "AutoPayCollectionDate": EMPTY_DATE,
        "TotalAmountDue": Decimal("120.50"),
        "BalanceDue": Decimal("120.50"),
        "MinimumAmountDue": Decimal("120.50"),
        "AllowPartialPayments": False,
        "FirstNotifyRequestedDate": date(2026, 11, 15),
        "SecondNotifyRequestedDate": EMPTY_DATE,
        "ThirdNotifyRequestedDate": EMPTY_DATE,
        "BillLink": "http://127.0.0.1:1/bills/acme/token?a=1&b=2",
        "BillerReference": "0123456789abcdef",
        "Customer": {
            "AccountNumber": ACCOUNT,
            "CustomerName": "Zoë O'<Hara> & Sons",
            "AutoPay": True,
            "PaperInvoices": False,
            "BlockPaymentsCC": False,
            "BlockPaymentsEFT": False,
        },
        **other,
    }


class Soap:
    """A caller of CloudInvoicing.asmx that knows it by its WSDL alone."""

    def __init__(self, sandbox: RunningSandbox) -> None:
        self.client = zeep.Client(f"{sandbox.url}/ic/CloudInvoicing.asmx?wsdl")
        self.access = {"BillerGUID": ACME_GUID, "WebServiceKey": secret("acme", "ic-key")}

    def upload(self, *invoices: dict[str, Any]) -> Any:
        return self.client.service.UploadInvoice(Req=self.access | {"Invoices": {"Invoice": list(invoices)}})

    def view(self, number: str) -> Any:
        return self.client.service.ViewInvoiceByInvoiceNumber(Req=self.access | {"InvoiceNumber": number})

    def close(self) -> None:
        self.client.transport.session.close()


@pytest.fixture
def soap(sandbox: RunningSandbox) -> Iterator[Soap]:
    caller = Soap(sandbox)
    yield caller
    caller.close()


def test_an_uploaded_invoice_is_shown_with_all_its_fields(sandbox: RunningSandbox, soap: Soap) -> None:
    answer = soap.upload(invoice("I-1"))
    assert answer.Success
    assert answer.Results.InvoiceResult[0].Success
    shown = soap.view("I-1")
    sent = invoice("I-1")
    assert shown.Reference == answer.Results.InvoiceResult[0].Reference
    assert shown.Invoice.Customer.CustomerName == sent["Customer"]["CustomerName"]
    assert shown.Invoice.Customer.PaperInvoices is False
    assert shown.Invoice.AutoPayCollectionDate == date(1, 1, 1)
    told = [name for name in sent if name not in ("Customer",) and sent[name] != EMPTY_DATE]
    assert {name: shown.Invoice[name] for name in told} == {name: sent[name] for name in told}
    row = sandbox.ledger("invoices")["rows"][0]
    assert (row["natural_id"], row["account"], row["amount"]) == ("I-1", ACCOUNT, "120.50")


def test_each_invoice_has_a_result_of_its_own(sandbox: RunningSandbox, soap: Soap) -> None:
    sandbox.fault(service="ic.soap", kind="reject", subject="I-3")
    wrong = [invoice("I-2", InvoiceTypeID="9"), invoice("I-3"), invoice("I-4", BalanceDue=Decimal("-1.00"))]
    results = soap.upload(invoice("I-1"), *wrong, invoice("I-5")).Results.InvoiceResult
    assert [one.Success for one in results] == [True, False, False, False, True]
    assert results[1].ErrorMessage == "InvoiceTypeID is not this biller's"
    assert [row["natural_id"] for row in sandbox.ledger("invoices")["rows"]] == ["I-1", "I-5"]


def test_a_call_refused_whole_has_no_effect_and_no_results(sandbox: RunningSandbox, soap: Soap) -> None:
    sandbox.fault(service="ic.soap", kind="refuse_whole", subject="I-2")
    answer = soap.upload(invoice("I-1"), invoice("I-2"))
    assert (answer.Success, answer.Results, count(sandbox, "invoices")) == (False, None, 0)
    assert soap.upload(invoice("I-1"), invoice("I-3")).Success


def test_a_result_that_is_left_out_is_of_an_invoice_that_was_taken(
    sandbox: RunningSandbox, soap: Soap
) -> None:
    sandbox.fault(service="ic.soap", kind="omit_result", subject="I-2")
    results = soap.upload(invoice("I-1"), invoice("I-2")).Results.InvoiceResult
    assert [one.InvoiceNumber for one in results] == ["I-1"]
    assert [row["natural_id"] for row in sandbox.ledger("invoices")["rows"]] == ["I-1", "I-2"]


def test_the_same_invoice_twice_is_two_rows_and_the_newest_is_shown(
    sandbox: RunningSandbox, soap: Soap
) -> None:
    soap.upload(invoice("I-1"))
    soap.upload(invoice("I-1"))
    soap.upload(invoice("I-1", BillerReference="another"))
    assert soap.view("I-1").Invoice.BillerReference == "another"
    ledger = sandbox.ledger("invoices")
    assert [one["count"] for one in ledger["doubled"]] == [3]
    assert [one["count"] for one in ledger["repeated"]] == [2]


def test_an_unknown_invoice_is_said_to_be_so(soap: Soap) -> None:
    shown = soap.view("I-9")
    assert (shown.Success, shown.ErrorMessage, shown.Invoice) == (False, "Invoice not found", None)


@pytest.mark.parametrize("access", [{"WebServiceKey": "wrong"}, {"BillerGUID": "nobody"}])
def test_a_wrong_key_is_a_fault(sandbox: RunningSandbox, soap: Soap, access: dict[str, str]) -> None:
    soap.access |= access
    with pytest.raises(SoapFault, match="Invalid BillerGUID or WebServiceKey"):
        soap.upload(invoice("I-1"))
    assert count(sandbox, "invoices") == 0


def test_more_invoices_than_are_taken_at_once(sandbox: RunningSandbox, soap: Soap) -> None:
    answer = soap.upload(*(invoice(f"I-{number}") for number in range(101)))
    assert (answer.Success, count(sandbox, "invoices")) == (False, 0)
    assert "Between 1 and 100" in answer.ErrorMessage


@pytest.mark.parametrize(
    ("kind", "effects"), [("error", 0), ("error_after", 1), ("empty_success", 1), ("maintenance", 0)]
)
def test_faults_of_the_upload(sandbox: RunningSandbox, soap: Soap, kind: str, effects: int) -> None:
    sandbox.fault(service="ic.soap", kind=kind, count=1)
    with pytest.raises(zeep.exceptions.Error):
        soap.upload(invoice("I-1"))
    assert count(sandbox, "invoices") == effects
    assert soap.upload(invoice("I-2")).Success


def test_a_document_type_is_answered_with_a_fault(sandbox: RunningSandbox) -> None:
    reply = sandbox.http.post("/ic/CloudInvoicing.asmx", content=b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>')
    assert (reply.status_code, b"document type" in reply.content) == (500, True)


# IC's side at play


class Service(ThreadingHTTPServer):
    """One of our services as IC sees it: keeps what it is sent."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str, str, bytes]] = []
        super().__init__(("127.0.0.1", 0), _Answering)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answering(BaseHTTPRequestHandler):
    server: Service

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        credential = self.headers.get("Authorization") or ""
        self.server.received.append((self.command, self.path, credential, body))
        said, kind = (
            (b"%PDF-1.4 x", "application/pdf")
            if self.path.startswith("/bills")
            else (b'{"a":1}', "text/json")
        )
        self.send_response(202)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_POST = do_GET = _answer  # noqa: N815 - the names that http.server calls

    def log_message(self, *_: object) -> None:
        """Nothing: what was received is asserted."""


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def play(sandbox: RunningSandbox, what: str, **asked: Any) -> httpx.Response:
    return sandbox.http.post(f"/control/play/{what}", json={"biller": "acme", **asked})


def test_ic_pays_by_form_and_repeats_at_once(sandbox: RunningSandbox, service: Service) -> None:
    asked = {
        "AccountNumber": "00-1001",
        "PaymentAmount": "25.00",
        "Product": "AgentConnect",
        "CustomerName": "A & B",
    }
    played = play(sandbox, "pay", payments=[asked], repeat=2, at_once=True, target=service.url).json()
    assert played["statuses"] == {"202": 2}
    first, second = service.received
    assert first == second
    assert first[1] == "/ic/acme/payments"
    assert first[2].startswith("Basic ")
    form = {name: values[0] for name, values in parse_qs(first[3].decode(), strict_parsing=True).items()}
    assert form | asked == form
    assert (form["BillerGUID"], form["Approved"], form["ConvenienceFee"]) == (ACME_GUID, "True", "0.00")
    assert played["answers"][0]["sent"] == form
    assert played["answers"][0]["body"] == {"a": 1}


def test_ic_pays_in_batches_of_at_most_500(sandbox: RunningSandbox, service: Service) -> None:
    payments = [{"PaymentAmount": "1.00"}] * 501
    played = play(
        sandbox, "pay", payments=payments, auth="bearer", target=service.url, **{"as": "batch"}
    ).json()
    assert [len(answer["sent"]["payments"]) for answer in played["answers"]] == [500, 1]
    assert service.received[0][2] == f"Bearer {secret('acme', 'intake-bearer')}"


def test_ic_enrols_asks_and_sends_a_banks_file(sandbox: RunningSandbox, service: Service) -> None:
    play(
        sandbox,
        "enrol",
        changes=[{"Type": "AutoPay", "AccountNumber": "1", "AutoPay": True}],
        target=service.url,
    )
    play(sandbox, "rtdr", accounts=["00 1/1"], target=service.url)
    play(sandbox, "ivr", typed=["cm-10"], target=service.url, auth="none")
    bank = [{"AccountNumber": "1", "PaymentAmount": "2.50"}]
    play(sandbox, "bank_file", payments=bank, target=service.url)
    received = [(method, path) for method, path, _, _ in service.received]
    assert received == [
        ("POST", "/ic/acme/changes"),
        ("GET", "/ic/acme/balances/00%201%2F1"),
        ("GET", "/ic/acme/ivr/cm-10"),
        ("POST", "/ic/acme/bank-files"),
    ]
    assert b'"ChangeID"' in service.received[0][3]
    assert service.received[2][2] == ""
    assert service.received[3][3].endswith(b"TRAILER,1,2.50\r\n")


def test_a_customer_opens_the_bill_of_an_uploaded_invoice(
    sandbox: RunningSandbox, soap: Soap, service: Service
) -> None:
    soap.upload(invoice("I-1", BillLink=f"{service.url}/bills/acme/token"))
    answer = play(sandbox, "open", invoice_numbers=["I-1"]).json()["answers"][0]
    assert (answer["status"], answer["is_pdf"], answer["bytes"]) == (202, True, 10)
    assert service.received == [("GET", "/bills/acme/token", "", b"")]


def test_a_service_that_is_away_is_told(sandbox: RunningSandbox) -> None:
    answer = play(sandbox, "rtdr", accounts=["1"], target="http://127.0.0.1:9").json()["answers"][0]
    assert (answer["status"], answer["error"]) == (0, "ClientConnectorError")


@pytest.mark.parametrize(
    ("method", "path", "body", "said"),
    [
        ("PUT", "/control/faults", {"service": "imt", "kind": "nonsense"}, "kind"),
        ("PUT", "/control/faults", {"service": "nobody", "kind": "slow"}, "no operation nobody"),
        ("POST", "/control/play/pay", {"biller": "nobody", "payments": [{}]}, "no biller nobody"),
        (
            "POST",
            "/control/accounts",
            {"biller": "acme", "accounts": [{"account": "1", "credit": "x"}]},
            "credit",
        ),
        ("GET", "/control/ledger/refunds", None, "no ledger of refunds"),
        ("GET", "/control/ledger/payments?limit=x", None, "limit"),
        ("PUT", "/control/options", {"unknown_accounts": "maybe"}, "unknown_accounts"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong(
    sandbox: RunningSandbox, method: str, path: str, body: object, said: str
) -> None:
    reply = sandbox.http.request(method, path, json=body)
    assert reply.status_code == 422
    assert said in reply.json()["detail"]


def test_unknown_accounts_can_be_opened(sandbox: RunningSandbox) -> None:
    assert sandbox.pay("g-1", "77").status_code == 422
    sandbox.http.put("/control/options", json={"unknown_accounts": "open"}).raise_for_status()
    assert sandbox.pay("g-2", "77").status_code == 201


def test_the_page_and_the_probes(sandbox: RunningSandbox) -> None:
    assert "<h1>billbus sandbox</h1>" in sandbox.http.get("/").text
    assert [sandbox.http.get(path).status_code for path in ("/livez", "/readyz")] == [200, 200]
    shown = sandbox.http.get("/control/billers").json()
    assert [one["slug"] for one in shown] == ["acme", "birch", "cedar"]
    assert shown[0]["secrets_missing"] == []


def test_the_ledger_outlives_the_process(tmp_path: Path) -> None:
    with running_sandbox(tmp_path) as first:
        first.seed({"account": ACCOUNT})
        first.pay("g-1")
    with running_sandbox(tmp_path) as second:
        assert second.imt("GET", "/datapump/payments/g-1").json()["Count"] == 1
