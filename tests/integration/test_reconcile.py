"""billbus reconcile on the real broker, with payments and the sandbox: what is planted is found and named."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
import yaml
from typer.testing import CliRunner

from deploy.local.processes import Processes
from services.bus.billers import read_biller
from services.bus.business_day import cut_off
from services.bus.secrets import Secrets
from services.bus.service import open_bus
from services.bus.settings import load_settings
from services.bus.support import SupportMatrix
from services.cli.app import cli
from services.payments.batches import MARGIN, BatchClock, ClosedBatches
from tests.deadline import until
from tests.on_the_bus import publish
from tests.own_biller import control, know, seed, state_biller
from tests.stacks import Addresses
from tests.unit.payments_sample import PARTNERS, a_payment

LIMIT_S = 40
GOOD = 12


class Insurer:
    """A biller of its own with payments and the sandbox, and the operator's commands on it."""

    def __init__(self, stack: Addresses, folder: Path) -> None:
        self.stack = stack
        self.slug = f"elm-{int(time.time())}"
        self.accounts = [f"{n:010d}" for n in range(1, GOOD + 1)]
        self.billers, self.moved = folder / "stated", folder / "moved"
        self.billers.mkdir()
        self.moved.mkdir()
        self.stated = yaml.safe_load(state_biller(self.billers, self.slug).read_text())
        self.processes = Processes(
            folder / "services", bootstrap=stack.bootstrap, registry=stack.registry, billers=self.billers
        )
        self.environment = self.processes.environment("payments")

    def control(self, method: str, path: str, **given: Any) -> Any:
        return control(self.processes, method, path, **given)

    def pay(self, guid: str, account: str, amount: str = "10.00", **fields: str) -> None:
        told = {
            "BillerGUID": self.stated["invoice_cloud"]["biller_guid"],
            "PaymentGUID": guid,
            "PaymentDate": "2026-11-20",
            "Approved": "True",
            "PaymentAmount": amount,
            "PaymentTypeID": "1",
            "AccountNumber": account,
        }
        bearer = self.processes.secret(f"{self.slug}-intake-bearer")
        answer = httpx.post(
            f"{self.processes.url('payments')}/ic/{self.slug}/payments",
            data=told | fields,
            headers={"Authorization": f"Bearer {bearer}"},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text

    def posted(self) -> int:
        found = self.control("GET", "/ledger/payments", params={"biller": self.slug, "limit": 0})
        return int(found["distinct"])

    def close_the_day(self) -> date:
        """The operator's cut-off is a moment from now; the day that ends there is closed. Its name."""
        ends = (datetime.now(ZoneInfo(self.stated["timezone"])) + timedelta(seconds=1)).replace(microsecond=0)
        path = state_biller(self.moved, self.slug, batch={"cut_off": f"{ends:%H:%M:%S}"})
        support = SupportMatrix.load(PARTNERS / "support.yaml")
        biller, _ = read_biller(path, Secrets(self.processes.secrets), support)
        assert biller is not None
        until(lambda: datetime.now(UTC) > cut_off(biller, ends.date()) + MARGIN, LIMIT_S, "the cut-off")

        async def close() -> None:
            bus = open_bus(
                load_settings(
                    service="payments",
                    bootstrap=self.stack.bootstrap,
                    registry=self.stack.registry,
                    billers=self.billers,
                    secrets=self.processes.secrets,
                )
            )
            await bus.codec.start()
            await bus.publisher.start()
            try:
                await BatchClock(bus, ClosedBatches()).close_due(biller)
            finally:
                await bus.publisher.stop()
                bus.codec.close()

        asyncio.run(close())
        return ends.date()

    def reconcile(self, day: date, *more: str, **environment: str) -> tuple[int, dict[str, Any], Any]:
        """Exit code, the summary, and the GUIDs by kind of difference."""
        environment = self.environment | {"BILLBUS_BILLERS": str(self.moved)} | environment
        arguments = ["reconcile", "--biller", self.slug, "--day", str(day), "--json", *more]
        done = CliRunner().invoke(cli, arguments, env=environment)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        summary, *rest = map(json.loads, done.stdout.splitlines())
        found: dict[str, list[str]] = {}
        for each in rest:
            found.setdefault(each["kind"], []).append(each["payment_guid"])
        return done.exit_code, summary, found


@pytest.fixture(scope="module")
def elm(stack: Addresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Insurer]:
    insurer = Insurer(stack, tmp_path_factory.mktemp("reconcile"))
    know(stack, insurer.slug, insurer.accounts)
    with insurer.processes as running:
        running.start_all(("sandbox", "payments"))
        seed(running, insurer.slug, insurer.accounts)
        for number, account in enumerate(insurer.accounts):
            insurer.pay(f"G-{number}", account, f"{number + 10}.25", PaymentTypeID=str(number % 2 + 1))
        until(lambda: insurer.posted() == GOOD, LIMIT_S, "all payments at IMT")
        yield insurer


@pytest.fixture(scope="module")
def day(elm: Insurer) -> date:
    return elm.close_the_day()


def test_a_day_that_adds_up_is_exit_code_0(elm: Insurer, day: date) -> None:
    code, summary, found = elm.reconcile(day)
    assert (code, found, summary["adds_up"]) == (0, {}, True), (summary, found)
    assert summary["received"] == summary["posted"] == {"count": GOOD, "amount": "189.00"}
    assert (summary["batch"]["state"], summary["imt"]["state"]) == ("agrees", "agrees")
    assert {(line["tender"], line["count"]) for line in summary["lines"]} == {("card", 6), ("eft", 6)}


def test_what_is_planted_at_imt_is_named_down_to_the_payment(elm: Insurer, day: date, tmp_path: Path) -> None:
    def of(guid: str) -> dict[str, str]:
        return {"biller": elm.slug, "natural_id": guid}

    tomorrow = (day + timedelta(days=1)).isoformat()
    elm.control("DELETE", "/ledger/payments", params=of("G-1"))
    elm.control("POST", "/ledger/payments/repeat", params=of("G-2"))
    elm.control("PATCH", "/ledger/payments", params=of("G-3"), json={"amount": "99.00"})
    elm.control("PATCH", "/ledger/payments", params=of("G-4"), json={"fields": {"BatchDate": tomorrow}})
    elm.control(
        "PATCH", "/ledger/payments", params=of("G-5"), json={"fields": {"AccountNumber": elm.accounts[0]}}
    )
    elm.control("POST", "/ledger/payments/repeat", params=of("G-6"))
    book = tmp_path / "differences.csv"
    code, summary, found = elm.reconcile(day, "--csv", str(book))
    assert code == 1
    assert found == {
        "lost_at_imt": ["g-1"],
        "doubled_at_imt": ["g-2", "g-6"],
        "wrong_amount": ["g-3"],
        "wrong_account": ["g-5"],
        "wrong_day": ["g-4"],
    }
    assert (summary["imt"]["state"], summary["batch"]["state"]) == ("differs", "agrees")
    written = book.read_text()
    assert len(written.splitlines()) == 7
    assert elm.accounts[1] not in written


def test_an_imt_that_is_away_is_exit_code_3_with_what_is_ours(elm: Insurer, day: date) -> None:
    fault = {"service": "imt.datapump", "kind": "maintenance", "count": 1000, "biller": elm.slug}
    elm.control("PUT", "/faults", json=fault)
    try:
        code, summary, _ = elm.reconcile(day)
    finally:
        elm.control("DELETE", "/faults")
    assert (code, summary["imt"]["state"], summary["posted"]["count"]) == (3, "not reached", GOOD)


def test_an_imt_without_a_list_is_said_and_ours_alone_counts(elm: Insurer, day: date, tmp_path: Path) -> None:
    told = yaml.safe_load((elm.moved / f"{elm.slug}.yaml").read_text())
    state_biller(tmp_path, elm.slug, batch=told["batch"], lists_payments=False)
    code, summary, found = elm.reconcile(day, BILLBUS_BILLERS=str(tmp_path))
    assert (code, summary["imt"]["state"], found) == (0, "no list", {})


def test_what_is_parked_repeated_in_conflict_or_missing_is_named(elm: Insurer, day: date) -> None:
    elm.pay("U-1", elm.accounts[0], "7.00", Product="Kiosk")
    elm.pay("N-1", "555", "8.00")
    elm.pay("D-1", elm.accounts[0], "9.00", Approved="False")
    elm.pay("G-0", elm.accounts[0], "10.25", PaymentTypeID="1")
    elm.pay("P-1", elm.accounts[0], "11.00")
    elm.pay("P-1", elm.accounts[0], "12.00")
    tomorrow = day + timedelta(days=1)

    def settled() -> bool:
        return "conflict" in elm.reconcile(tomorrow)[2]

    until(settled, LIMIT_S, "the conflict")
    elm.processes.kill("payments")
    publish(elm.stack, replace(a_payment(), biller=elm.slug, payment_guid="m-1"))
    code, summary, found = elm.reconcile(tomorrow)
    assert code == 1
    assert (found["parked"], found["conflict"], found["missing"]) == (["n-1", "u-1"], ["p-1"], ["m-1"])
    assert (summary["declined"], summary["repeats"], summary["batch"]["state"]) == (1, 2, "open")
    assert summary["received"]["count"] == summary["posted"]["count"] + 3 == 4
