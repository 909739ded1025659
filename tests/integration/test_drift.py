"""billbus drift on the real broker, with settings and the sandbox: what is planted is found, and mended."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from deploy.local.processes import ROOT, Processes
from services.bus.billers import Billers, read_biller
from services.bus.partner import PartnerHttp
from services.bus.secrets import Secrets
from services.bus.support import SupportMatrix
from services.cli.app import cli
from services.events import OperationAudited
from services.invoices.invoicecloud import InvoiceCloud, load_contract
from tests.deadline import until
from tests.on_the_bus import read
from tests.own_biller import control, know, seed, state_biller
from tests.stacks import Addresses
from tests.unit.test_invoicecloud import invoice

PARTNERS = ROOT / "schemas" / "partners"
LIMIT_S = 40
NAMES = ("agreed", "changed", "lost", "stale", "at ic", "never told")
ACCOUNTS = {name: f"{number:010d}" for number, name in enumerate(NAMES, 81)}


class Desk:
    """A biller of its own with settings and the sandbox, and the operator's command on it."""

    def __init__(self, stack: Addresses, folder: Path) -> None:
        self.stack = stack
        self.slug = f"oak-{int(time.time())}"
        billers = folder / "stated"
        billers.mkdir()
        self.path = state_biller(billers, self.slug, deadline_s=1, margin_s=0.5)
        self.processes = Processes(
            folder / "services", bootstrap=stack.bootstrap, registry=stack.registry, billers=billers
        )

    def upload(self) -> None:
        """The accounts' invoices, at IC: nobody is enrolled."""
        support = SupportMatrix.load(PARTNERS / "support.yaml")
        secrets = Secrets(self.processes.secrets)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("BILLBUS_SANDBOX_URL", self.processes.url("sandbox"))
            biller, problems = read_biller(self.path, secrets, support)
        assert biller is not None, problems
        invoices = [
            replace(
                invoice(),
                biller=self.slug,
                account=a,
                invoice_number=f"INV-{a}",
                autopay=False,
                paperless=False,
            )
            for a in ACCOUNTS.values()
        ]

        async def send() -> None:
            async with PartnerHttp() as http:
                ic = InvoiceCloud(http, Billers({self.slug: biller}), secrets, *load_contract(PARTNERS))
                assert len(await ic.upload(invoices)) == len(ACCOUNTS)

        asyncio.run(send())

    def change(self, name: str, **fields: Any) -> None:
        """A change that IC tells us of, and has itself."""
        told = {"ChangeID": f"c-{name}", "ChangedAt": "2026-11-20T12:00:00Z", "AccountNumber": ACCOUNTS[name]}
        answer = httpx.post(
            f"{self.processes.url('settings')}/ic/{self.slug}/changes",
            json={"changes": [told | fields]},
            headers={"Authorization": f"Bearer {self.processes.secret(f'{self.slug}-intake-bearer')}"},
            timeout=30,
        )
        assert answer.json()["accepted"] == 1, answer.text

    def at_ic(self, name: str, **customer: bool) -> None:
        fields = {f"Customer.{field}": str(value).lower() for field, value in customer.items()}
        self.plant("PATCH", "invoices", name, json={"fields": fields})

    def plant(self, method: str, kind: str, name: str, **given: Any) -> None:
        where = {"biller": self.slug, "account": ACCOUNTS[name]}
        assert control(self.processes, method, f"/ledger/{kind}", params=where, **given)[kind] == 1

    def at_imt(self, name: str) -> list[tuple[str, str]]:
        where = {"biller": self.slug, "account": ACCOUNTS[name]}
        rows = control(self.processes, "GET", "/ledger/settings", params=where)["rows"]
        return [(row["fields"]["Indicator"], row["fields"]["Value"]) for row in rows]

    def drift(self, *more: str) -> tuple[int, dict[str, Any], dict[str, Any]]:
        """Exit code, by account's name what was found, and the summary."""
        environment = self.processes.environment("settings") | {
            "BILLBUS_OPERATOR": "ada",
            "BILLBUS_PERSONAL_DATA": "true",
        }
        arguments = ["drift", "--biller", self.slug, "--rate", "500", "--json", "--pii", *more]
        done = CliRunner().invoke(cli, arguments, env=environment)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        *rest, summary = map(json.loads, done.stdout.splitlines())
        names = {account: name for name, account in ACCOUNTS.items()}
        return done.exit_code, {names[each["account"]]: each for each in rest}, summary


@pytest.fixture(scope="module")
def desk(stack: Addresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    made = Desk(stack, tmp_path_factory.mktemp("drift"))
    know(stack, made.slug, list(ACCOUNTS.values()))
    with made.processes as running:
        running.start_all(("sandbox", "settings"))
        seed(running, made.slug, list(ACCOUNTS.values()))
        made.upload()
        for name in NAMES[:-1]:
            made.change(name, Type="AutoPay", AutoPay="True")
            made.at_ic(name, AutoPay=True)
        made.change("lost", ChangeID="c-paper", Type="PaperInvoices", PaperInvoices="False")
        made.at_ic("lost", PaperInvoices=False)
        until(lambda: made.drift()[0] == 0, LIMIT_S, "all three agreeing")
        yield made


def test_each_kind_of_drift_is_found_and_only_what_imt_lacks_is_sent_again(desk: Desk) -> None:
    desk.plant("PATCH", "settings", "changed", json={"fields": {"Value": "F"}})
    control(
        desk.processes,
        "DELETE",
        "/ledger/settings",
        params={"biller": desk.slug, "account": ACCOUNTS["lost"]},
    )
    desk.plant("PATCH", "settings", "stale", json={"fields": {"Value": "F"}})
    desk.at_ic("stale", AutoPay=False)
    desk.at_ic("at ic", AutoPay=False)
    desk.at_ic("never told", AutoPay=True)

    code, found, summary = desk.drift("--repair")
    assert code == 1
    assert {name: each["kind"] for name, each in found.items()} == {
        "changed": "imt",
        "lost": "imt",
        "stale": "ours",
        "at ic": "ic",
        "never told": "never told",
    }
    assert summary["drifts"] == {"ic": 1, "imt": 3, "never told": 1, "ours": 1}
    assert found["changed"]["ours_since"].startswith("2026-11-20T12:00:00")
    assert desk.at_imt("lost") == []

    code, found, summary = desk.drift("--repair", "--yes", "--reason", "IMT restored a backup")
    assert (code, summary["repairs"]) == (1, {"repaired": 3})
    assert {name: each["result"] for name, each in found.items() if each["kind"] == "imt"} == {
        "changed": "repaired",
        "lost": "repaired",
    }
    assert desk.at_imt("changed") == [("AutoPay", "F"), ("AutoPay", "T")]
    assert sorted(desk.at_imt("lost")) == [("AutoPay", "T"), ("Paperless", "T")]
    assert (desk.at_imt("stale"), desk.at_imt("at ic")) == ([("AutoPay", "F")], [("AutoPay", "T")])
    told = [each for each in read(desk.stack, OperationAudited) if each.biller == desk.slug]
    assert [(each.operator, each.action, each.target, each.result) for each in told] == [
        ("ada", "drift repair", "3 settings", "begun"),
        ("ada", "drift repair", "3 settings", "3 repaired"),
    ]
    assert set(desk.drift()[1]) == {"stale", "at ic", "never told"}
    assert desk.drift("--account", ACCOUNTS["lost"])[:2] == (0, {})


def test_an_imt_that_is_away_is_exit_code_3_and_counted(desk: Desk) -> None:
    fault = {"service": "imt.settings", "kind": "maintenance", "count": 1000, "biller": desk.slug}
    control(desk.processes, "PUT", "/faults", json=fault)
    try:
        code, found, summary = desk.drift()
    finally:
        control(desk.processes, "DELETE", "/faults")
    assert (code, found, summary["unasked"]) == (3, {}, len(ACCOUNTS))
