"""The row about bill images: a link that is checked before the click, and the PDF behind it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import httpx

from services.bus.links import mint
from services.bus.secrets import Secrets
from tests.deadline import until
from tests.e2e.both_sides import LIMIT_S, BothSides, Customer
from tests.unit.parts import a_biller

MIB = 1 << 20


def signed(sides: BothSides, customer: Customer, *, days: int) -> str:
    """A link as invoices makes it, that ends in so many days."""
    biller = a_biller(customer.biller, links={"key": f"{customer.biller}-link-key"})
    until_at = datetime.now(UTC) + timedelta(days=days)
    secrets = Secrets(sides.processes.secrets)
    address = sides.processes.url("bills")
    return mint(biller, secrets, address, customer.invoice, customer.bill_id, until_at)


def test_bill_images(sides: BothSides) -> None:
    customer = sides.customer()
    issued = sides.one("invoice.issued", invoice_number=customer.invoice)
    until(lambda: sides.ledger("invoices", natural_id=customer.invoice), LIMIT_S, "the invoice at IC")
    (at_ic,) = sides.ledger("invoices", natural_id=customer.invoice)
    assert at_ic["BillLink"] == issued["bill_link"]
    assert sides.one("bill.linked", invoice_number=customer.invoice)["state"] == "live"

    opened = sides.http.get(issued["bill_link"])
    assert (opened.status_code, opened.headers["content-type"]) == (200, "application/pdf")
    assert opened.content.startswith(b"%PDF-")
    assert opened.headers["cache-control"] == "private, no-store"
    assert opened.headers["x-content-type-options"] == "nosniff"
    assert opened.headers["content-disposition"] == f'inline; filename="bill-{customer.invoice}.pdf"'
    played = sides.control(
        "POST", "/play/open", json={"biller": "acme", "invoice_numbers": [customer.invoice]}
    )
    assert played["statuses"] == {"200": 1}


def test_bill_images_the_pdf_is_streamed_whole(sides: BothSides) -> None:
    customer = sides.customer()
    sides.seed(customer.account, bills=[{"bill_id": customer.bill_id, "bytes": 3 * MIB}])
    link = sides.one("invoice.issued", invoice_number=customer.invoice)["bill_link"]
    with sides.http.stream("GET", link) as opened:
        pieces = list(opened.iter_raw())
    whole = b"".join(pieces)

    assert opened.status_code == 200
    assert int(opened.headers["content-length"]) == len(whole) >= 3 * MIB
    assert whole.startswith(b"%PDF-")
    assert len(pieces) > 1


def test_bill_images_an_expired_link_is_dead(sides: BothSides) -> None:
    customer = sides.customer()
    assert sides.http.get(signed(sides, customer, days=1)).status_code == 200
    expired = sides.http.get(signed(sides, customer, days=-1))
    assert (expired.status_code, b"%PDF" in expired.content) == (410, False)
    assert expired.headers["content-type"].startswith("text/html")


def test_bill_images_a_revoked_link_is_dead(sides: BothSides) -> None:
    customer = sides.customer()
    link = sides.one("invoice.issued", invoice_number=customer.invoice)["bill_link"]
    assert sides.http.get(link).status_code == 200
    assert sides.ask("bills", "POST", f"/imt/acme/bills/{customer.invoice}/revoke").status_code == 200
    until(lambda: sides.http.get(link).status_code == 410, LIMIT_S, "the revocation")
    states = [e["state"] for e in sides.events("bill.linked", invoice_number=customer.invoice)]
    assert states[-1] == "revoked"


def test_bill_images_a_forged_link_opens_nothing(sides: BothSides) -> None:
    customer = sides.customer()
    link = sides.one("invoice.issued", invoice_number=customer.invoice)["bill_link"]
    for forged in (link[:-3] + "abc", link.replace("/acme/", "/birch/"), link.rsplit("/", 1)[0] + "/x"):
        answer = sides.http.get(forged)
        assert (answer.status_code, b"%PDF" in answer.content) == (404, False)


def test_bill_images_a_missing_bill_is_an_honest_page(sides: BothSides) -> None:
    row = sides.new_row()
    assert sides.deliver(row).json()["refusals"] == []
    linked = sides.one("bill.linked", invoice_number=row["InvoiceNumber"])
    assert linked["state"] == "missing"
    link = sides.one("invoice.issued", invoice_number=row["InvoiceNumber"])["bill_link"]
    answer: httpx.Response = sides.http.get(link)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert "This bill is not here" in answer.text
