"""The rows about settings: IC's change log reaches IMT's T/F indicators, the newest value last."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.deadline import until
from tests.e2e.both_sides import LIMIT_S, BothSides, Customer


def change(
    customer: Customer, kind: str, value: str | None = None, at: str = "10:00", **more: Any
) -> dict[str, Any]:
    """A change of IC's log at an instant of one day."""
    told = {
        "ChangeID": str(uuid4()),
        "ChangedAt": f"2026-11-20T{at}:00Z",
        "Type": kind,
        "AccountNumber": customer.account,
    }
    return told | ({kind: value} if value is not None else {}) | more


def posted(sides: BothSides, told: dict[str, Any], indicator: str) -> dict[str, Any]:
    """Waits for the outcome of one indicator of a change."""
    natural = f"{told['ChangeID']}/{indicator}"
    return sides.one("setting.outcome", biller="acme", natural_id=natural)


def at_imt(sides: BothSides, customer: Customer, indicator: str) -> list[str]:
    """What IMT was told of an indicator, oldest first."""
    return [
        row["Value"]
        for row in sides.ledger("settings", account=customer.account)
        if row["Indicator"] == indicator
    ]


def enrolled(sides: BothSides, customer: Customer) -> dict[str, Any]:
    told: dict[str, Any] = sides.ask("settings", "GET", f"/ic/acme/enrollments/{customer.account}").json()
    return told


def test_change_log(sides: BothSides) -> None:
    customer = sides.customer()
    on = change(customer, "AutoPay", "True", at="10:00")
    off = change(customer, "AutoPay", "False", at="11:00")
    late = change(customer, "AutoPay", "True", at="09:00")
    paper = change(customer, "PaperInvoices", "False", at="09:30")
    answer = sides.change(on, {"ChangeID": "x", "Type": "AutoPay"}, off)

    assert answer.status_code in (200, 207)
    assert posted(sides, off, "autopay")["state"] == "posted"
    assert sides.change(late, paper).status_code == 200
    assert posted(sides, late, "autopay")["state"] == "superseded"
    assert posted(sides, paper, "paperless")["state"] == "posted"  # older than autopay's, but of its own kind
    assert at_imt(sides, customer, "AutoPay") == ["T", "F"]
    assert sides.change(on).status_code == 200  # a repeat is answered as the first time
    assert at_imt(sides, customer, "AutoPay") == ["T", "F"]


def test_autopay_enrollment(sides: BothSides) -> None:
    customer = sides.customer()
    told = change(customer, "AutoPay", "True")
    assert sides.change(told).status_code == 200
    assert posted(sides, told, "autopay")["state"] == "posted"
    assert at_imt(sides, customer, "AutoPay") == ["T"]
    until(lambda: enrolled(sides, customer)["autopay"] is True, LIMIT_S, "the enrollment")
    assert sides.events("enrollment.current", account=customer.account)[-1]["autopay"] is True


def test_autopay_enrollment_of_a_policy_number(sides: BothSides) -> None:
    customer = sides.customer()
    told = change(customer, "AutoPay", "True")
    told["PolicyNumber"] = customer.policies[0]
    del told["AccountNumber"]
    assert sides.change(told).status_code == 200
    outcome = posted(sides, told, "autopay")
    assert (outcome["state"], outcome["account"]) == ("posted", customer.account)
    (row,) = sides.ledger("settings", natural_id=told["ChangeID"])
    assert row["Value"] == "T"


def test_paperless_enrollment(sides: BothSides) -> None:
    """PaperInvoices is the inverse of paperless: no paper is T at IMT."""
    customer = sides.customer()
    without, with_paper = (
        change(customer, "PaperInvoices", "False", at="10:00"),
        change(customer, "PaperInvoices", "True", at="11:00"),
    )
    assert sides.change(without).status_code == 200
    assert posted(sides, without, "paperless")["value"] is True
    until(lambda: enrolled(sides, customer)["paperless"] is True, LIMIT_S, "paperless")
    assert sides.change(with_paper).status_code == 200
    assert posted(sides, with_paper, "paperless")["value"] is False
    assert at_imt(sides, customer, "Paperless") == ["T", "F"]
    until(lambda: enrolled(sides, customer)["paperless"] is False, LIMIT_S, "paper again")


def test_paperless_enrollment_comes_back_with_the_next_invoice(sides: BothSides) -> None:
    """IC's customer wants no paper; IMT says so in its next BIF; IC is told no paper with that invoice."""
    customer = sides.customer(PaperInvoices="T")
    told = change(customer, "PaperInvoices", "False")
    assert sides.change(told).status_code == 200
    assert posted(sides, told, "paperless")["state"] == "posted"
    (indicator,) = at_imt(sides, customer, "Paperless")
    paper = {"T": "F", "F": "T"}[indicator]  # as IMT would write it: what it was told, inverted
    row = sides.new_row(AccountNumber=customer.account, PaperInvoices=paper)
    assert sides.deliver(row).json()["refusals"] == []

    number = row["InvoiceNumber"]
    until(lambda: sides.ledger("invoices", natural_id=number), LIMIT_S, "the next invoice at IC")
    (before,) = sides.ledger("invoices", natural_id=customer.invoice)
    (after,) = sides.ledger("invoices", natural_id=number)
    papers = [str(each["Customer"]["PaperInvoices"]).lower() for each in (before, after)]
    assert papers == ["true", "false"]


def test_account_linking(sides: BothSides) -> None:
    customer = sides.customer()
    autopay = change(customer, "AutoPay", "True", at="09:00")
    link, unlink = change(customer, "AccountLink", at="10:00"), change(customer, "AccountUnlink", at="11:00")
    assert sides.change(link, autopay).status_code == 200
    assert posted(sides, autopay, "autopay")["state"] == "posted"
    until(lambda: enrolled(sides, customer)["linked"] is True, LIMIT_S, "the link")
    assert sides.change(unlink).status_code == 200

    until(lambda: enrolled(sides, customer)["linked"] is False, LIMIT_S, "the unlink")
    until(lambda: at_imt(sides, customer, "AutoPay") == ["T", "F"], LIMIT_S, "autopay ending at IMT")
    ended = sides.events("setting.changed", account=customer.account, cause="unlink")
    assert {(event["indicator"], event["value"]) for event in ended} == {("autopay", False)}
    (known,) = sides.events("invoice.issued", account=customer.account)
    assert {event["imt_number"] for event in ended} == {customer.account, *known["policies"]}
    until(lambda: enrolled(sides, customer)["autopay"] is False, LIMIT_S, "autopay's end in the enrollment")


def test_data_conversions(sides: BothSides, tmp_path: Path) -> None:
    source = tmp_path / "imt.csv"
    source.write_text(
        "AccountNumber,PolicyNumber,CustomerName,EmailAddress,AutoPay,PaymentMethod,PaymentToken,EnrolledOn,"
        "BalanceDue\n"
        "0000010042,HO-1,Ada Fields,ada@example.org,T,CC,tok_1a,03/15/2024,120.50\n"
        "0000010043,HO-2,Bo Fields,bo@example.org,T,EFT,tok_2b,03/16/2024,79.50\n"
        "0000010044,HO-3,Cleo Fields,cleo@example.org,T,CC,4111111111111111,03/17/2024,10.00\n"
        "0000010045,HO-4,Dov Fields,dov@example.org,F,CC,tok_4d,03/18/2024,10.00\n"
    )

    def convert(out: Path) -> tuple[int, dict[str, Any], str]:
        billbus = str(Path(sys.executable).with_name("billbus"))
        ended = subprocess.run(
            [billbus, "convert", "autopay", str(source), "--biller", "acme", "--out", str(out), "--json"],
            env=sides.processes.environment("payments"),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return ended.returncode, json.loads(ended.stdout), hashlib.sha256(out.read_bytes()).hexdigest()

    first, second = convert(tmp_path / "one.csv"), convert(tmp_path / "two.csv")
    code, told, digest = first
    assert code == 1  # one record was rejected, the others converted
    assert digest == second[2]
    one, two = next(tmp_path.glob("one*rejects*")), next(tmp_path.glob("two*rejects*"))
    assert one.read_bytes() == two.read_bytes()
    assert (told["records"], told["converted"], told["rejected"], told["adds_up"]) == (4, 2, 1, True)
    assert told["control_total"] == "200.00"
    assert "4111111111111111" not in one.read_text()
    rows = list(csv.reader((tmp_path / "one.csv").read_text().splitlines()))
    assert [row for row in rows if "0000010042" in row]
