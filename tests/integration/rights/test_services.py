"""The services with their own credentials: all they need works, and a right that is missing is named."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from deploy.local.processes import ALL, ROOT
from services.bus.catalog import load_catalog
from services.bus.place import Place
from services.bus.rights import Right, rights_of
from services.events import AccountCurrent, PaymentOutcome
from services.operations.access import make_access
from tests.contract.examples import examples
from tests.deadline import until
from tests.e2e.both_sides import LIMIT_S, BothSides
from tests.integration.readers.example_events import event_of
from tests.integration.rights.secured import ADMIN, Secured, SecuredProcesses
from tests.on_the_bus import publish, read
from tests.stacks import Addresses

RIGHTS = rights_of(load_catalog(ROOT / "schemas"))
WRONG_USE = 2
ACCOUNT = cast(
    "AccountCurrent", event_of(next(each for each in examples("valid") if each.topic == AccountCurrent.TOPIC))
)


@pytest.fixture(scope="module")
def running(secured: Secured, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredProcesses]:
    processes = SecuredProcesses(tmp_path_factory.mktemp("services"), secured)
    with processes:
        processes.start_all(ALL)
        yield processes


def test_a_payment_goes_from_end_to_end_and_a_team_reads_what_came_of_it(
    running: SecuredProcesses, secured: Secured
) -> None:
    publish(secured.seen_by("invoices"), ACCOUNT)
    with closing(BothSides(running, Addresses(secured.bootstrap, secured.registry, "secured"))) as sides:
        topic = AccountCurrent.TOPIC
        until(
            lambda: sides.metric("payments", "billbus_view_records_total", view=topic) >= 1,
            LIMIT_S,
            "payments knowing the account",
        )
        sides.seed(ACCOUNT.account, past_due="0.00", current_charges="40.00")
        told = sides.payment(InvoiceNumber=ACCOUNT.invoice_number, PaymentAmount="40.00")
        assert sides.pay(told).status_code == 200
        until(lambda: sides.paid(told), LIMIT_S, "the payment at IMT")
        (row,) = sides.paid(told)
        assert (row["AccountNumber"], row["PaymentAmount"]) == (ACCOUNT.account, "40.00")

    def outcomes() -> list[str]:
        seen = read(secured.seen_by("general-ledger"), PaymentOutcome)
        return [each.state for each in seen if each.natural_id == told["PaymentGUID"].lower()]

    until(outcomes, LIMIT_S, "the outcome")
    assert outcomes() == ["posted"]


def test_an_operator_sees_a_topic_with_the_rights_of_operations(
    running: SecuredProcesses, secured: Secured
) -> None:
    publish(secured.seen_by("invoices"), ACCOUNT)
    done = command(running, "operations", "tail", "account.current", "--since", "2026-11-01", "--json")
    assert done.returncode == 0, done.stderr
    assert '"biller": "acme"' in done.stdout


def test_an_administrator_grants_what_is_granted_already(running: SecuredProcesses) -> None:
    done = command(running, ADMIN, "topics", "grant")
    assert (done.returncode, done.stdout) == (0, "The broker's rights agree with the catalog\n"), done.stderr


def test_a_service_whose_rights_are_missing_says_which_once(
    running: SecuredProcesses, secured: Secured
) -> None:
    lost = [
        Right("group", "billbus.payments.post.", "Read", prefixed=True),
        Right("topic", "billing.payment.outcome.v1", "Write"),
        Right("topic", "billing.payment.received.v1.replay", "Read"),
    ]
    poor = {"payments-2": [right for right in RIGHTS["payments"] if right not in lost]}
    secured.add_users(poor)
    with Place(secured.kafka(), secured.registry) as place:
        make_access(place, poor, act=True, revoke=False)
    done = command(running, "payments-2", "run", "payments")
    assert (done.returncode, done.stdout) == (WRONG_USE, "")
    assert done.stderr.splitlines() == [
        "Kafka does not give user payments-2 what payments needs: "
        "Read on every group billbus.payments.post.*; Write on topic billing.payment.outcome.v1; "
        "Read on topic billing.payment.received.v1.replay. "
        "All that it needs: billbus topics rights --user payments"
    ]


def command(running: SecuredProcesses, user: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of billbus as a person types it, logged in as a user."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("billbus")), *words],
        env=running.login_as(user),
        cwd=running.folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
