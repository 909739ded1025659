"""What the logs of a day with faults hold, and never do: no name, no address, no account number in full."""

from __future__ import annotations

import json

from deploy.local.processes import SERVICES
from tests.deadline import until
from tests.e2e.both_sides import LIMIT_S, BothSides

PERSON = {
    "CustomerName": "Zebediah Quillfeather",
    "Address1": "77 Unheard Crescent",
    "EmailAddress": "zeb.quill@mail.example",
    "Phone": "555-0177",
}


def test_no_log_names_a_customer_or_an_account_in_full(sides: BothSides) -> None:
    customer = sides.customer(**PERSON)
    link = sides.one("invoice.issued", invoice_number=customer.invoice)["bill_link"]
    assert sides.deliver(sides.new_row(BalanceDue="x", **PERSON)).json()["refused"] == 1
    payments = [payment_of(sides, customer.account) for _ in range(4)]
    sides.fault("imt.datapump", "apply_then_hang", count=1, delay_s=7)
    sides.fault("imt.datapump", "error", count=1)
    for told in payments:
        assert sides.pay(told).status_code == 200
    assert sides.pay(payment_of(sides, f"9{customer.account}")).status_code == 200
    assert sides.ask("payments", "POST", "/ic/acme/payments", data={"Junk": PERSON["CustomerName"]}).is_error
    sides.ask("balances", "GET", f"/ic/acme/balances/{customer.account}")
    sides.fault("imt.payments_due", "wrong_content_type", count=1)
    sides.ask("balances", "GET", f"/ic/acme/balances/{customer.account}")
    sides.ask("settings", "GET", f"/ic/acme/enrollments/{customer.account}")
    sides.http.get(link)
    for told in payments:
        assert sides.settled(told)["state"] == "posted"

    token = link.rsplit("/", 1)[-1]
    secrets = [path.read_text() for path in sides.processes.secrets.iterdir()]
    never = [*PERSON.values(), "Quillfeather", customer.account, *customer.policies, token, *secrets]
    for name in SERVICES:
        text = sides.processes.log(name).read_text()
        assert [what for what in never if what in text] == [], name
    until(lambda: requests_of(sides, "payments"), LIMIT_S, "a line for a request")


def payment_of(sides: BothSides, account: str) -> dict[str, str]:
    return sides.payment(
        AccountNumber=account, CustomerName=PERSON["CustomerName"], CustomerAddress=PERSON["Address1"]
    )


def requests_of(sides: BothSides, name: str) -> list[dict[str, object]]:
    """The lines that tell of a request."""
    lines = [
        json.loads(line) for line in sides.processes.log(name).read_text().splitlines() if line[:1] == "{"
    ]
    return [line for line in lines if line["event"] == "request" and line["route"] == "/ic/{biller}/payments"]
