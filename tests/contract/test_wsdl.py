"""IC's WSDL keeps the rules by which SOAP stacks understand each other."""

from __future__ import annotations

import pytest

from services.bus.settings import ROOT
from tests.contract.ws_i import findings

PARTNERS = ROOT / "schemas" / "partners"
WSDL = (PARTNERS / "invoicecloud.wsdl").read_text(encoding="utf-8")
UPLOAD = 'soapAction="http://www.invoicecloud.example/CloudInvoicing/UploadInvoice"'
VIEW = 'soapAction="http://www.invoicecloud.example/CloudInvoicing/ViewInvoiceByInvoiceNumber"'
SPOILT = {
    "R2001": (
        '<xs:simpleType name="Money">',
        '<xs:include schemaLocation="gone.xsd"/><xs:simpleType name="Money">',
    ),
    "R2005": ('\n                  targetNamespace="http://www.invoicecloud.example/CloudInvoicing/"', ""),
    "R2007": ("<wsdl:types>", '<wsdl:import namespace="urn:x" location="gone.wsdl"/><wsdl:types>'),
    "R2105": (
        ' targetNamespace="http://www.invoicecloud.example/CloudInvoicing/">\n      <xs:',
        ">\n      <xs:",
    ),
    "R2110": (
        '<xs:element name="CustomerID" type="xs:string"',
        '<xs:element xmlns:e="http://schemas.xmlsoap.org/soap/encoding/" name="CustomerID" type="e:string"',
    ),
    "R2204": (
        '<wsdl:part name="parameters" element="tns:UploadInvoice"/>',
        '<wsdl:part name="p" type="tns:Money"/>',
    ),
    "R2206": ('element="tns:UploadInvoice"', 'element="tns:Nobody"'),
    "R2210": (
        '<wsdl:part name="parameters" element="tns:UploadInvoice"/>',
        '<wsdl:part name="a" element="tns:UploadInvoice"/><wsdl:part name="b" element="tns:UploadInvoice"/>',
    ),
    "R2303": ('<wsdl:input message="tns:UploadInvoiceIn"/>', ""),
    "R2304": ('<wsdl:operation name="ViewInvoiceByInvoiceNumber">', '<wsdl:operation name="UploadInvoice">'),
    "R2701": ('<soap:binding transport="http://schemas.xmlsoap.org/soap/http" style="document"/>', ""),
    "R2702": ("http://schemas.xmlsoap.org/soap/http", "http://schemas.xmlsoap.org/soap/smtp"),
    "R2705": (f'{UPLOAD} style="document"', f'{UPLOAD} style="rpc"'),
    "R2706": ('<wsdl:output><soap:body use="literal"/>', '<wsdl:output><soap:body use="encoded"/>'),
    "R2711": ('<soap:address location="http://127.0.0.1:18090/ic/CloudInvoicing.asmx"/>', ""),
    "R2718": (
        '<wsdl:operation name="UploadInvoice">\n      <soap',
        '<wsdl:operation name="Another">\n      <soap',
    ),
    "R2745": (UPLOAD, 'soapAction=""'),
    "R2800": ('type="tns:Customer"', 'type="tns:Nobody"'),
    "stands for 2": (VIEW, UPLOAD),
    "not qualified": (' elementFormDefault="qualified"', ""),
    "not UploadInvoiceResponse": (
        '<wsdl:part name="parameters" element="tns:UploadInvoiceResponse"/>',
        '<wsdl:part name="parameters" element="tns:UploadInvoice"/>',
    ),
    "the message tns:Nothing is nowhere": ('message="tns:UploadInvoiceOut"', 'message="tns:Nothing"'),
    "the binding tns:Nothing is nowhere": ('binding="tns:CloudInvoicingSoap"', 'binding="tns:Nothing"'),
}


def test_the_wsdl_keeps_every_rule() -> None:
    assert findings(WSDL.encode(), PARTNERS) == []


@pytest.mark.parametrize("rule", SPOILT)
def test_a_wsdl_that_breaks_a_rule_is_found(rule: str) -> None:
    whole, spoilt = SPOILT[rule]
    assert whole in WSDL
    assert any(rule in finding for finding in findings(WSDL.replace(whole, spoilt, 1).encode(), PARTNERS))
