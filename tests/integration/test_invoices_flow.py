"""Invoices over the real broker, real HTTP and real SOAP: what IC's ledger and our topics have."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deploy.local.processes import DEMO_BILLERS, Processes
from services.events import AccountCurrent, InvoiceOutcome
from tests import bif_sample
from tests.deadline import until
from tests.on_the_bus import read
from tests.stacks import Addresses

LIMIT_S = 40
Row = dict[str, str]


class Desk:
    """Invoices and the sandbox as processes, and both sides of them."""

    def __init__(self, processes: Processes, stack: Addresses) -> None:
        self.processes = processes
        self.stack = stack
        self._used = 100_000
        self.imt = httpx.Client(
            base_url=processes.url("invoices"),
            headers={"Authorization": f"Bearer {processes.secret('acme-intake-bearer')}"},
            timeout=60,
        )
        self.control = httpx.Client(base_url=f"{processes.url('sandbox')}/control", timeout=30)

    def rows(self, count: int, **changes: str) -> list[Row]:
        """Rows that no other test uses."""
        self._used += count
        return [bif_sample.row(number, **changes) for number in range(self._used - count, self._used)]

    def deliver(self, rows: list[Row], code: str = "ACME") -> dict[str, Any]:
        answer = self.imt.post("/imt/acme/bif", content=bif_sample.content(rows, code))
        assert answer.status_code == 200, answer.text
        told: dict[str, Any] = answer.json()
        return told

    def status(self, told: dict[str, Any]) -> dict[str, Any]:
        status: dict[str, Any] = self.imt.get(f"/imt/acme/bif/{told['file_id']}").json()
        return status

    def settled(self, told: dict[str, Any]) -> dict[str, int]:
        """Waits until every accepted row is settled, and tells how."""
        until(lambda: self.status(told)["waiting"] == 0, LIMIT_S, "all uploads")
        uploads: dict[str, int] = self.status(told)["uploads"]
        return {state: count for state, count in uploads.items() if count}

    def at_ic(self, account: str, biller: str = "acme") -> list[dict[str, Any]]:
        """What IC's ledger has of an account, in order."""
        asked = {"biller": biller, "account": account}
        rows: list[dict[str, Any]] = self.control.get("/ledger/invoices", params=asked).json()["rows"]
        return rows

    def numbers_at_ic(self, rows: list[Row]) -> list[str]:
        """The numbers of these invoices, as often as IC's ledger has them."""
        ledger = self.control.get("/ledger/invoices", params={"biller": "acme", "limit": 100_000}).json()
        wanted = {row["InvoiceNumber"] for row in rows}
        return sorted(each["natural_id"] for each in ledger["rows"] if each["natural_id"] in wanted)

    def outcomes(self, rows: list[Row]) -> list[InvoiceOutcome]:
        """What our topic says of these invoices."""
        wanted = {row["InvoiceNumber"] for row in rows}
        return [each for each in read(self.stack, InvoiceOutcome) if each.invoice_number in wanted]

    def hits(self) -> int:
        """Calls that the first fault has hit."""
        hits: int = self.control.get("/faults").json()["on"][0]["hits"]
        return hits

    def fault(self, **spec: object) -> None:
        answer = self.control.put("/faults", json={"service": "ic.soap", "biller": "acme"} | spec)
        assert answer.status_code == 200, answer.text


def impatient_billers(folder: Path) -> Path:
    """The demo billers, with IC's deadline so short that a doubt is settled within the test."""
    shutil.copytree(DEMO_BILLERS, folder)
    for path in folder.glob("*.yaml"):
        stated = yaml.safe_load(path.read_text(encoding="utf-8"))
        stated["invoice_cloud"] |= {"deadline_s": 2, "margin_s": 1}
        path.write_text(yaml.safe_dump(stated), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def desk(stack: Addresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("invoices")
    billers = impatient_billers(folder / "impatient")
    with Processes(folder, bootstrap=stack.bootstrap, registry=stack.registry, billers=billers) as processes:
        processes.start_all(("sandbox", "invoices"))
        made = Desk(processes, stack)
        with made.imt, made.control:
            yield made


@pytest.fixture(autouse=True)
def no_faults(desk: Desk) -> Iterator[None]:
    yield
    desk.control.delete("/faults")


def test_each_good_row_is_at_ic_once_and_bad_ones_are_reported(desk: Desk) -> None:
    rows = desk.rows(40)
    rows[7]["AllowPartialPayments"] = "T"
    rows[9]["MinimumAmountDue"] = "1.00"
    told = desk.deliver(rows)

    assert (told["rows"], told["accepted"], told["refused"]) == (40, 38, 2)
    assert [each["line"] for each in told["refusals"]] == [10, 12]
    assert desk.settled(told) == {"posted": 38}
    for row in rows[:3]:
        (at_ic,) = desk.at_ic(row["AccountNumber"])
        fields = at_ic["fields"]
        assert fields["BalanceDue"] == fields["MinimumAmountDue"] == row["BalanceDue"]
        assert fields["AllowPartialPayments"] == fields["Customer"]["BlockPaymentsCC"] == "false"
        assert fields["Customer"]["PaperInvoices"] == ("true" if row["PaperInvoices"] == "T" else "false")
        assert fields["BillLink"].startswith(f"{desk.processes.url('bills')}/bills/acme/")
    assert desk.at_ic(rows[7]["AccountNumber"]) == []


def test_the_same_file_again_does_nothing_twice(desk: Desk) -> None:
    rows = desk.rows(5)
    first = desk.deliver(rows)
    assert desk.settled(first) == {"posted": 5}
    desk.processes.restart("invoices")
    assert desk.deliver(rows) == first
    more = desk.rows(1)
    assert desk.settled(desk.deliver(more)) == {"posted": 1}
    assert [len(desk.at_ic(row["AccountNumber"])) for row in [*rows, *more]] == [1] * 6


def test_a_newer_bill_replaces_and_an_older_one_is_superseded(desk: Desk) -> None:
    (row,) = desk.rows(1)
    newer = row | {"InvoiceNumber": f"{row['InvoiceNumber']}-2", "InvoiceDate": "2026-11-10"}
    assert desk.settled(desk.deliver([newer])) == {"posted": 1}
    assert desk.settled(desk.deliver([row])) == {"superseded": 1}
    corrected = newer | {"City": "Elsewhere"}
    assert desk.settled(desk.deliver([corrected])) == {"posted": 1}
    numbers = [each["natural_id"] for each in desk.at_ic(row["AccountNumber"])]
    assert numbers == [newer["InvoiceNumber"]] * 2


def test_a_dropped_file_is_taken_and_reported(desk: Desk) -> None:
    rows = [bif_sample.row(number, account=f"{number:08d}") for number in range(3)]
    folder = desk.processes.drop_folder / "birch"
    bif_sample.write(folder / "nov.bif", rows, code="BIRCH")
    until((folder / "done" / "nov.bif").exists, LIMIT_S, "the file's being taken")
    assert json.loads((folder / "done" / "nov.report.json").read_text())["accepted"] == 3
    until(lambda: desk.at_ic(rows[2]["AccountNumber"], "birch"), LIMIT_S, "the upload")


def test_an_operator_sends_a_file_by_command(desk: Desk, tmp_path: Path) -> None:
    rows = desk.rows(3, AutoPay="T")
    path = bif_sample.write(tmp_path / "nov.bif", rows)
    command = [sys.executable, "-m", "services.cli.app", "bif", "send", str(path), "--biller", "acme"]
    sent = subprocess.run(
        [*command, "--to", desk.processes.url("invoices"), "--json"],
        env=desk.processes.environment("invoices"),
        capture_output=True,
        check=False,
    )
    assert sent.returncode == 0, sent.stderr
    assert desk.settled(json.loads(sent.stdout)) == {"posted": 3}
    assert desk.at_ic(rows[0]["AccountNumber"])[0]["fields"]["Customer"]["AutoPay"] == "true"


@pytest.mark.parametrize("kind", ["apply_then_hang", "error", "reset", "empty_success"])
def test_an_upload_in_doubt_is_at_ic_once(desk: Desk, kind: str) -> None:
    rows = desk.rows(2)
    desk.fault(kind=kind, operation="upload_invoice", count=2)
    assert desk.settled(desk.deliver(rows)) == {"posted": 2}
    assert [len(desk.at_ic(row["AccountNumber"])) for row in rows] == [1, 1]


def test_what_ic_refuses_is_rejected_and_others_go_on(desk: Desk) -> None:
    rows = desk.rows(3)
    desk.fault(kind="reject", operation="upload_invoice", subject=rows[1]["InvoiceNumber"])
    assert desk.settled(desk.deliver(rows)) == {"posted": 2, "rejected": 1}


def numbers(rows: list[Row]) -> list[str]:
    return sorted(row["InvoiceNumber"] for row in rows)


def test_one_bad_invoice_of_200_is_rejected_and_the_others_are_at_ic(desk: Desk) -> None:
    rows = desk.rows(200)
    bad = rows.pop(117)
    desk.fault(kind="slow", delay_s=0, operation="upload_invoice")  # counts the calls
    desk.fault(kind="reject", operation="upload_invoice", subject=bad["InvoiceNumber"])
    assert desk.settled(desk.deliver([*rows, bad])) == {"posted": 199, "rejected": 1}
    assert desk.numbers_at_ic([*rows, bad]) == numbers(rows)
    assert desk.hits() < 100
    (outcome,) = desk.outcomes([bad])
    assert (outcome.reason, outcome.detail) == ("refused_by_invoicecloud", "Refused, as told")


def test_a_batch_refused_whole_is_split_until_the_bad_invoice_stands_alone(desk: Desk) -> None:
    rows = desk.rows(200)
    bad = rows[117]
    desk.fault(kind="refuse_whole", operation="upload_invoice", subject=bad["InvoiceNumber"])
    assert desk.settled(desk.deliver(rows)) == {"posted": 199, "rejected": 1}
    assert desk.numbers_at_ic(rows) == numbers([row for row in rows if row is not bad])
    assert desk.hits() > 1  # it was refused with others first
    (outcome,) = desk.outcomes([bad])
    assert (outcome.reason, outcome.detail) == ("refused_by_invoicecloud", "Refused, as told")


def test_a_batch_without_an_answer_is_looked_up_invoice_by_invoice(desk: Desk) -> None:
    rows = desk.rows(200)
    desk.fault(kind="apply_then_hang", operation="upload_invoice")
    assert desk.settled(desk.deliver(rows)) == {"posted": 200}
    assert desk.numbers_at_ic(rows) == numbers(rows)
    assert desk.hits() < 100
    assert [outcome.looked_up for outcome in desk.outcomes(rows)] == [True] * 200


def test_an_invoice_without_a_result_in_the_answer_is_looked_up(desk: Desk) -> None:
    rows = desk.rows(20)
    desk.fault(kind="omit_result", operation="upload_invoice", subject=rows[7]["InvoiceNumber"])
    assert desk.settled(desk.deliver(rows)) == {"posted": 20}
    assert desk.numbers_at_ic(rows) == numbers(rows)
    looked_up = [outcome.invoice_number for outcome in desk.outcomes(rows) if outcome.looked_up]
    assert looked_up == [rows[7]["InvoiceNumber"]]


def test_an_invoice_that_breaks_every_call_it_is_in_does_not_keep_the_others_from_ic(desk: Desk) -> None:
    rows = desk.rows(8)
    bad = rows.pop(5)
    desk.fault(kind="error", operation="upload_invoice", subject=bad["InvoiceNumber"])
    told = desk.deliver([*rows, bad])
    until(lambda: desk.status(told)["waiting"] == 1, LIMIT_S, "the others' uploads")
    assert desk.numbers_at_ic([*rows, bad]) == numbers(rows)
    desk.control.delete("/faults")
    assert desk.settled(told) == {"posted": 8}


def test_a_maintenance_window_delays_and_refuses_nothing(desk: Desk) -> None:
    rows = desk.rows(3)
    desk.fault(kind="maintenance", count=2)
    assert desk.settled(desk.deliver(rows)) == {"posted": 3}
    assert [len(desk.at_ic(row["AccountNumber"])) for row in rows] == [1, 1, 1]


def test_kill_9_loses_nothing_and_doubles_nothing(desk: Desk) -> None:
    rows = desk.rows(60)
    desk.fault(kind="slow", delay_s=0.3, count=40)
    told = desk.deliver(rows)
    until(lambda: desk.at_ic(rows[0]["AccountNumber"]), LIMIT_S, "a first effect")
    desk.processes.kill("invoices")
    desk.control.delete("/faults")
    desk.processes.start("invoices")

    assert desk.settled(told) == {"posted": 60}
    assert [len(desk.at_ic(row["AccountNumber"])) for row in rows] == [1] * 60


def test_an_account_knows_its_newest_invoice(desk: Desk) -> None:
    (row,) = desk.rows(1)
    newer = row | {"InvoiceNumber": f"{row['InvoiceNumber']}-2", "InvoiceDate": "2026-11-10"}
    desk.settled(desk.deliver([row]))
    desk.settled(desk.deliver([newer]))

    def current() -> AccountCurrent | None:
        known = [each for each in read(desk.stack, AccountCurrent) if each.account == row["AccountNumber"]]
        return known[-1] if known and known[-1].invoice_number == newer["InvoiceNumber"] else None

    until(current, LIMIT_S, "the account's record")
    account = current()
    assert account is not None
    assert account.invoices == (newer["InvoiceNumber"], row["InvoiceNumber"])
    assert account.policies == tuple(row["PolicyNumbers"].split(";"))
    assert account.normalised == row["AccountNumber"].lstrip("0")
