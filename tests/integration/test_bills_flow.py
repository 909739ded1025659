"""Bills over the real broker, real HTTP and the sandbox's IMT: checked, opened, revoked."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count

import httpx
import pytest

from deploy.local.processes import Processes
from services.bus.links import mint
from services.bus.secrets import Secrets
from services.events import BillLinked, InvoiceIssued
from tests.deadline import until
from tests.on_the_bus import publish, read
from tests.stacks import Addresses
from tests.unit.parts import a_biller

LIMIT_S = 40
MIB = 1024 * 1024
_number = count(int(time.time()) % 10_000_000)


class Desk:
    """Two replicas of bills and the sandbox."""

    def __init__(self, processes: Processes, stack: Addresses) -> None:
        self.processes = processes
        self.stack = stack
        self.biller = a_biller(links={"key": "acme-link-key"})
        self.control = httpx.Client(base_url=f"{processes.url('sandbox')}/control", timeout=30)

    def issue(self, *, pdf_bytes: int | None = 2000, days: float = 400) -> InvoiceIssued:
        """Puts an invoice on the bus, as invoices does; IMT has its PDF unless told otherwise."""
        number = next(_number)
        account, bill = f"00{number}", f"BILL {number}"
        bills = [] if pdf_bytes is None else [{"bill_id": bill, "bytes": pdf_bytes}]
        seeded = {"biller": "acme", "accounts": [{"account": account, "bills": bills}]}
        assert self.control.post("/accounts", json=seeded).status_code == 200
        until_at = (datetime.now(UTC) + timedelta(days=days)).replace(microsecond=0)
        secrets = Secrets(self.processes.secrets)
        link = mint(self.biller, secrets, self.processes.url("bills"), f"INV-{number}", bill, until_at)
        invoice = InvoiceIssued(
            biller="acme",
            account=account,
            invoice_number=f"INV-{number}",
            file_id="0" * 64,
            row=2,
            customer_name="Ada Example",
            invoice_date=date(2026, 11, 1),
            due_date=date(2026, 12, 1),
            past_due=Decimal("0.00"),
            current_charges=Decimal("10.00"),
            balance_due=Decimal("10.00"),
            minimum_due=Decimal("10.00"),
            credit=Decimal("0.00"),
            autopay=False,
            paperless=False,
            bill_id=bill,
            bill_link=link,
            bill_link_expires_at=until_at,
            content=f"{number:016x}",
            issued_at=datetime.now(UTC),
        )
        publish(self.stack, invoice)
        return invoice

    def linked(self, invoice: InvoiceIssued) -> list[BillLinked]:
        return [e for e in read(self.stack, BillLinked) if e.invoice_number == invoice.invoice_number]

    def checked(self, invoice: InvoiceIssued) -> BillLinked:
        until(lambda: self.linked(invoice), LIMIT_S, "the check")
        return self.linked(invoice)[-1]

    def open(self, invoice: InvoiceIssued, name: str = "bills") -> httpx.Response:
        address = invoice.bill_link.replace(self.processes.url("bills"), self.processes.url(name))
        return httpx.get(address, timeout=60)

    def revoke(self, invoice: InvoiceIssued) -> httpx.Response:
        return httpx.post(
            f"{self.processes.url('bills')}/imt/acme/bills/{invoice.invoice_number}/revoke",
            headers={"Authorization": f"Bearer {self.processes.secret('acme-intake-bearer')}"},
        )

    def fault(self, kind: str, **more: object) -> None:
        told = {"service": "imt.bills", "kind": kind, **more}
        assert self.control.put("/faults", json=told).status_code == 200


@pytest.fixture(scope="module")
def desk(stack: Addresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("bills")
    with Processes(folder, bootstrap=stack.bootstrap, registry=stack.registry) as processes:
        processes.start_all(("sandbox", "bills", "bills-2"))
        made = Desk(processes, stack)
        with made.control:
            yield made


@pytest.fixture(autouse=True)
def no_faults(desk: Desk) -> Iterator[None]:
    yield
    desk.control.delete("/faults")


def test_a_new_link_is_checked_and_then_opens_the_pdf_in_every_replica(desk: Desk) -> None:
    invoice = desk.issue(pdf_bytes=3 * MIB)
    found = desk.checked(invoice)
    assert (found.state, found.bill_id, found.expires_at) == (
        "live",
        invoice.bill_id,
        invoice.bill_link_expires_at,
    )
    for name in ("bills", "bills-2"):
        answer = desk.open(invoice, name)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "application/pdf"
        assert answer.headers["cache-control"] == "private, no-store"
        assert answer.content.startswith(b"%PDF-")
        assert len(answer.content) >= 3 * MIB


def test_a_bill_that_imt_does_not_have_is_missing_by_name_and_an_honest_page(desk: Desk) -> None:
    invoice = desk.issue(pdf_bytes=None)
    found = desk.checked(invoice)
    assert (found.state, found.reason) == ("missing", "imt_answered_404")
    answer = desk.open(invoice)
    assert answer.status_code == 404
    assert answer.headers["content-type"].startswith("text/html")
    assert "This bill is not here" in answer.text


def test_while_imt_is_in_maintenance_checks_wait_and_customers_are_told_to_come_back(desk: Desk) -> None:
    desk.fault("maintenance")
    invoice = desk.issue()
    answer = desk.open(invoice)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    assert answer.headers["content-type"].startswith("text/html")
    assert desk.linked(invoice) == []
    desk.control.delete("/faults")
    assert desk.checked(invoice).state == "live"
    assert desk.open(invoice).status_code == 200


@pytest.mark.parametrize("kind", ["error", "reset", "wrong_content_type"])
def test_whatever_imt_does_a_customer_gets_a_page_and_never_a_500(desk: Desk, kind: str) -> None:
    invoice = desk.issue()
    desk.checked(invoice)
    desk.fault(kind, subject=invoice.bill_id)
    answer = desk.open(invoice)
    assert answer.status_code == 503
    assert "cannot be shown right now" in answer.text


def test_a_pdf_beyond_the_limit_is_not_begun(desk: Desk) -> None:
    invoice = desk.issue(pdf_bytes=21 * MIB)
    assert desk.open(invoice).status_code == 503


def test_a_revoked_link_is_dead_in_every_replica(desk: Desk) -> None:
    invoice = desk.issue()
    desk.checked(invoice)
    until(lambda: desk.revoke(invoice).status_code == 200, LIMIT_S, "the replica's knowing the bill")
    assert desk.open(invoice).status_code == 410
    until(lambda: desk.open(invoice, "bills-2").status_code == 410, 5, "the other replica's view")
    assert desk.checked(invoice).state == "revoked"
    desk.processes.kill("bills")
    desk.processes.start("bills")
    assert desk.open(invoice).status_code == 410, "it outlives the process"


def test_an_expired_and_a_forged_link_open_nothing(desk: Desk) -> None:
    assert desk.open(desk.issue(days=-1)).status_code == 410
    good = desk.issue().bill_link
    forged = good[:-6] + ("AAAAAA" if good[-6:] != "AAAAAA" else "BBBBBB")
    assert httpx.get(forged).status_code == 404
    assert httpx.get(good.replace("/acme/", "/birch/")).status_code == 404
