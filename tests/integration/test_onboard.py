"""billbus onboard as a person does it: before the services know the biller, after, and once more."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from deploy.local.demo_secrets import make_secrets
from deploy.local.processes import SERVICES, Processes
from services.events import OperationAudited
from tests.on_the_bus import read
from tests.stacks import Addresses

LIMIT_S = 120
SANDBOX = "${BILLBUS_SANDBOX_URL:-http://127.0.0.1:18090}"
SLUG = f"dune-{int(time.time())}"  # a trial is found again all day long, on a stack that stays too
ANSWERS = f"""\
slug: {SLUG}
name: Dune Mutual Insurance
timezone: America/Denver
batch: {{cut_off: "17:00"}}
accounts: {{alphanumeric: false, pattern: '[0-9]{{10}}'}}
products: {{ivr: true}}
invoice_cloud:
  url: {SANDBOX}/ic/CloudInvoicing.asmx
  biller_guid: guid-{SLUG}
  invoice_type_id: 104
  biller_code: {SLUG}
imt:
  payments_due: {SANDBOX}/imt/{SLUG}/payments-due
  datapump: {SANDBOX}/imt/{SLUG}/datapump
  settings: {SANDBOX}/imt/{SLUG}/settings
  bills: {SANDBOX}/imt/{SLUG}/bills
"""


@dataclass
class Told:
    code: int
    said: dict[str, Any]
    file: str


@dataclass
class Runs:
    """The same command three times; the services are started after the first."""

    running: Processes
    first: Told
    second: Told
    third: Told


@pytest.fixture(scope="module")
def runs(stack: Addresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    folder = tmp_path_factory.mktemp("onboard")
    with Processes(folder, bootstrap=stack.bootstrap, registry=stack.registry) as running:
        make_secrets(running.secrets, [SLUG])
        answers = folder / "answers.yaml"
        answers.write_text(ANSWERS)
        running.start("sandbox")
        first = onboard(running, answers)
        running.start_all(SERVICES)
        yield Runs(running, first, onboard(running, answers), onboard(running, answers))


def onboard(running: Processes, answers: Path) -> Told:
    command = [str(Path(sys.executable).with_name("billbus")), "onboard", "--from", str(answers)]
    done = subprocess.run(
        [*command, "--yes", "--reason", "dune goes live", "--json"],
        env=running.environment("payments") | {"BILLBUS_OPERATOR": "jdoe"},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.stdout, done.stderr
    path = running.billers / f"{SLUG}.yaml"
    return Told(done.returncode, json.loads(done.stdout), path.read_text() if path.exists() else "")


def ledger(runs: Runs, kind: str) -> list[dict[str, Any]]:
    answer = httpx.get(f"{runs.running.url('sandbox')}/control/ledger/{kind}", params={"biller": SLUG})
    rows: list[dict[str, Any]] = answer.json()["rows"]
    return rows


def test_the_first_run_writes_the_file_and_says_that_the_services_are_not_there(runs: Runs) -> None:
    said = runs.first.said
    assert (runs.first.code, said["state"], said["written"]) == (1, "new", True)
    assert set(said["partners"].values()) == {"answers"}
    assert len(said["partners"]) == 5
    assert "invoices service does not answer" in said["not_tried"]
    assert any("Restart the services" in each for each in said["left"])


def test_the_next_run_tries_an_invoice_and_a_payment_through_the_sandbox(runs: Runs) -> None:
    said = runs.second.said
    assert (runs.second.code, said["not_tried"]) == (0, None)
    assert [(each["what"], each["state"]) for each in said["tried"]] == [
        ("invoice", "posted"),
        ("payment", "posted"),
    ]
    assert said["secrets_missing"] == []


def test_the_same_again_changes_nothing(runs: Runs) -> None:
    assert runs.third.code == 0
    assert runs.third.said["tried"] == runs.second.said["tried"]
    assert [each.said["state"] for each in (runs.second, runs.third)] == ["unchanged", "unchanged"]
    assert runs.first.file == runs.second.file == runs.third.file
    assert len(ledger(runs, "invoices")) == 1
    (payment,) = ledger(runs, "payments")
    assert payment["natural_id"] == runs.second.said["tried"][1]["id"]


def test_who_did_it_and_why_is_told(runs: Runs, stack: Addresses) -> None:
    del runs
    told = [each for each in read(stack, OperationAudited) if each.target == SLUG]
    assert [each.result for each in told] == [
        "begun",
        "file new; not tried",
        *["begun", "file unchanged; invoice posted, payment posted"] * 2,
    ]
    assert {(each.operator, each.target, each.biller, each.reason) for each in told} == {
        ("jdoe", SLUG, SLUG, "dune goes live")
    }


def test_no_secret_is_in_the_file_or_told(runs: Runs) -> None:
    secrets = [path.read_text() for path in runs.running.secrets.iterdir()]
    shown = runs.first.file + json.dumps([runs.first.said, runs.second.said])
    assert not [secret for secret in secrets if secret in shown]
    assert f"{SLUG}-imt-token" in runs.first.file
