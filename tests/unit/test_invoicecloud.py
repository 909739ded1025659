"""SOAP with IC: the bytes of a request, and what each kind of answer means."""

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from services.bus.batching import RefusedWhole
from services.bus.lane import Rejected
from services.bus.partner import Outage, Reply, Retryable, Unknown
from services.bus.settings import ConfigurationError
from services.events import InvoiceIssued
from services.invoices.invoicecloud import (
    ENVELOPE_BYTES,
    InvoiceCloud,
    Uploaded,
    load_contract,
    without_values,
)
from services.invoices.soap import Soap
from tests.unit import invoices_sample

GOLDEN = Path(__file__).parent / "golden"
ACME = invoices_sample.biller()
CONTRACT, SOAP = load_contract(invoices_sample.PARTNERS)
ENVELOPE = 500
"""Bytes around the invoices of a call, and fewer than there are."""
NAMESPACE = "http://www.invoicecloud.example/CloudInvoicing/"


def invoice(**changes: Any) -> InvoiceIssued:
    values: dict[str, Any] = {
        "biller": "acme",
        "account": "0000004711",
        "invoice_number": "INV-4711",
        "file_id": "f" * 64,
        "row": 3,
        "customer_name": "Esme Copperfell & Söhne",
        "city": "Nowhere Falls",
        "email": "esme@mail.example",
        "invoice_date": date(2026, 11, 1),
        "due_date": date(2026, 11, 20),
        "past_due": Decimal("10.00"),
        "current_charges": Decimal("50.05"),
        "balance_due": Decimal("60.05"),
        "minimum_due": Decimal("60.05"),
        "credit": Decimal("0.00"),
        "first_notify_date": date(2026, 11, 6),
        "autopay": True,
        "paperless": True,
        "bill_id": "B1",
        "bill_link": "https://bills.example/bills/acme/token",
        "bill_link_expires_at": datetime(2027, 12, 6, tzinfo=UTC),
        "content": "0123456789abcdef",
        "issued_at": datetime(2026, 11, 2, tzinfo=UTC),
    }
    return InvoiceIssued(**(values | changes))


class Answering:
    """A partner client that answers with given bytes, or fails, and remembers what it was asked."""

    def __init__(self, answer: bytes | Exception, status: int = 200) -> None:
        self.answer = answer
        self.status = status
        self.asked: dict[str, Any] = {}

    async def request(self, method: str, url: str, **how: Any) -> Reply:
        self.asked = {"method": method, "url": url} | how
        if isinstance(self.answer, Exception):
            raise self.answer
        return Reply(self.status, {}, self.answer)


def cloud(answer: bytes | Exception, status: int = 200) -> tuple[InvoiceCloud, Answering]:
    http: Any = Answering(answer, status)
    billers: Any = {"acme": ACME}
    return InvoiceCloud(http, billers, invoices_sample.OneSecret(), CONTRACT, SOAP), http


def envelope(body: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        '<soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/"><soap:Body>'
        f"{body}</soap:Body></soap:Envelope>"
    ).encode()


def uploaded(inner: str) -> bytes:
    return envelope(
        f'<UploadInvoiceResponse xmlns="{NAMESPACE}"><UploadInvoiceResult>{inner}'
        "</UploadInvoiceResult></UploadInvoiceResponse>"
    )


def viewed(inner: str) -> bytes:
    return envelope(
        f'<ViewInvoiceByInvoiceNumberResponse xmlns="{NAMESPACE}"><ViewInvoiceByInvoiceNumberResult>{inner}'
        "</ViewInvoiceByInvoiceNumberResult></ViewInvoiceByInvoiceNumberResponse>"
    )


def result(number: str, success: str, rest: str = "") -> str:
    return (
        f"<InvoiceResult><InvoiceNumber>{number}</InvoiceNumber><Success>{success}</Success>{rest}"
        "</InvoiceResult>"
    )


def results(*each: str) -> bytes:
    return uploaded(f"<Success>true</Success><Results>{''.join(each)}</Results>")


def fault(text: str) -> bytes:
    return envelope(
        f"<soap:Fault><faultcode>soap:Client</faultcode><faultstring>{text}</faultstring></soap:Fault>"
    )


async def upload_one(client: InvoiceCloud, one: InvoiceIssued) -> Uploaded:
    """What became of one invoice in a call of its own."""
    (answer,) = await client.upload([one])
    if isinstance(answer, Unknown):
        raise answer
    return answer


GOOD = results(result("INV-4711", "true", "<Reference>I00000009</Reference>"))


async def test_the_request_is_as_agreed_byte_for_byte() -> None:
    client, http = cloud(GOOD)
    assert await upload_one(client, invoice()) == Uploaded(True, "I00000009")
    assert http.asked["data"].decode() == (GOLDEN / "upload_invoice.xml").read_text(encoding="utf-8").strip()
    assert http.asked["url"] == ACME.invoice_cloud.url
    assert http.asked["headers"]["SOAPAction"] == f'"{NAMESPACE}UploadInvoice"'
    assert http.asked["deadline_s"] == ACME.invoice_cloud.deadline_s


async def test_the_look_up_is_as_agreed_byte_for_byte() -> None:
    client, http = cloud(viewed("<Success>false</Success><ErrorMessage>Invoice not found</ErrorMessage>"))
    assert await client.view("acme", "INV-4711") is None
    assert http.asked["data"].decode() == (GOLDEN / "view_invoice.xml").read_text(encoding="utf-8").strip()


@pytest.mark.parametrize("paperless", [True, False])
async def test_paper_invoices_is_the_inverse_of_paperless(paperless: bool) -> None:
    client, http = cloud(GOOD)
    await upload_one(client, invoice(paperless=paperless))
    told = "false" if paperless else "true"
    assert f"<ns0:PaperInvoices>{told}</ns0:PaperInvoices>" in http.asked["data"].decode()


async def test_what_stands_for_blocks_and_partial_payments_is_always_false() -> None:
    client, http = cloud(GOOD)
    await upload_one(client, invoice())
    sent = http.asked["data"].decode()
    for name in ("AllowPartialPayments", "BlockPaymentsCC", "BlockPaymentsEFT"):
        assert f"<ns0:{name}>false</ns0:{name}>" in sent


async def test_a_credit_is_kept_apart_and_nothing_below_zero_goes_to_ic() -> None:
    client, http = cloud(GOOD)
    amounts = {"past_due": Decimal("-50.00"), "current_charges": Decimal("20.00")}
    zero = Decimal("0.00")
    await upload_one(client, invoice(**amounts, balance_due=zero, minimum_due=zero, credit=Decimal("30.00")))
    sent = http.asked["data"].decode()
    assert "<ns0:PastDueAmount>0.00</ns0:PastDueAmount>" in sent
    assert "<ns0:CreditAmount>30.00</ns0:CreditAmount>" in sent


async def test_an_invoice_that_is_refused_says_why_without_the_customers_data() -> None:
    said = "<ErrorMessage>Account 0000004711 of Esme Copperfell &amp; Söhne 12345678 is closed</ErrorMessage>"
    client, _ = cloud(results(result("INV-4711", "false", said)))
    assert await upload_one(client, invoice()) == Uploaded(False, said="Account *** of *** *** is closed")


@pytest.mark.parametrize(
    ("answer", "kind", "reason"),
    [
        (results(result("INV-1", "true")), Unknown, "no result"),
        (results(), Unknown, "no result"),
        (uploaded("<Success>true</Success>"), Unknown, "no result"),
        (results(result("INV-4711", "true"), result("INV-4711", "false")), Unknown, "no result"),
        (b"<html><body>Welcome</body></html>", Unknown, "not what the WSDL says"),
        (b"{}", Unknown, "not what the WSDL says"),
        (envelope("<other/>"), Unknown, "not what the WSDL says"),
        (envelope(""), Unknown, "not what the WSDL says"),
        (viewed("<Success>true</Success>"), Unknown, "not what the WSDL says"),
        (b'<!DOCTYPE x [<!ENTITY a "b">]><x>&a;</x>', Unknown, "not what the WSDL says"),
        (fault("Server was unable to process request"), Unknown, "fault"),
        (fault("Invalid BillerGUID or WebServiceKey"), Outage, "Web Service Key"),
        (
            uploaded(
                "<Success>false</Success><ErrorMessage>Invalid BillerGUID or WebServiceKey</ErrorMessage>"
            ),
            Outage,
            "Web Service Key",
        ),
    ],
)
async def test_an_answer_that_is_no_word_on_the_invoice_is_never_taken_for_one(
    answer: bytes, kind: type[Exception], reason: str
) -> None:
    client, _ = cloud(answer)
    with pytest.raises(kind, match=reason):
        await upload_one(client, invoice())


async def test_a_fault_is_a_refusal_only_where_the_contract_names_it() -> None:
    contract = CONTRACT.model_copy(update={"refusal_faults": ("Invoice is locked",)})
    http: Any = Answering(fault("Invoice is locked by 0000004711"), 500)
    billers: Any = {"acme": ACME}
    client = InvoiceCloud(http, billers, invoices_sample.OneSecret(), contract, SOAP)
    with pytest.raises(RefusedWhole) as refused:
        await upload_one(client, invoice())
    assert refused.value.doubt is None
    assert refused.value.rejected == Rejected("refused_by_invoicecloud", "Invoice is locked by ***")


async def test_many_invoices_go_in_one_call_and_each_has_its_own_result() -> None:
    many = [invoice(invoice_number=f"INV-{number}", account=f"{number:010d}") for number in range(4)]
    said = "<ErrorMessage>closed</ErrorMessage>"
    client, http = cloud(
        results(
            result("INV-3", "true", "<Reference>R3</Reference>"),
            result("INV-0", "true", "<Reference>R0</Reference>"),
            result("INV-1", "false", said),
            result("INV-9", "true"),
        )
    )
    answers = await client.upload(many)
    assert answers[:2] == [Uploaded(True, "R0"), Uploaded(False, said="closed")]
    assert isinstance(answers[2], Unknown)
    assert answers[3] == Uploaded(True, "R3")
    assert [http.asked["data"].count(f">INV-{number}<".encode()) for number in range(4)] == [1, 1, 1, 1]


async def test_a_number_that_was_sent_twice_has_its_results_in_the_order_of_the_request() -> None:
    twice = [invoice(), invoice(account="0000004712", content="f" * 16)]
    both = (result("INV-4711", "true", "<Reference>R1</Reference>"), result("INV-4711", "false"))
    client, _ = cloud(results(*both))
    assert await client.upload(twice) == [Uploaded(True, "R1"), Uploaded(False, said="")]
    client, _ = cloud(results(both[0]))
    assert all(isinstance(answer, Unknown) for answer in await client.upload(twice))


async def test_a_call_refused_without_a_word_on_any_invoice_is_refused_whole() -> None:
    client, _ = cloud(uploaded("<Success>false</Success><ErrorMessage>busy, 0000004711</ErrorMessage>"))
    with pytest.raises(RefusedWhole) as refused:
        await client.upload([invoice(), invoice(invoice_number="INV-2")])
    assert refused.value.rejected == Rejected("refused_by_invoicecloud", "busy, ***")
    assert isinstance(refused.value.doubt, Unknown)


@pytest.mark.parametrize("text", ["a", "ü" * 60, "&<>" * 20, "𝔘" * 60])
async def test_an_invoice_is_never_larger_than_it_is_taken_for(text: str) -> None:
    texts = ("account", "customer_name", "address1", "address2", "city", "postal_code", "phone", "email")
    day, most = date(2026, 12, 31), Decimal("9999999999.99")
    amounts = dict.fromkeys(("past_due", "balance_due", "minimum_due", "credit"), most)
    days = dict.fromkeys(("autopay_collection_date", "second_notify_date", "third_notify_date"), day)
    one = invoice(**dict.fromkeys(texts, text), **amounts, **days, customer_id=text, region=text)
    client, http = cloud(GOOD)
    await upload_one(client, one)
    assert len(http.asked["data"]) - ENVELOPE < client.size_of(one) < 3 * len(http.asked["data"])
    assert ENVELOPE < ENVELOPE_BYTES
    assert client.most_bytes + ENVELOPE_BYTES == CONTRACT.max_bytes


VIEWED = (
    "<Success>true</Success><Reference>I00000009</Reference><Invoice>"
    "<InvoiceNumber>INV-4711</InvoiceNumber><InvoiceDate>2026-11-01</InvoiceDate>"
    "<InvoiceDueDate>2026-11-20</InvoiceDueDate><AutoPayCollectionDate>0001-01-01</AutoPayCollectionDate>"
    "<TotalAmountDue>60.05</TotalAmountDue><BalanceDue>60.05</BalanceDue>"
    "<MinimumAmountDue>60.05</MinimumAmountDue><AllowPartialPayments>false</AllowPartialPayments>"
    "<FirstNotifyRequestedDate>2026-11-06</FirstNotifyRequestedDate>"
    "<SecondNotifyRequestedDate>0001-01-01</SecondNotifyRequestedDate>"
    "<ThirdNotifyRequestedDate>0001-01-01</ThirdNotifyRequestedDate>"
    "<BillerReference>0123456789abcdef</BillerReference>"
    "<Customer><AccountNumber>0000004711</AccountNumber><AutoPay>true</AutoPay>"
    "<PaperInvoices>false</PaperInvoices><BlockPaymentsCC>false</BlockPaymentsCC>"
    "<BlockPaymentsEFT>false</BlockPaymentsEFT></Customer></Invoice>"
)


async def test_an_invoice_is_found_only_with_its_own_content() -> None:
    client, _ = cloud(viewed(VIEWED))
    found = await client.view("acme", "INV-4711")
    assert found is not None
    assert found.reference == "I00000009"
    assert found.is_of(invoice())
    assert not found.is_of(invoice(content="fedcba9876543210"))


async def test_where_ic_keeps_no_reference_dates_and_amounts_tell_the_content() -> None:
    client, _ = cloud(viewed(VIEWED.replace("<BillerReference>0123456789abcdef</BillerReference>", "")))
    found = await client.view("acme", "INV-4711")
    assert found is not None
    assert found.is_of(invoice(content="fedcba9876543210"))
    assert not found.is_of(invoice(balance_due=Decimal("60.06")))
    assert not found.is_of(invoice(autopay_collection_date=date(2026, 11, 20)))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (fault("Server was unable to process request"), Retryable),
        (fault("Invalid BillerGUID or WebServiceKey"), Outage),
        (viewed("<Success>false</Success><ErrorMessage>busy</ErrorMessage>"), Retryable),
        (viewed("<Success>true</Success>"), Retryable),
        (b"", Retryable),
        (Unknown("acme", "ic.invoices", "no answer within the deadline"), Retryable),
        (Outage("acme", "ic.invoices", "answered 503"), Outage),
    ],
)
async def test_a_look_up_without_an_answer_is_tried_again(
    answer: bytes | Exception, kind: type[Exception]
) -> None:
    client, _ = cloud(answer)
    with pytest.raises(kind):
        await client.view("acme", "INV-4711")


def test_a_partners_words_are_kept_short() -> None:
    assert len(without_values("no " * 500, invoice())) == 200


def test_a_wsdl_that_cannot_be_read_is_said_at_start(tmp_path: Path) -> None:
    broken = tmp_path / "broken.wsdl"
    broken.write_text("<wsdl")
    with pytest.raises(ConfigurationError, match=r"broken\.wsdl"):
        Soap(broken, CONTRACT.binding)
    with pytest.raises(ConfigurationError, match="KeyError"):
        Soap(invoices_sample.PARTNERS / CONTRACT.wsdl, "{x}Other")
