"""What the sandbox reads and writes: envelopes, PDFs, billers' files, bank files, its page."""

import csv
import io
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from deploy.local.processes import DEMO_BILLERS, ROOT
from services.sandbox.environment import Contracts, SandboxSettings
from services.sandbox.insurers import Insurers
from services.sandbox.ledger import Ledger
from services.sandbox.page import page
from services.sandbox.pdf import bill_pdf
from services.sandbox.play import BankFile, CannotPlay, InvoiceCloudSide, Open, Pay
from services.sandbox.soap import SoapError, Wsdl, fault
from tests.sandbox_process import ACME_GUID, secret, write_secrets

CONTRACTS = Contracts(ROOT / "schemas")
NAMESPACE = str(CONTRACTS.invoicecloud["soap"]["namespace"])


@pytest.fixture(scope="module")
def wsdl() -> Wsdl:
    return Wsdl(CONTRACTS.wsdl)


def enveloped(inner: str, prolog: str = "") -> bytes:
    envelope = "http://schemas.xmlsoap.org/soap/envelope/"
    return f'{prolog}<s:Envelope xmlns:s="{envelope}"><s:Body>{inner}</s:Body></s:Envelope>'.encode()


def view(number: str) -> str:
    return (
        f'<ViewInvoiceByInvoiceNumber xmlns="{NAMESPACE}"><Req><BillerGUID>g</BillerGUID>'
        f"<WebServiceKey>k</WebServiceKey><InvoiceNumber>{number}</InvoiceNumber></Req>"
        "</ViewInvoiceByInvoiceNumber>"
    )


def test_an_envelope_is_read(wsdl: Wsdl) -> None:
    operation, parameters = wsdl.read(enveloped(view("I-1")))
    assert operation == "ViewInvoiceByInvoiceNumber"
    assert parameters["Req"]["InvoiceNumber"] == "I-1"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not well-formed"),
        (b"hello", "not well-formed"),
        (b"<a/>", "not a SOAP 1.1 envelope"),
        (enveloped(""), "not a SOAP 1.1 envelope"),
        (enveloped(view("1") * 2), "not a SOAP 1.1 envelope"),
        (enveloped("<Other/>"), "not as the WSDL has it"),
        (enveloped(view("1").replace("<BillerGUID>g</BillerGUID>", "")), "not as the WSDL has it"),
        (enveloped(view("&e;"), '<!DOCTYPE s [<!ENTITY e "x">]>'), "document type"),
        (enveloped(view("&e;"), '<!DOCTYPE s [<!ENTITY e SYSTEM "file:///etc/hostname">]>'), "document type"),
        (enveloped(view("1"), "<!DOCTYPE s>"), "document type"),
    ],
)
def test_what_is_not_taken_as_an_envelope(wsdl: Wsdl, content: bytes, said: str) -> None:
    with pytest.raises(SoapError, match=said):
        wsdl.read(content)


def test_an_error_of_the_schema_names_the_element_and_not_its_value(wsdl: Wsdl) -> None:
    wrong = view("1").replace("<InvoiceNumber>", "<Secret>my-secret</Secret><InvoiceNumber>")
    with pytest.raises(SoapError) as raised:
        wsdl.read(enveloped(wrong))
    assert "my-secret" not in str(raised.value)


def test_what_is_written_is_escaped_and_omits_what_is_none(wsdl: Wsdl) -> None:
    result = {"InvoiceNumber": "<&>", "Success": False, "ErrorMessage": None}
    written = wsdl.envelope("X", {"Results": [result, result]}).decode()
    assert written.count("<InvoiceNumber>&lt;&amp;&gt;</InvoiceNumber>") == 2
    assert "<Success>false</Success>" in written
    assert "ErrorMessage" not in written


def test_the_wsdl_names_the_address_it_was_asked_at(wsdl: Wsdl) -> None:
    assert b'location="http://there/x.asmx"' in wsdl.at("http://there/x.asmx")


def test_a_fault_is_the_callers() -> None:
    assert b"<faultcode>soap:Client</faultcode><faultstring>a &lt; b</faultstring>" in fault("a < b")


def test_a_bill_is_the_same_bytes_each_time_and_a_whole_pdf() -> None:
    made = bill_pdf(["Bill (1)", "Zoë"])
    assert made == bill_pdf(["Bill (1)", "Zoë"])
    assert made.startswith(b"%PDF-1.4\n")
    assert made.endswith(b"%%EOF\n")
    assert rb"(Bill \(1\)) Tj" in made
    start = re.search(rb"startxref\n(\d+)\n", made)
    assert start is not None
    table = made[int(start[1]) :]
    offsets = [int(offset) for offset in re.findall(rb"(\d{10}) 00000 n", table)]
    assert [made[offset : offset + 7] for offset in offsets] == [
        b"%d 0 obj" % number for number in range(1, 6)
    ]


def test_a_large_bill_is_at_least_as_large_as_asked() -> None:
    made = bill_pdf(["x"], 1_000_000)
    assert 1_000_000 <= len(made) < 1_001_000


class Ticking:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def test_billers_and_secrets_are_seen_when_they_change(tmp_path: Path) -> None:
    billers, secrets = tmp_path / "billers", write_secrets(tmp_path / "secrets")
    billers.mkdir()
    clock = Ticking()
    known = Insurers(billers, secrets, environ={}, monotonic=clock)
    assert known.by_slug("acme") is None
    (billers / "acme.yaml").write_text((DEMO_BILLERS / "acme.yaml").read_text())
    (billers / "broken.yaml").write_text("{")
    (billers / "list.yaml").write_text("[1]")
    clock.at = 2
    acme = known.by_guid(ACME_GUID.upper())
    assert acme is not None
    assert [one.slug for one in known.all()] == ["acme"]
    assert known.knows(acme.imt_token, secret("acme", "imt-token"))
    (secrets / "acme-imt-token").write_text("the next one, of another length")
    assert not known.knows(acme.imt_token, secret("acme", "imt-token"))
    assert known.knows(acme.imt_token, "the next one, of another length")


def test_a_secret_that_is_missing_lets_nobody_in(tmp_path: Path) -> None:
    known = Insurers(DEMO_BILLERS, tmp_path, environ={"BILLBUS_SECRET_ACME_IC_KEY": "from outside"})
    assert known.secret("acme-ic-key") == "from outside"
    assert not known.knows("acme-imt-token", "")
    assert not known.knows("../acme-imt-token", "")
    assert known.secret("") is None


@pytest.fixture
def side(tmp_path: Path) -> InvoiceCloudSide:
    def noon() -> datetime:
        return datetime(2026, 11, 20, 3, tzinfo=UTC)

    secrets = write_secrets(tmp_path / "secrets")
    settings = SandboxSettings(billers=DEMO_BILLERS, secrets=secrets, bills_url="https://bills.example:8443")
    ledger = Ledger(None, noon)
    return InvoiceCloudSide(settings, CONTRACTS, Insurers(DEMO_BILLERS, secrets), ledger, noon)


@pytest.mark.parametrize(
    "address", ["http://elsewhere.example", "file:///etc/passwd", "http://127.0.0.1.example"]
)
async def test_no_credential_goes_elsewhere(side: InvoiceCloudSide, address: str) -> None:
    asked = Pay(biller="acme", target=address, payments=[{"PaymentAmount": "1.00"}])
    with pytest.raises(CannotPlay, match="neither one of our services"):
        await side.pay(asked)


async def test_what_cannot_be_played_is_said(side: InvoiceCloudSide) -> None:
    with pytest.raises(CannotPlay, match="no biller nobody"):
        await side.pay(Pay(biller="nobody", payments=[{}]))
    with pytest.raises(CannotPlay, match="I-9 was not uploaded with a link"):
        await side.open(Open(biller="acme", invoice_numbers=["I-9"]))
    with pytest.raises(CannotPlay, match="name invoice_numbers or links"):
        await side.open(Open(biller="acme"))


def test_a_bank_file_has_the_banks_day_and_a_trailer_that_adds_up(side: InvoiceCloudSide) -> None:
    asked = BankFile(
        biller="acme",
        payments=[
            {"AccountNumber": "00-1001", "PaymentAmount": "10.00", "TraceNumber": "T, 1"},
            {"AccountNumber": "1002", "PaymentAmount": "0.05", "PaymentDate": "2026-11-18"},
        ],
    )
    acme = Insurers(DEMO_BILLERS, None).by_slug("acme")
    assert acme is not None
    header, first, second, trailer = csv.reader(io.StringIO(side.bank_csv(acme, asked)))
    assert header == [column["header"] for column in CONTRACTS.bank_file["columns"].values()]
    assert first[1:5] == ["00-1001", "10.00", "2026-11-19", "T, 1"], "03:00 UTC is the evening before"
    assert second[3] == "2026-11-18"
    assert trailer == ["TRAILER", "2", "10.05"]


def test_the_page_shows_the_billers_and_escapes_what_it_shows() -> None:
    shown = page(Insurers(DEMO_BILLERS, None).all(), "http://127.0.0.1:1/<script>")
    assert ACME_GUID in shown
    assert "<script>" not in shown
    assert "/control/play/pay" in shown
