"""The 27 rows that are not supported, each asked for wherever it really can be: refused by its name.

What is only asked for is refused before it touches the bus; money already collected is taken and parked.
A test that leaves out one of its row's places in support.yaml fails.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

from deploy.local.processes import ROOT
from services.bus.support import SECTIONS, Row, SupportMatrix
from tests.deadline import until
from tests.e2e.both_sides import LIMIT_S, BothSides, Customer

SUPPORT = SupportMatrix.load(ROOT / "schemas" / "partners" / "support.yaml")
START_LIMIT_S = 90


@dataclass(frozen=True)
class Ended:
    """A service that did not start."""

    code: int
    said: list[str]


@dataclass(frozen=True)
class Switchboard:
    """Billers' files with one thing switched on that is not supported, and the service that reads them."""

    sides: BothSides
    folder: Path

    def write(self, place: str, changes: dict[str, Any]) -> Path:
        """acme's file under a name of its own, with these changes."""
        told = yaml.safe_load((self.sides.processes.billers / "acme.yaml").read_text())
        for name, value in changes.items():
            told[name] = {**told.get(name, {}), **value} if isinstance(value, dict) else value
        path = self.folder / f"{place}.yaml"
        path.write_text(yaml.safe_dump(told | {"slug": place}))
        return path

    def start(self, service: str) -> Ended:
        """Runs the service as a person would; returns when it has ended."""
        environment = self.sides.processes.environment(service) | {"BILLBUS_BILLERS": str(self.folder)}
        ended = subprocess.run(
            [str(Path(sys.executable).with_name("billbus")), "run", service],
            env=environment,
            capture_output=True,
            text=True,
            timeout=START_LIMIT_S,
            check=False,
        )
        return Ended(ended.returncode, ended.stderr.splitlines())


def switched_on(row: Row) -> dict[str, Any]:
    return {SECTIONS[row.kind]: {row.slug: True}}


def named(place: str) -> str:
    """A biller's slug that stands for one place."""
    return "b-" + "".join(sign if sign.isalnum() else "-" for sign in place)[-28:]


@dataclass
class Asked:
    """The ways of asking for a row; keeps at which of its places it was asked for."""

    row: Row
    sides: BothSides
    customer: Customer
    refused_start: tuple[Switchboard, Ended]
    places: set[tuple[str, str]] = field(default_factory=set)

    def by_request(self, method_and_path: str) -> None:
        """A request: 422 by the row's name, counted, and nothing on the bus."""
        self.places.add(("request", method_and_path))
        method, path = method_and_path.split()
        counted, published = self._counted("payments"), self._payments_on_the_bus()
        path = path.format(biller="acme", guid=uuid4())
        answer = self.sides.ask("payments", method, path, json={"PaymentGUID": str(uuid4())})
        self._refused(answer.status_code, answer.headers["content-type"], answer.json())
        assert self._counted("payments") == counted + 1
        assert self._payments_on_the_bus() == published

    def by_change(self, kind: str) -> None:
        """A change of IC's change log, alone and beside a good one that goes on."""
        self.places.add(("change_type", kind))
        counted, alone, beside, good = self._counted("settings"), *(str(uuid4()) for _ in range(3))
        change = {"AccountNumber": self.customer.account, "Type": kind, kind: "True"}
        path = "/ic/acme/changes"
        single = self.sides.ask("settings", "POST", path, json={**change, "ChangeID": alone})
        self._refused(single.status_code, single.headers["content-type"], single.json())
        paper = {"ChangeID": good, "Type": "PaperInvoices", "PaperInvoices": "False"}
        several = self.sides.change({**change, "ChangeID": beside}, {**change, **paper})

        assert several.status_code == 207
        refused, taken = several.json()["results"]
        assert (refused["ChangeID"], refused["status"]) == (beside, "refused")
        assert (refused["type"], refused["title"], refused["detail"]) == self._problem
        assert (taken["ChangeID"], taken["status"]) == (good, "accepted")
        assert self._counted("settings") == counted + 2
        until(lambda: self._settings_at_imt(good), LIMIT_S, "the good change at IMT")
        for bad in (alone, beside):
            assert self.sides.events("setting.changed", change_id=bad) == []
            assert not self._settings_at_imt(bad)

    def by_flag(self, flag: str, cell: str | None = None) -> None:
        """A flag in a BIF row: that row is refused by name in the file's report, its neighbours go on."""
        self.places.add(("bif_column", flag))
        column, _, value = flag.partition("=")
        counted = self._counted("invoices")
        bad = self.sides.new_row(**{column: cell or value})
        good = [self.sides.new_row(), self.sides.new_row()]
        answer = self.sides.deliver(good[0], bad, good[1])

        assert answer.status_code == 200, answer.text
        told = answer.json()
        report = self.sides.ask("invoices", "GET", f"/imt/acme/bif/{told['file_id']}").json()
        assert (told["accepted"], told["refused"]) == (report["accepted"], report["refused"]) == (2, 1)
        for (refusal,) in (told["refusals"], report["refusals"]):
            assert (refusal["line"], refusal["column"]) == (4, column)
            assert refusal["expected"] == f"{self.row.title}. {self.row.sentence}"
        assert self._counted("invoices") == counted + 1
        for row in good:
            until(lambda row=row: self._at_ic(row), LIMIT_S, "the good rows at IC")  # type: ignore[misc]  # bound now
        assert self.sides.events("invoice.issued", invoice_number=bad["InvoiceNumber"]) == []
        assert not self._at_ic(bad)

    def by_product(self, wire: str) -> None:
        self.places.add(("payment_product", wire))
        self.by_payment(Product=wire)

    def by_device(self, wire: str) -> None:
        self.places.add(("payment_device", wire))
        self.by_payment(Device=wire)

    def by_schedule(self, wire: str) -> None:
        self.places.add(("payment_schedule", wire))
        self.by_payment(ScheduleID="S-1", ScheduleKind=wire)

    def by_payment(self, **fields: str) -> None:
        """Money already collected: taken, published, parked by the row's name, never at IMT."""
        told = self.sides.payment(InvoiceNumber=self.customer.invoice, **fields)
        answer = self.sides.pay(told)
        assert (answer.status_code, answer.json()["Status"]) == (200, "accepted")
        outcome = self.sides.settled(told)
        assert (outcome["state"], outcome["reason"]) == ("parked", f"unsupported: {self.row.name}")
        assert outcome["account"] == self.customer.account
        assert outcome["never_sent"]
        (event,) = self.sides.events("payment.received", payment_guid=told["PaymentGUID"])
        assert (event["unsupported"], event["approved"]) == (self.row.name, True)
        assert self.sides.paid(told) == []

    def by_switch(self) -> None:
        """The row's own switch in a biller's file: the service says the sentence and does not start."""
        place = f"{SECTIONS[self.row.kind]}.{self.row.slug}"
        self.places.add(("switch", place))
        self._not_started(place, place)

    def by_field(self, stated: str) -> None:
        """A value of a field in a biller's file, likewise."""
        self.places.add(("biller_field", stated))
        self._not_started(stated, stated.split("=")[0])

    def by_switch_alone(self, service: str, folder: Path) -> None:
        """The switch with nothing else wrong, at another service."""
        board = Switchboard(self.sides, folder)
        path = board.write("acme", switched_on(self.row))
        ended = board.start(service)
        place = f"{SECTIONS[self.row.kind]}.{self.row.slug}"
        assert ended.said == [f"{path}: {place}: {self.row.title}. {self.row.sentence}"]
        assert ended.code != 0

    def _not_started(self, place: str, where: str) -> None:
        board, ended = self.refused_start
        path = board.folder / f"{named(place)}.yaml"
        said = [line for line in ended.said if line.startswith(f"{path}:")]
        assert said == [f"{path}: {where}: {self.row.title}. {self.row.sentence}"]
        assert ended.code != 0

    @property
    def _problem(self) -> tuple[str, str, str]:
        return (
            f"urn:billbus:unsupported:{self.row.slug}",
            f"Not supported: {self.row.name}",
            self.row.sentence,
        )

    def _refused(self, status: int, kind: str, problem: dict[str, Any]) -> None:
        assert (status, kind) == (422, "application/problem+json")
        assert (problem["type"], problem["title"], problem["detail"]) == self._problem

    def _counted(self, service: str) -> float:
        return self.sides.metric(service, "billbus_refused_total", row=self.row.slug)

    def _payments_on_the_bus(self) -> int:
        return sum(len(self.sides.events(f"payment.{name}")) for name in ("received", "outcome"))

    def _settings_at_imt(self, change_id: str) -> list[dict[str, Any]]:
        rows = self.sides.ledger("settings", account=self.customer.account)
        return [row for row in rows if change_id in row.values()]

    def _at_ic(self, row: dict[str, str]) -> bool:
        return bool(self.sides.ledger("invoices", natural_id=row["InvoiceNumber"]))


@pytest.fixture(scope="module")
def customer(sides: BothSides) -> Customer:
    return sides.customer()


@pytest.fixture(scope="module")
def refused_start(sides: BothSides, tmp_path_factory: pytest.TempPathFactory) -> tuple[Switchboard, Ended]:
    """One start that finds everything wrong: a file for each place in a biller's file."""
    board = Switchboard(sides, tmp_path_factory.mktemp("switched-on"))
    for row in SUPPORT.rows:
        for surface in row.surfaces if not row.supported else ():
            if surface.at == "switch":
                board.write(named(surface.value), switched_on(row))
            elif surface.at == "biller_field":
                name, _, value = surface.value.partition("=")
                board.write(named(surface.value), {name: value})
    return board, board.start("payments")


@pytest.fixture
def asked(
    request: pytest.FixtureRequest,
    sides: BothSides,
    customer: Customer,
    refused_start: tuple[Switchboard, Ended],
) -> Iterator[Asked]:
    """The row that the test is named after; afterwards, whether it was asked for at each of its places."""
    slug = request.node.name.removeprefix("test_").removesuffix("_is_refused")
    made = Asked(SUPPORT.row(slug), sides, customer, refused_start)
    yield made
    assert made.places == {(surface.at, surface.value) for surface in made.row.surfaces}


def test_ach_rejects_is_refused(asked: Asked) -> None:
    asked.by_request("POST /ic/{biller}/ach-rejects")
    asked.by_switch()


def test_void_is_refused(asked: Asked) -> None:
    asked.by_request("POST /ic/{biller}/voids")
    asked.by_request("POST /ic/{biller}/payments/{guid}/void")
    asked.by_switch()


def test_pdf_extraction_is_refused(asked: Asked) -> None:
    asked.by_flag("BillImageType=extraction")
    asked.by_field("bill_images=pdf_extraction")
    asked.by_switch()


def test_template_is_refused(asked: Asked) -> None:
    asked.by_flag("BillImageType=template")
    asked.by_field("bill_images=template")
    asked.by_switch()


def test_check_free_fiserv_cash_is_refused(asked: Asked) -> None:
    asked.by_product("CheckFreeFiservCash")
    asked.by_switch()


def test_cloud_pay_is_refused(asked: Asked) -> None:
    asked.by_product("CloudPay")
    asked.by_switch()


def test_cloud_pay_web_services_is_refused(asked: Asked) -> None:
    asked.by_product("CloudPayWebServices")
    asked.by_switch()


def test_cloud_store_is_refused(asked: Asked) -> None:
    asked.by_product("CloudStore")
    asked.by_switch()


def test_csr_connect_is_refused(asked: Asked) -> None:
    asked.by_product("CSRConnect")
    asked.by_switch()


def test_emv_is_refused(asked: Asked) -> None:
    asked.by_product("EMV")
    asked.by_switch()


def test_kiosk_is_refused(asked: Asked) -> None:
    asked.by_product("Kiosk")
    asked.by_switch()


def test_outbound_ivr_is_refused(asked: Asked) -> None:
    asked.by_product("OutboundIVR")
    asked.by_switch()


def test_pos_connect_is_refused(asked: Asked) -> None:
    asked.by_product("POSConnect")
    asked.by_switch()


def test_multi_user_log_in_is_refused(asked: Asked) -> None:
    asked.by_change("MultiUserLogIn")
    asked.by_switch()


def test_co_owner_registration_is_refused(asked: Asked) -> None:
    asked.by_change("CoOwnerRegistration")
    asked.by_switch()


def test_sso_is_refused(asked: Asked) -> None:
    asked.by_change("SSO")
    asked.by_switch()


def test_bill_processor_is_refused(asked: Asked, tmp_path: Path) -> None:
    asked.by_switch()
    asked.by_switch_alone("invoices", tmp_path)


def test_conveyance_is_refused(asked: Asked, tmp_path: Path) -> None:
    asked.by_switch()
    asked.by_switch_alone("settings", tmp_path)


def test_open_item_billing_is_refused(asked: Asked) -> None:
    asked.by_flag("BillingOption=open_item")
    asked.by_field("billing=open_item")
    asked.by_switch()


def test_expire_bill_for_payment_is_refused(asked: Asked) -> None:
    asked.by_flag("ExpirationDate", "2026-12-31")
    asked.by_switch()


def test_flex_pay_is_refused(asked: Asked) -> None:
    asked.by_schedule("FlexPay")
    asked.by_switch()


def test_partial_payments_is_refused(asked: Asked) -> None:
    asked.by_flag("AllowPartialPayments=true", "T")
    asked.by_switch()


def test_past_due_payments_is_refused(asked: Asked) -> None:
    asked.by_flag("AllowPastDuePayments=true", "T")
    asked.by_switch()


def test_magtek_rev_is_refused(asked: Asked) -> None:
    asked.by_device("MagtekREV")
    asked.by_switch()


def test_idtech_sred_key_is_refused(asked: Asked) -> None:
    asked.by_device("IDTechSREDKey")
    asked.by_switch()


def test_ingenico_emv_is_refused(asked: Asked) -> None:
    asked.by_device("IngenicoEMV")
    asked.by_switch()


def test_other_emv_devices_is_refused(asked: Asked) -> None:
    asked.by_device("OtherEMV")
    asked.by_payment(Device="A reader nobody has heard of")
    asked.by_switch()
