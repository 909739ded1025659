"""The rows about invoices: a BIF file comes, and IC has each invoice as the rules say, by real SOAP."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests import bif_sample
from tests.deadline import until
from tests.e2e.both_sides import LIMIT_S, BothSides

NO_DATE = "0001-01-01"


def at_ic(sides: BothSides, number: str, biller: str = "acme") -> dict[str, Any]:
    """Waits until IC has an invoice; its fields as they were uploaded."""
    until(lambda: sides.ledger("invoices", biller, natural_id=number), LIMIT_S, f"{number} at IC")
    (row,) = sides.ledger("invoices", biller, natural_id=number)
    return row


def uploaded(sides: BothSides, biller: str = "acme", **changes: str) -> dict[str, Any]:
    """What IC has of a new invoice."""
    row = sides.new_row(biller, **changes)
    answer = sides.deliver(row, biller=biller)
    assert (answer.status_code, answer.json()["refusals"]) == (200, []), answer.text
    return at_ic(sides, row["InvoiceNumber"], biller)


def refused(sides: BothSides, biller: str = "acme", **changes: str) -> dict[str, Any]:
    """Why a row is refused, beside a good row that goes on."""
    bad, good = sides.new_row(biller, **changes), sides.new_row(biller)
    answer = sides.deliver(bad, good, biller=biller).json()
    assert (answer["rows"], answer["accepted"], answer["refused"]) == (2, 1, 1)
    at_ic(sides, good["InvoiceNumber"], biller)
    assert sides.events("invoice.issued", invoice_number=bad["InvoiceNumber"]) == []
    assert sides.ledger("invoices", biller, natural_id=bad["InvoiceNumber"]) == []
    (refusal,) = answer["refusals"]
    assert refusal["line"] == 3
    return dict(refusal)


def true(value: object) -> bool:
    return str(value).lower() in ("true", "1")


def test_invoice(sides: BothSides) -> None:
    good = [sides.new_row() for _ in range(3)]
    bad = sides.new_row(InvoiceDueDate="31.12.2026", CustomerName="Nobody Atall")
    answer = sides.deliver(good[0], bad, *good[1:])

    told = answer.json()
    assert (answer.status_code, told["rows"], told["accepted"], told["refused"]) == (200, 4, 3, 1)
    (refusal,) = told["refusals"]
    assert (refusal["line"], refusal["column"], refusal["found"]) == (4, "InvoiceDueDate", "31.12.2026")
    assert refusal["expected"]
    for row in good:
        there = at_ic(sides, row["InvoiceNumber"])
        assert there["Customer"]["AccountNumber"] == row["AccountNumber"]
        assert (there["BalanceDue"], there["TotalAmountDue"]) == (row["BalanceDue"], row["BalanceDue"])
        assert (there["InvoiceDate"], there["InvoiceDueDate"]) == (row["InvoiceDate"], row["InvoiceDueDate"])
        assert (there["InvoiceTypeID"], there["BillerCode"]) == ("101", "ACME")
        outcome = sides.one("invoice.outcome", invoice_number=row["InvoiceNumber"])
        assert (outcome["state"], outcome["file_id"]) == ("posted", told["file_id"])
        assert outcome["partner_reference"]
    path = f"/imt/acme/bif/{told['file_id']}"
    until(lambda: sides.ask("invoices", "GET", path).json()["waiting"] == 0, LIMIT_S, "the file's status")
    assert sides.ask("invoices", "GET", path).json()["uploads"]["posted"] == 3
    total = sum(Decimal(row["BalanceDue"]) for row in good)
    (received,) = sides.events("file.received", file_id=told["file_id"])
    assert (received["accepted"], received["balance_due"]) == (3, total)
    assert received["refusals"][0]["column"] == "InvoiceDueDate"


def test_invoice_the_same_file_again_does_nothing_twice(sides: BothSides) -> None:
    rows = [sides.new_row() for _ in range(2)]
    first = sides.deliver(*rows)
    for row in rows:
        at_ic(sides, row["InvoiceNumber"])
    again = sides.deliver(*rows)
    behind = uploaded(sides)

    assert (again.status_code, again.json()) == (200, first.json())
    assert behind
    for row in rows:
        assert len(sides.ledger("invoices", natural_id=row["InvoiceNumber"])) == 1
        assert len(sides.events("invoice.issued", invoice_number=row["InvoiceNumber"])) == 1


def test_invoice_a_correction_is_uploaded_and_stands(sides: BothSides) -> None:
    row = sides.new_row(PastDueAmount="0.00", CurrentCharges="80.00")
    sides.deliver(row)
    at_ic(sides, row["InvoiceNumber"])
    due = {"CurrentCharges": "70.00", "BalanceDue": "70.00", "MinimumAmountDue": "70.00"}
    assert sides.deliver(row | due).json()["accepted"] == 1

    until(
        lambda: len(sides.ledger("invoices", natural_id=row["InvoiceNumber"])) == 2, LIMIT_S, "the correction"
    )
    rows = sides.ledger("invoices", natural_id=row["InvoiceNumber"])
    assert [each["BalanceDue"] for each in rows] == ["80.00", "70.00"]


def test_invoice_comes_by_the_drop_folder_too(sides: BothSides) -> None:
    row = sides.new_row()
    folder = sides.processes.drop_folder / "acme"
    bif_sample.write(folder / "part", [row], "ACME").rename(folder / f"{row['InvoiceNumber']}.bif")

    assert at_ic(sides, row["InvoiceNumber"])["Customer"]["AccountNumber"] == row["AccountNumber"]


@pytest.mark.parametrize("broken", ["truncated", "encoding", "empty", "biller"])
def test_invoice_a_broken_file_is_refused_whole_with_the_reason(sides: BothSides, broken: str) -> None:
    row = sides.new_row()
    whole = bif_sample.content([row], "BIRCH" if broken == "biller" else "ACME")
    body = {
        "truncated": whole[: whole.index(b"#END")],
        "encoding": whole.replace(b"Invented Lane", b"Invented L\xe4ne"),
        "empty": b"",
        "biller": whole,
    }[broken]
    answer = sides.ask("invoices", "POST", "/imt/acme/bif", content=body)

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.json()["title"] == "BIF file refused"
    assert answer.json()["type"].startswith("urn:billbus:bif:")
    assert answer.json()["detail"]
    assert sides.events("invoice.issued", invoice_number=row["InvoiceNumber"]) == []


def test_balance_forward(sides: BothSides) -> None:
    there = uploaded(sides, PastDueAmount="20.00", CurrentCharges="100.50")
    assert (there["BalanceDue"], there["PastDueAmount"], there["CreditAmount"]) == ("120.50", "20.00", "0.00")
    wrong = refused(
        sides,
        PastDueAmount="20.00",
        CurrentCharges="100.50",
        BalanceDue="100.50",
        MinimumAmountDue="100.50",
    )
    assert (wrong["column"], wrong["found"]) == ("BalanceDue", "100.50")
    assert "Balance Forward" in wrong["expected"]
    assert "120.50" in wrong["expected"]


def test_balance_forward_a_credit_shows_as_0_and_is_kept_apart(sides: BothSides) -> None:
    credit = {"PastDueAmount": "-70.00", "CurrentCharges": "45.00"}
    there = uploaded(sides, **credit, BalanceDue="-25.00", MinimumAmountDue="-25.00")
    assert (there["BalanceDue"], there["TotalAmountDue"], there["MinimumAmountDue"]) == ("0.00",) * 3
    assert there["CreditAmount"] == "25.00"
    (issued,) = sides.events("invoice.issued", invoice_number=there["InvoiceNumber"])
    assert (issued["balance_due"], issued["credit"]) == (Decimal("0.00"), Decimal("25.00"))


def test_balance_forward_a_new_bill_supersedes_the_old_one(sides: BothSides) -> None:
    today = date.today()
    older = sides.new_row(InvoiceDate=(today - timedelta(days=20)).isoformat())
    newer = sides.new_row(
        AccountNumber=older["AccountNumber"], InvoiceDate=(today - timedelta(days=1)).isoformat()
    )
    sides.deliver(newer)
    at_ic(sides, newer["InvoiceNumber"])
    sides.deliver(older)  # comes late
    outcome = sides.one("invoice.outcome", invoice_number=older["InvoiceNumber"])

    assert outcome["state"] == "superseded"
    assert sides.ledger("invoices", natural_id=older["InvoiceNumber"]) == []
    sides.known(older["AccountNumber"])
    answer = sides.ask("balances", "GET", f"/ic/acme/ivr/{older['AccountNumber']}")
    assert answer.json()["InvoiceNumber"] == newer["InvoiceNumber"]


def test_minimum_payment(sides: BothSides) -> None:
    there = uploaded(sides, PastDueAmount="10.00", CurrentCharges="90.00")
    assert there["MinimumAmountDue"] == there["BalanceDue"] == "100.00"
    wrong = refused(sides, PastDueAmount="10.00", CurrentCharges="90.00", MinimumAmountDue="25.00")
    assert (wrong["column"], wrong["found"]) == ("MinimumAmountDue", "25.00")
    assert "Minimum Payment" in wrong["expected"]


def test_block_payment(sides: BothSides) -> None:
    for word in ("F", ""):
        there = uploaded(sides, BlockPaymentsCC=word, BlockPaymentsEFT=word, AllowPartialPayments=word)
        customer = there["Customer"]
        assert [true(customer["BlockPaymentsCC"]), true(customer["BlockPaymentsEFT"])] == [False, False]
        assert not true(there["AllowPartialPayments"])
    for column in ("BlockPaymentsCC", "BlockPaymentsEFT"):
        wrong = refused(sides, **{column: "T"})
        assert (wrong["column"], wrong["found"]) == (column, "T")
        assert "Block Payment" in wrong["expected"]


def test_autopay_collection_date(sides: BothSides) -> None:
    bill, due = date.today() - timedelta(days=3), date.today() + timedelta(days=20)
    dates = {"InvoiceDate": bill.isoformat(), "InvoiceDueDate": due.isoformat()}
    for day in (bill, due):
        there = uploaded(sides, **dates, AutoPayCollectionDate=day.isoformat())
        assert there["AutoPayCollectionDate"] == day.isoformat()
    assert uploaded(sides, **dates)["AutoPayCollectionDate"] == NO_DATE
    for day in (bill - timedelta(days=1), due + timedelta(days=1)):
        wrong = refused(sides, **dates, AutoPayCollectionDate=day.isoformat())
        assert (wrong["column"], wrong["found"]) == ("AutoPayCollectionDate", day.isoformat())
        assert "AutoPay Collection Date" in wrong["expected"]
    later = (due + timedelta(days=1)).isoformat()  # cedar's rule allows it
    assert uploaded(sides, "cedar", **dates, AutoPayCollectionDate=later)["AutoPayCollectionDate"] == later


def test_email_notification_schedule(sides: BothSides) -> None:
    stated = ["2026-12-01", "2026-12-10", "2026-12-20"]
    names = [f"{each}NotifyRequestedDate" for each in ("First", "Second", "Third")]
    of_the_row = uploaded(sides, **dict(zip(names, stated, strict=True)))
    assert [of_the_row[name] for name in names] == stated

    # acme: 14 days before (weekend: Friday), 3 before (Friday), 2 after (Monday); 2027-01-15 is a Friday
    dates = {"InvoiceDate": "2026-12-20", "InvoiceDueDate": "2027-01-15"}
    by_rule = uploaded(sides, **dates)
    assert [by_rule[name] for name in names] == ["2027-01-01", "2027-01-12", "2027-01-18"]
    on_a_sunday = uploaded(sides, InvoiceDate="2026-12-20", InvoiceDueDate="2027-01-17")
    assert [on_a_sunday[name] for name in names] == ["2027-01-01", "2027-01-14", "2027-01-19"]
    only_one = uploaded(sides, "cedar", **dates)  # cedar: 20 days before, Monday; no second, no third
    assert [only_one[name] for name in names] == ["2026-12-28", NO_DATE, NO_DATE]


def test_paperless(sides: BothSides) -> None:
    for word, paper in (("F", False), ("T", True)):
        there = uploaded(sides, PaperInvoices=word)
        assert true(there["Customer"]["PaperInvoices"]) is paper
        (issued,) = sides.events("invoice.issued", invoice_number=there["InvoiceNumber"])
        assert issued["paperless"] is not paper
