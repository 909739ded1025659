"""The support table has exactly the rows of the integration, and the partners' files agree with it."""

from typing import Any

import pytest
import yaml

from deploy.local.processes import ROOT
from services.bus.support import Row, SupportMatrix, wire
from tests.contract.examples import SCHEMAS

MATRIX = SupportMatrix.load(SCHEMAS / "partners" / "support.yaml")
SUPPORTED = {
    "data": [
        "Invoice",
        "Adjustments/Balances",
        "Payments",
        "Change Log",
        "AutoPay Enrollment",
        "Paperless Enrollment",
        "Bill Images",
    ],
    "product": ["AgentConnect", "IVR", "Online Bank Direct - OBD"],
    "feature": [
        "Account Linking",
        "AutoPay Collection Date",
        "Balance Forward",
        "Block Payment",
        "Data Conversions",
        "Email Notification Schedule",
        "Minimum Payment",
        "Paperless",
        "Scheduled Payments",
    ],
}
NOT_SUPPORTED = {
    "data": ["ACH Rejects Posting", "Void", "PDF Extraction", "Template"],
    "product": [
        "Check Free - FISERV - Cash",
        "CloudPay",
        "CloudPay Web Services",
        "CloudStore",
        "CSRConnect",
        "EMV",
        "Kiosk",
        "Outbound IVR",
        "POSConnect",
    ],
    "feature": [
        "Multi-User Log In",
        "Co-Owner Registration",
        "SSO",
        "Bill Processor",
        "Open Item Billing",
        "Conveyance",
        "Expire Bill for Payment",
        "Flex Pay",
        "Partial Payments",
        "Past Due Payments",
    ],
    "equipment": ["Magtek REV Devices", "IDTech SRED Key", "Ingenico EMV", "Other EMV Devices"],
}


def rows_with(status: str) -> dict[str, set[str]]:
    kinds: dict[str, set[str]] = {}
    for row in MATRIX.rows:
        if row.status == status:
            kinds.setdefault(row.kind, set()).add(row.name)
    return kinds


def partner_file(name: str) -> Any:
    return yaml.safe_load((SCHEMAS / "partners" / f"{name}.yaml").read_text())


def test_the_table_has_the_rows_of_the_integration_and_no_other() -> None:
    assert len(MATRIX.rows) == 47
    assert rows_with("supported") == {kind: set(names) for kind, names in SUPPORTED.items()}
    assert rows_with("custom") == {"feature": {"Batch Closure"}}
    assert rows_with("not_supported") == {kind: set(names) for kind, names in NOT_SUPPORTED.items()}


@pytest.mark.parametrize("row", MATRIX.rows, ids=lambda r: r.slug)
def test_a_row_says_what_it_does_and_what_holds_it(row: Row) -> None:
    assert row.sentence.endswith(".")
    assert row.detail
    folder, name = row.test.split("::")
    text = (ROOT / folder).read_text()
    assert f"def {name}(" in text or f"\n{name} = " in text, f"{row.test} is not there"
    assert name == (f"test_{row.slug}" if row.supported else f"test_{row.slug}_is_refused")


def test_no_two_rows_are_asked_for_by_the_same_words() -> None:
    asked = [(surface.at, surface.value) for row in MATRIX.rows for surface in row.surfaces]
    assert len(asked) == len(set(asked))


def test_every_product_and_device_of_the_table_can_be_named_on_a_payment() -> None:
    named = {(row.slug, surface.at) for row in MATRIX.rows for surface in row.enforced_at}
    assert {(row.slug, "payment_product") for row in MATRIX.rows if row.kind == "product"} <= named
    assert {(row.slug, "payment_device") for row in MATRIX.rows if row.kind == "equipment"} <= named


def test_ics_own_products_and_schedules_are_told_apart_from_the_tables() -> None:
    cloud = partner_file("invoicecloud")
    own = cloud["own_products"]
    assert {word for word in own if MATRIX.product(word) is not None} == {"Scheduled"}
    assert len({wire(word) for word in own}) == len(own)
    for word in cloud["schedule_kinds"]:
        assert MATRIX.schedule(word) == MATRIX.row("scheduled_payments")


def test_every_change_that_is_refused_leads_to_its_row() -> None:
    refused = partner_file("changes")["not_supported"]
    asked = {(row.slug, surface.at) for row in MATRIX.rows for surface in row.surfaces if not row.supported}
    assert set(refused.values()) == {slug for slug, at in asked if at == "change_type"}
    for word, slug in refused.items():
        assert MATRIX.change(word) == MATRIX.row(slug)


def test_every_bif_column_that_a_row_names_is_in_the_layout() -> None:
    columns = partner_file("bif")["columns"]
    named = {s.value.split("=")[0] for row in MATRIX.rows for s in row.enforced_at if s.at == "bif_column"}
    assert named <= columns.keys()
