"""IC's form of a payment: what is read, what is refused by the field's name, what parks by the row's name."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.bus.identity import event_id, natural_id
from services.bus.wire import Malformed
from services.payments.bank_file import BankFileReader, BrokenFile
from services.payments.notice import load_contract
from tests.unit.payments_sample import (
    ACME,
    PARTNERS,
    a_bank_file_reader,
    a_form,
    a_payment,
    a_reader,
    accounts,
)

READER = a_reader()


def test_a_form_is_read_to_the_cent() -> None:
    notice = a_reader().read(a_form(), ACME)
    assert (notice.amount, notice.convenience_fee) == (Decimal("120.50"), Decimal("2.95"))
    assert (notice.tender, notice.product, notice.approved) == ("card", "portal", True)
    assert notice.payment_guid == "9b2f-01"


@pytest.mark.parametrize("spelled", ["{9B2F-01}", "9B2F-01", "9b2f-01"])
def test_a_guid_is_kept_as_ic_spells_it_and_compared_as_guids_are(spelled: str) -> None:
    payment = a_payment(PaymentGUID=spelled)
    assert payment.payment_guid_as_sent == spelled
    assert natural_id(payment) == "9b2f-01"
    assert event_id(payment) == event_id(a_payment())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("PaymentGUID", ""),
        ("PaymentGUID", "x" * 81),
        ("PaymentGUID", "a b"),
        ("PaymentAmount", ""),
        ("PaymentAmount", "-1.00"),
        ("PaymentAmount", "1.005"),
        ("PaymentAmount", "1e3"),
        ("PaymentAmount", "NaN"),
        ("PaymentAmount", "12345678901.00"),
        ("PaymentAmount", "0.00"),
        ("ConvenienceFee", "-0.01"),
        ("Approved", "yes"),
        ("Approved", ""),
        ("PaymentDate", "yesterday"),
        ("PaymentDate", "0001-01-01"),
        ("PaymentGUID", "a\x00b"),
        ("PaymentGUID", "{}"),
        ("PaymentGUID", "{..}"),
        ("PaymentGUID", "{" + "x" * 81 + "}"),
    ],
)
def test_a_malformed_field_is_named(field: str, value: str) -> None:
    with pytest.raises(Malformed) as refused:
        a_reader().read(a_form(**{field: value}), ACME)
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("field", "sent", "name", "kept"),
    [
        ("PaymentDescription", "Thank\r\nyou", "description", "Thank you"),
        ("PaymentDescription", "a\x00b", "description", "a\ufffdb"),
        ("PaymentDescription", "\ud800", "description", "\ufffd"),
        ("PaymentDescription", "x" * 201, "description", "x" * 200),
        ("CustomerName", "N" * 300, "payer_name", "N" * 200),
        ("CustomerName", ["no", "text"], "payer_name", None),
        ("CardType", "Vi\tsa", "card_type", "Vi sa"),
        ("AgentID", "A" * 201, "agent", "A" * 200),
        ("InvoiceNumber", "INV\x071", "invoice_number", "INV\ufffd1"),
        ("PaymentMessage", "Approved\r\n" * 90, "description", None),
        ("CustomerAddress", {"not": "read"}, "description", None),
    ],
)
def test_money_is_not_refused_for_a_text_that_says_nothing_of_it(
    field: str, sent: object, name: str, kept: str | None
) -> None:
    notice = a_reader().read({**a_form(), field: sent}, ACME)
    assert getattr(notice, name) == kept


@pytest.mark.parametrize(("sent", "approved"), [(True, True), (False, False), ("true", True)])
def test_approved_may_be_a_json_boolean(sent: object, approved: bool) -> None:
    assert a_reader().read({**a_form(), "Approved": sent}, ACME).approved is approved


@pytest.mark.parametrize(
    ("fields", "row"),
    [
        ({"Product": "Kiosk"}, "Kiosk"),
        ({"Product": "CloudStore"}, "CloudStore"),
        ({"Device": "IngenicoEMV"}, "Ingenico EMV"),
        ({"Device": "A new thing"}, "Other EMV Devices"),
        ({"Device": "magtekrev"}, "Magtek REV Devices"),
        ({"Device": "Magtek-REV"}, "Magtek REV Devices"),
        ({"Product": "cloud store"}, "CloudStore"),
        ({"ScheduleKind": "FlexPay"}, "Flex Pay"),
        ({"ScheduleKind": "flex_pay"}, "Flex Pay"),
        ({"ScheduleKind": "Lunar"}, "schedule Lunar"),
        ({"PaymentTypeID": "77"}, "tender 77"),
        ({"Product": "Carrier pigeon"}, "product Carrier pigeon"),
    ],
)
def test_money_of_an_unsupported_kind_is_taken_under_the_name_of_its_row(
    fields: dict[str, str], row: str
) -> None:
    assert a_reader().read(a_form(**fields), ACME).unsupported == row


@pytest.mark.parametrize(
    ("sent", "product"),
    [
        ("AGENTCONNECT", "agent_connect"),
        ("agent_connect", "agent_connect"),
        ("Agent-Connect", "agent_connect"),
        ("autopay", "autopay"),
        ("PORTAL", "portal"),
        ("scheduled", "scheduled"),
        ("onlinebankdirect", "online_bank_direct"),
    ],
)
def test_a_product_is_known_however_it_is_spelled(sent: str, product: str) -> None:
    notice = a_reader().read(a_form(Product=sent), ACME)
    assert (notice.product, notice.unsupported) == (product, None)


@pytest.mark.parametrize(
    ("sent", "kind"), [("fixed", "fixed"), ("PAYINFULL", "pay_in_full"), ("Pay in full", "pay_in_full")]
)
def test_a_schedule_is_known_however_it_is_spelled(sent: str, kind: str) -> None:
    notice = a_reader().read(a_form(ScheduleKind=sent), ACME)
    assert (notice.schedule_kind, notice.unsupported) == (kind, None)


def test_a_product_that_the_biller_did_not_switch_on_is_named() -> None:
    without = ACME.model_copy(update={"products": {}})
    assert "AgentConnect" in (a_reader().read(a_form(Product="AgentConnect"), without).unsupported or "")
    assert a_reader().read(a_form(Product="AgentConnect", AgentID="A-7"), ACME).unsupported is None


def test_pay_in_full_may_be_zero() -> None:
    notice = a_reader().read(a_form(PaymentAmount="0.00", ScheduleKind="PayInFull"), ACME)
    assert notice.schedule_kind == "pay_in_full"


def test_a_repeat_is_the_same_fact_and_other_content_is_another() -> None:
    first = a_payment()
    assert event_id(a_payment(PaymentDescription="said twice")) == event_id(first)
    assert event_id(a_payment(PaymentAmount="120.51")) != event_id(first)
    assert a_payment(accounts("0000099999")).content == first.content


@given(st.dictionaries(st.sampled_from(sorted(a_form())), st.text(max_size=30)))
def test_any_text_is_read_or_refused_by_name(fields: dict[str, str]) -> None:
    refused = None
    try:
        READER.read({**a_form(), **fields}, ACME)
    except Malformed as error:
        refused = error.field
    assert refused is None or refused in a_form()


FILE = (
    "PaymentGUID,AccountNumber,PaymentAmount,PaymentDate,BankName,TraceNumber\n"
    "B-1,12345,10.00,2026-11-20,First Invented,77\n"
    "B-2,12346,5.25,2026-11-20,First Invented,78\n"
    "TRAILER,2,15.25\n"
)


def test_a_bank_file_becomes_notices_of_online_bank_direct() -> None:
    first, second = a_bank_file_reader().read(FILE.encode())
    notice = a_reader().read(first, ACME)
    assert (notice.product, notice.tender, notice.amount) == ("online_bank_direct", "eft", Decimal("10.00"))
    assert second["AccountNumber"] == "12346"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"),
        (b"\xff\xfe", "byte 0"),
        (FILE.rsplit("TRAILER", 1)[0].encode(), "cut short"),
        (FILE.replace("TRAILER,2", "TRAILER,3").encode(), "says 3"),
        (FILE.replace("15.25", "15.26").encode(), "15.26"),
        (FILE.replace("AccountNumber", "Account").encode(), "AccountNumber"),
        (FILE.replace("TRAILER,2,15.25", "TRAILER,2,much").encode(), "much"),
        (b"PaymentGUID,AccountNumber,PaymentAmount,PaymentDate\n", "cut short"),
    ],
)
def test_a_bank_file_that_is_not_whole_is_refused_whole(body: bytes, says: str) -> None:
    with pytest.raises(BrokenFile, match=says):
        a_bank_file_reader().read(body)


@pytest.mark.parametrize("amount", ["five", "", "NaN", "Infinity", "1e3"])
def test_an_amount_that_is_none_is_its_records_matter_alone(amount: str) -> None:
    first, second = a_bank_file_reader().read(FILE.replace("5.25,2026", f"{amount},2026").encode())
    assert a_reader().read(first, ACME).amount == Decimal("10.00")
    with pytest.raises(Malformed) as refused:
        a_reader().read(second, ACME)
    assert refused.value.field == "PaymentAmount"


def test_a_bank_file_is_read_as_its_layout_says(tmp_path: Path) -> None:
    layout = yaml.safe_load((PARTNERS / "bank_file.yaml").read_text())
    layout |= {"delimiter": ";", "encoding": "latin-1", "limits": {"records": 1, "bytes": 1000}}
    layout["columns"]["paid_at"]["format"] = "%d.%m.%Y"
    layout["trailer"]["values"] = ["count", "total", "mark"]
    (tmp_path / "bank_file.yaml").write_text(yaml.safe_dump(layout))
    reader = BankFileReader(tmp_path, load_contract(PARTNERS))
    head = "PaymentGUID;AccountNumber;PaymentAmount;PaymentDate;BankName\n"
    row = "B-1;12345;10.00;20.11.2026;Größte\n"
    (record,) = reader.read(f"{head}{row}1;10.00;TRAILER\n".encode("latin-1"))
    notice = a_reader().read(record, ACME)
    assert (notice.account_as_sent, notice.paid_at) == ("12345", datetime(2026, 11, 20, 6, tzinfo=UTC))
    with pytest.raises(BrokenFile, match="more than 1"):
        reader.read(f"{head}{row}{row}2;20.00;TRAILER\n".encode("latin-1"))
