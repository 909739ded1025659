"""billbus parked over real services and the sandbox: what IMT's ledger has after retries and dismissals."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml
from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.processes import DEMO_BILLERS, ROOT, Processes
from services.bus.catalog import REPLAY
from services.bus.clock import Clock
from services.bus.groups import committed_offsets, edge_offsets
from services.bus.pauses import ALL
from services.bus.place import Place
from services.bus.replayed import Act
from services.cli import app
from services.events import (
    AccountCurrent,
    OperationAudited,
    PauseCurrent,
    PausedLane,
    PaymentOutcome,
    PaymentReceived,
)
from services.operations.parked_facts import FactReader
from services.operations.reemitting import Reemitter, coordinates_of
from tests import bif_sample
from tests.deadline import until
from tests.on_the_bus import publish, read
from tests.stacks import Addresses

LIMIT_S = 60
COMMAND_LIMIT_S = 150  # two interpreters start beside the services, and each waits up to a minute
RUN = int(time.time())
PINE, DEAF = f"pine-{RUN}", f"deaf-{RUN}"
LOOKS_UP = "looks_up_payments"
BILLBUS = str(Path(sys.executable).with_name("billbus"))
Line = dict[str, Any]


class Office:
    """The services with two billers of their own, IC and IMT on the outside, and an operator."""

    def __init__(self, processes: Processes, stack: Addresses) -> None:
        self.processes = processes
        self.stack = stack
        self.http = httpx.Client(timeout=30, trust_env=False)
        self.environment = processes.environment("payments") | {
            "BILLBUS_OPERATOR": "jdoe",
            "BILLBUS_STATE": str(processes.folder / "operator"),
        }
        self._numbers = count(RUN % 1_000_000 * 100)

    def post(self, service: str, path: str, biller: str, **given: Any) -> None:
        bearer = {"Authorization": f"Bearer {self.processes.secret(f'{biller}-intake-bearer')}"}
        answer = self.http.post(f"{self.processes.url(service)}{path}", headers=bearer, **given)
        assert answer.status_code == 200, answer.text

    def control(self, method: str, path: str, **given: Any) -> Any:
        answer = self.http.request(method, f"{self.processes.url('sandbox')}/control{path}", **given)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def pay(self, biller: str, /, **fields: str) -> str:
        """IC's form of a payment; answers its PaymentGUID."""
        told = yaml.safe_load((self.processes.billers / f"{biller}.yaml").read_text())
        form: dict[str, str] = {
            "BillerGUID": told["invoice_cloud"]["biller_guid"],
            "PaymentGUID": str(uuid4()),
            "PaymentDate": date.today().isoformat(),
            "Approved": "True",
            "PaymentAmount": "25.00",
            "PaymentTypeID": "1",
        } | fields
        self.post("payments", f"/ic/{biller}/payments", biller, data=form)
        return form["PaymentGUID"]

    def rows(self, number: int) -> list[dict[str, str]]:
        """BIF rows of accounts that nobody knows yet; IMT has them."""
        bill_day = date.today() - timedelta(days=2)
        days = {"InvoiceDate": bill_day.isoformat(), "InvoiceDueDate": (bill_day + timedelta(30)).isoformat()}
        return [bif_sample.row(n, f"{n:010d}", **days) for n in (next(self._numbers) for _ in range(number))]

    def deliver(self, biller: str, *rows: dict[str, str]) -> None:
        """Their BIF file, at IMT and at the intake."""
        seeds = [{"account": row["AccountNumber"]} for row in rows]
        self.control("POST", "/accounts", json={"biller": biller, "accounts": seeds})
        told = yaml.safe_load((self.processes.billers / f"{biller}.yaml").read_text())
        body = bif_sample.content(list(rows), told["invoice_cloud"]["biller_code"])
        self.post("invoices", f"/imt/{biller}/bif", biller, content=body)

    def resolves(self, account: str) -> None:
        """Waits until the intake of payments knows an account."""

        def there() -> bool:
            told = read(self.stack, AccountCurrent)
            view = self.metric("billbus_view_records_total", view=AccountCurrent.TOPIC)
            return any(each.account == account for each in told) and view >= len(told)

        until(there, LIMIT_S, "the account")

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples of the payments service that have these labels."""
        text = self.http.get(f"{self.processes.url('payments')}/metrics").text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def paid(self, biller: str, guid: str) -> list[Line]:
        """IMT's rows of a payment."""
        asked = {"biller": biller, "natural_id": guid}
        rows: list[Line] = self.control("GET", "/ledger/payments", params=asked)["rows"]
        return rows

    def outcomes_of(self, guid: str) -> list[PaymentOutcome]:
        """A payment's outcomes, in the order in which they were told."""
        told = [each for each in read(self.stack, PaymentOutcome) if each.natural_id == guid]
        return sorted(told, key=lambda each: (each.settled_at, each.attempt))

    def outcomes(self, guid: str) -> list[tuple[str, int]]:
        """State and attempt of each."""
        return [(each.state, each.attempt) for each in self.outcomes_of(guid)]


class Operator:
    """Runs `billbus parked` in this process."""

    def __init__(self, office: Office, patch: pytest.MonkeyPatch, out: pytest.CaptureFixture[str]) -> None:
        self._office, self._patch, self._out = office, patch, out

    def __call__(self, *arguments: str) -> tuple[int, list[Line]]:
        """Exit code, and the lines of --json."""
        with self._patch.context() as patch:
            for name in [name for name in os.environ if name.startswith("BILLBUS_")]:
                patch.delenv(name)
            for name, value in self._office.environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["billbus", "parked", *arguments, "--json"])
            try:
                app.main()
                code = 0
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else 0
        told = self._out.readouterr().out
        if arguments[0] == "show" and code == 0:
            return code, [json.loads(told)]
        return code, [json.loads(line) for line in told.splitlines()]


@pytest.fixture(scope="module")
def office(stack: Addresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    folder = tmp_path_factory.mktemp("parked")
    billers = folder / "stated"
    billers.mkdir()
    for slug, looks_up in ((PINE, True), (DEAF, False)):
        told = yaml.safe_load((DEMO_BILLERS / "acme.yaml").read_text().replace("acme", slug))
        told["imt"] |= {"deadline_s": 1, "margin_s": 0.2, LOOKS_UP: looks_up}
        told["invoice_cloud"] |= {"biller_guid": f"guid-{slug}", "biller_code": slug[:4].upper()}
        told["poll"] = {"every_s": 3600, "overlap_s": 60}
        (billers / f"{slug}.yaml").write_text(yaml.safe_dump(told))
    shutil.copy(DEMO_BILLERS / "acme.yaml", billers)
    with Processes(folder, bootstrap=stack.bootstrap, registry=stack.registry, billers=billers) as processes:
        processes.start_all(("sandbox", "invoices", "payments"))
        made = Office(processes, stack)
        with made.http:
            yield made


@pytest.fixture
def billbus(
    office: Office, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Operator]:
    yield Operator(office, monkeypatch, capsys)
    office.control("DELETE", "/faults")


def parked(billbus: Operator, *guids: str) -> None:
    """Waits until all of these are, as an operator sees them."""

    def there() -> set[str]:
        return {line["id"] for line in billbus("list", "--most", "100000")[1]}

    until(lambda: set(guids) <= there(), LIMIT_S, "the outcomes")


def known(billbus: Operator, *guids: str) -> None:
    """Waits until a retry would deliver each of these, whose account was not known."""

    def would() -> set[str]:
        return {line["would"] for line in billbus("retry", *guids)[1]}

    until(lambda: would() == {"deliver"}, LIMIT_S, "the accounts")


def test_a_payment_whose_account_was_not_known_is_posted_once_by_one_command(
    office: Office, billbus: Operator
) -> None:
    (row,) = office.rows(1)
    guid = office.pay(PINE, InvoiceNumber=row["InvoiceNumber"])
    parked(billbus, guid)
    code, listed = billbus("list", "--biller", PINE, "--reason", "account_unknown")
    (one,) = [line for line in listed if line["id"] == guid]
    assert (code, one["kind"], one["account"], one["amount"]) == (1, "payment", None, "25.00")
    code, (shown,) = billbus("show", guid)
    assert (code, shown["partner"]["verdict"]) == (0, "does not have it")
    assert shown["retry"]["would"] == "cannot"
    assert (shown["fact"]["invoice_number"], shown["outcomes"][0]["state"]) == (
        row["InvoiceNumber"],
        "parked",
    )
    code, (told,) = billbus("retry", guid, "--yes", "--reason", "too early")
    assert (code, told["result"], office.paid(PINE, guid)) == (1, "not possible", [])

    office.deliver(PINE, row)
    known(billbus, guid)
    code, (told,) = billbus("retry", guid, "--yes", "--reason", "its BIF row came")

    assert (code, told["result"], told["new_attempt"]) == (0, "posted", 2)
    (posted,) = office.paid(PINE, guid)
    assert posted["fields"]["AccountNumber"] == row["AccountNumber"]
    assert billbus("retry", guid)[0] == 2
    acts = [each for each in read(office.stack, OperationAudited) if each.biller == PINE]
    assert [(act.action, act.operator, act.result) for act in acts[-3:]] == [
        ("retry", "jdoe", "begun"),
        ("retry", "jdoe", "on the bus"),
        ("retry", "jdoe", "posted 1"),
    ]
    assert row["AccountNumber"] not in json.dumps([act.as_record() for act in acts], default=str)


def test_an_unsupported_one_that_is_dismissed_stays_so_over_a_replay(
    office: Office, billbus: Operator
) -> None:
    guid = office.pay(PINE, AccountNumber="1", PaymentTypeID="77")
    parked(billbus, guid)
    code, (told,) = billbus("retry", guid, "--yes", "--reason", "try")
    assert (code, told["result"]) == (1, "not possible")
    assert billbus("dismiss", guid, "--yes")[0] == 2
    code, (told,) = billbus("dismiss", guid)
    assert (code, told["would"], office.outcomes(guid)) == (0, "dismiss", [("parked", 1)])
    code, (told,) = billbus("dismiss", guid, "--yes", "--reason", "posted by hand, R-1")
    assert (code, told["result"]) == (0, "dismissed")

    replay(office, guid)

    assert office.outcomes(guid) == [("parked", 1), ("dismissed", 1)]
    assert office.outcomes_of(guid)[1].detail == "posted by hand, R-1"
    assert office.paid(PINE, guid) == []
    assert guid not in {line["id"] for line in billbus("list", "--biller", PINE)[1]}


def test_a_conflict_is_never_retried_and_can_be_dismissed(office: Office, billbus: Operator) -> None:
    (row,) = office.rows(1)
    guid = office.pay(PINE, InvoiceNumber=row["InvoiceNumber"])
    parked(billbus, guid)
    office.deliver(PINE, row)
    known(billbus, guid)
    billbus("retry", guid, "--yes", "--reason", "its row was late")
    office.pay(PINE, PaymentGUID=guid, InvoiceNumber=row["InvoiceNumber"], PaymentAmount="26.00")
    until(lambda: billbus("list", "--biller", PINE, "--reason", "conflict")[0] == 1, LIMIT_S, "the conflict")
    (conflict,) = billbus("list", "--biller", PINE, "--reason", "conflict")[1]

    code, (told,) = billbus("retry", conflict["id"], "--yes", "--reason", "try")
    assert (code, told["result"]) == (1, "not possible")
    code, (told,) = billbus("dismiss", guid, "--yes", "--reason", "IC says: a mistake")

    assert (code, told["id"], told["result"]) == (0, conflict["id"], "dismissed")
    assert [row["fields"]["PaymentAmount"] for row in office.paid(PINE, guid)] == ["25.00"]


def test_two_operators_who_retry_the_same_at_once_post_each_once(office: Office, billbus: Operator) -> None:
    rows = office.rows(5)
    guids = [office.pay(PINE, InvoiceNumber=row["InvoiceNumber"]) for row in rows]
    parked(billbus, *guids)
    office.deliver(PINE, *rows)
    known(billbus, *guids)
    chosen = ["--all", "--biller", PINE, "--parked-as", "account_unknown"]
    command = [BILLBUS, "parked", "retry", *chosen, "--yes", "--reason", "rows came", "--json"]
    with ExitStack() as ended:
        both = [
            ended.enter_context(
                subprocess.Popen(command, env=office.environment, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(2)
        ]
        for each in both:
            ended.callback(each.kill)
        told = [each.communicate(timeout=COMMAND_LIMIT_S)[0] for each in both]
    results = [{line["result"] for line in map(json.loads, lines.splitlines())} for lines in told]
    assert [each.returncode for each in both] == [0, 0]
    assert all(each <= {"posted", "skipped"} for each in results)
    assert [len(office.paid(PINE, guid)) for guid in guids] == [1] * 5
    assert billbus("list", "--biller", PINE, "--reason", "account_unknown") == (0, [])


def test_what_is_on_its_way_to_one_account_goes_to_no_other(office: Office, billbus: Operator) -> None:
    rows = office.rows(2)
    office.deliver(PINE, *rows)
    guid = office.pay(PINE, InvoiceNumber="of nobody")
    parked(billbus, guid)
    first, second = (
        ["--account", row["AccountNumber"], "--yes", "--reason", "the payer said so"] for row in rows
    )
    until(lambda: billbus("retry", guid, *first[:2])[0] == 0, LIMIT_S, "the first account")
    until(lambda: billbus("retry", guid, *second[:2])[0] == 0, LIMIT_S, "the second account")
    pause(office, PINE, PausedLane(lane=ALL, operator="jdoe", reason="a window", since=Clock().now()))
    try:
        code, (told,) = billbus("retry", guid, *first, "--wait", "0")
        assert (code, told["result"]) == (1, "not answered yet")
        code, (told,) = billbus("retry", guid, *second, "--wait", "0")
        assert (code, told["result"]) == (1, "not possible")
    finally:
        pause(office, PINE)
    until(lambda: office.paid(PINE, guid), LIMIT_S, "the payment")
    assert [row["fields"]["AccountNumber"] for row in office.paid(PINE, guid)] == [rows[0]["AccountNumber"]]


def test_one_in_doubt_that_the_partner_has_is_not_doubled(office: Office, billbus: Operator) -> None:
    (row,) = office.rows(1)
    office.deliver(DEAF, row)
    office.resolves(row["AccountNumber"])
    guid = str(uuid4())
    fault = {"service": "imt.datapump.post_payment", "kind": "error_after", "subject": guid}
    office.control("PUT", "/faults", json=fault)
    office.pay(DEAF, PaymentGUID=guid, InvoiceNumber=row["InvoiceNumber"])
    parked(billbus, guid)
    code, (told,) = billbus("retry", guid, "--yes", "--reason", "try")
    assert (code, told["result"]) == (1, "not possible")
    office.control("DELETE", "/faults")
    has_a_look_up(office, DEAF)

    assert billbus("show", guid)[1][0]["partner"]["verdict"] == "has it"
    code, (told,) = billbus("retry", guid)
    assert (code, told["would"]) == (0, "ask first")
    code, (told,) = billbus("retry", guid, "--yes", "--reason", "IMT can be asked now")

    assert (code, told["result"]) == (0, "posted")
    assert len(office.paid(DEAF, guid)) == 1
    assert office.outcomes(guid) == [("parked", 1), ("posted", 2)]


def test_a_partner_that_is_away_is_said_so(office: Office, billbus: Operator) -> None:
    guid = office.pay(PINE, AccountNumber="2", PaymentTypeID="77")
    parked(billbus, guid)
    office.control("PUT", "/faults", json={"service": "imt", "kind": "maintenance"})
    code, (shown,) = billbus("show", guid)
    assert (code, shown["partner"]["verdict"]) == (0, "is away")
    assert shown["what_to_do"]


def pause(office: Office, biller: str, *lanes: PausedLane) -> None:
    """Holds back a biller's lanes, or none; returns when the service knows."""
    seen = office.metric("billbus_view_records_total", view=PauseCurrent.TOPIC)
    publish(office.stack, PauseCurrent(biller=biller, paused=lanes, updated_at=Clock().now()))
    until(
        lambda: office.metric("billbus_view_records_total", view=PauseCurrent.TOPIC) > seen,
        LIMIT_S,
        "the pause",
    )


def has_a_look_up(office: Office, biller: str) -> None:
    """IMT got one: the biller's file says so, and the service starts with it."""
    path = office.processes.billers / f"{biller}.yaml"
    told = yaml.safe_load(path.read_text())
    told["imt"][LOOKS_UP] = True
    path.write_text(yaml.safe_dump(told))
    office.processes.restart("payments")


def replay(office: Office, guid: str) -> None:
    """Emits the fact's record as a replay does, and waits until the lane has passed it."""
    told = office.outcomes_of(guid)[0]
    at = (PaymentReceived.TOPIC, told.origin_partition, told.origin_offset)
    with Place(office.stack.bootstrap, office.stack.registry) as place:
        with FactReader(place, Clock()) as reader:
            ((_, record),) = reader.read([at])
        with Reemitter(place, PaymentReceived.TOPIC, "a-run", Clock()) as writer:
            value, headers = record.value(), record.headers()
            writer.emit(record.key(), value, headers, coordinates_of(record), Act("replay"))
            writer.flush()
        part = TopicPartition(PaymentReceived.TOPIC + REPLAY, told.origin_partition)
        (end,) = edge_offsets(place.admin, [part], OffsetSpec.latest()).values()

        def passed() -> bool:
            (found,) = committed_offsets(place.client, "billbus.payments.post", [part])
            return bool(found.offset >= end)

        until(passed, LIMIT_S, "the lane's commit")
