"""Balances over the real broker, real HTTP and the sandbox: what IC is told and what the topics have."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from shutil import copytree
from typing import Any

import httpx
import pytest

from deploy.local.processes import DEMO_BILLERS, Processes
from services.events import AccountCurrent, BalanceChanged, BalanceCurrent, PaymentOutcome
from tests.deadline import until
from tests.on_the_bus import publish, read
from tests.stacks import Addresses

LIMIT_S = 40
RARELY, OFTEN = "every_s: 10,", "every_s: 0.5,"
_number = count(int(time.time()) % 10_000_000)


class Desk:
    """Two replicas of balances and the sandbox; birch is polled often, the others hardly ever."""

    def __init__(self, processes: Processes, stack: Addresses) -> None:
        self.processes = processes
        self.stack = stack
        self.control = httpx.Client(base_url=f"{processes.url('sandbox')}/control", timeout=30)

    def replica(self, biller: str, name: str = "balances", **more: Any) -> dict[str, Any]:
        token = self.processes.secret(f"{biller}-intake-bearer")
        return {
            "base_url": self.processes.url(name),
            "headers": {"Authorization": f"Bearer {token}"},
            "timeout": 30,
            **more,
        }

    def get(self, path: str, biller: str = "acme", name: str = "balances") -> httpx.Response:
        with httpx.Client(**self.replica(biller, name)) as client:
            return client.get(path)

    def seed(self, biller: str, account: str, **money: str) -> None:
        body = {"biller": biller, "accounts": [{"account": account, **money}]}
        assert self.control.post("/accounts", json=body).status_code == 200

    def account(self, biller: str = "acme", prefix: str = "00", **money: str) -> str:
        """A new account that IMT and, if it has a prefix, the bus both know."""
        account = f"{prefix}{next(_number)}"
        self.seed(biller, account, **money)
        self.tell(biller, account)
        return account

    def tell(self, biller: str, *accounts: str) -> None:
        """Puts accounts on the bus, as invoices does, and waits until both replicas know them."""
        at = datetime(2026, 11, 20, 12, tzinfo=UTC)
        known = [
            AccountCurrent(
                biller=biller,
                account=account,
                normalised=account,
                invoice_number=f"INV-{account}",
                invoice_date=date(2026, 11, 1),
                updated_at=at,
            )
            for account in accounts
        ]
        publish(self.stack, *known)
        for name in ("balances", "balances-2"):
            for account in accounts:
                path = f"/ic/{biller}/ivr/{account}"
                until(lambda p=path, n=name: self.get(p, biller, n).status_code != 404, LIMIT_S, path)  # type: ignore[misc]  # bound now

    def fault(self, kind: str, **more: Any) -> int:
        told = {"service": "imt.payments_due", "kind": kind, **more}
        fault: int = self.control.put("/faults", json=told).json()["id"]
        return fault

    def calls(self, fault: int) -> int:
        told = self.control.get("/faults").json()["on"]
        return next(int(one["matched"]) for one in told if one["id"] == fault)

    def changes(self, account: str) -> list[tuple[str, Decimal]]:
        return [(e.cause, e.balance_due) for e in read(self.stack, BalanceChanged) if e.account == account]


@pytest.fixture(scope="module")
def desk(stack: Addresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("balances")
    billers: Path = copytree(DEMO_BILLERS, folder / "stated")
    for path in billers.glob("*.yaml"):
        every = OFTEN if path.stem == "birch" else "every_s: 3600,"
        path.write_text(path.read_text().replace(RARELY, every))
    with Processes(folder, bootstrap=stack.bootstrap, registry=stack.registry, billers=billers) as processes:
        processes.start_all(("sandbox", "balances", "balances-2"))
        made = Desk(processes, stack)
        with made.control:
            yield made


@pytest.fixture(autouse=True)
def no_faults(desk: Desk) -> Iterator[None]:
    yield
    desk.control.delete("/faults")


def test_ic_gets_imts_own_balance_and_every_replica_learns_of_it(desk: Desk) -> None:
    # a replica's first poll would find the account too, and may come only now
    desk.fault("maintenance", operation="list_changes", biller="acme")
    account = desk.account(current_charges="120.50", past_due="10.00")
    told = desk.get(f"/ic/acme/balances/{account.lstrip('0')}")
    assert told.status_code == 200
    body = told.json()
    assert (body["AccountNumber"], body["BalanceDue"], body["MinimumAmountDue"]) == (
        account,
        "130.50",
        "130.50",
    )
    assert (body["PastDue"], body["CurrentCharges"], body["Stale"]) == ("10.00", "120.50", False)
    assert told.headers["cache-control"] == "no-store"
    path = f"/billers/acme/balances/{account}"
    for name in ("balances", "balances-2"):
        until(lambda n=name: desk.get(path, name=n).status_code == 200, LIMIT_S, name)  # type: ignore[misc]  # bound now
        assert desk.get(path, name=name).json()["balance_due"] == "130.50"
    assert desk.changes(account) == [("rtdr", Decimal("130.50"))]
    (current,) = [e for e in read(desk.stack, BalanceCurrent) if e.account == account]
    assert (current.balance_due, current.as_of.isoformat()[:19]) == (Decimal("130.50"), body["AsOf"][:19])


def test_a_credit_shows_as_zero_with_the_credit_apart(desk: Desk) -> None:
    account = desk.account(credit="25.00")
    body = desk.get(f"/ic/acme/balances/{account}").json()
    assert (body["BalanceDue"], body["MinimumAmountDue"], body["CreditAmount"]) == ("0.00", "0.00", "25.00")


def test_a_burst_for_one_account_makes_one_call(desk: Desk) -> None:
    account = desk.account(current_charges="1.00")
    fault = desk.fault("slow", delay_s=1, subject=account)

    async def burst() -> list[httpx.Response]:
        async with httpx.AsyncClient(**desk.replica("acme")) as client:
            return await asyncio.gather(*(client.get(f"/ic/acme/balances/{account}") for _ in range(40)))

    answers = asyncio.run(burst())
    assert {(one.status_code, one.json()["BalanceDue"]) for one in answers} == {(200, "1.00")}
    assert desk.calls(fault) == 1


def test_an_outage_is_an_honest_error_or_a_marked_stale_value_as_the_biller_chose(desk: Desk) -> None:
    acme, cedar = desk.account(current_charges="5.00"), desk.account("cedar", "CM-", current_charges="6.00")
    seen = desk.get(f"/ic/cedar/balances/{cedar}", "cedar").json()["AsOf"]
    desk.get(f"/ic/acme/balances/{acme}")
    desk.fault("maintenance")
    error = desk.get(f"/ic/acme/balances/{acme}")
    assert error.status_code == 503
    assert error.headers["content-type"] == "application/problem+json"
    assert int(error.headers["retry-after"]) >= 1
    assert "5.00" not in error.text
    stale = desk.get(f"/ic/cedar/balances/{cedar.lower()}", "cedar")
    assert stale.status_code == 200
    assert (stale.json()["BalanceDue"], stale.json()["Stale"], stale.json()["AsOf"]) == ("6.00", True, seen)
    assert stale.headers["billbus-stale-since"] == seen


def test_a_hanging_imt_is_answered_for_within_the_deadline(desk: Desk) -> None:
    account = desk.account(current_charges="5.00")
    desk.fault("slow", delay_s=20)
    began = time.monotonic()
    assert desk.get(f"/ic/acme/balances/{account}").status_code == 503
    assert time.monotonic() - began < 2 + 1.5, "two seconds, and what a busy machine takes"


def test_unknown_and_ambiguous_numbers_say_no_more_than_that(desk: Desk) -> None:
    account = desk.account(current_charges="5.00")
    twin = "0" + account
    desk.tell("acme", twin)
    ambiguous = desk.get(f"/ic/acme/balances/{account}")
    assert ambiguous.status_code == 409
    assert account not in ambiguous.text
    unknown = desk.get("/ic/acme/balances/99999999999")
    assert unknown.status_code == 404
    assert "99999999999" not in unknown.text
    assert desk.get(f"/ic/acme/balances/{account}", "birch").status_code == 403


def test_the_poll_finds_what_changed_at_imt_with_its_cause(desk: Desk) -> None:
    account = desk.account("birch", "7", current_charges="40.00")
    path = f"/billers/birch/balances/{account}"
    until(lambda: desk.get(path, "birch").status_code == 200, LIMIT_S, "the first balance")
    desk.seed("birch", account, current_charges="35.00")
    until(lambda: desk.get(path, "birch").json()["balance_due"] == "35.00", LIMIT_S, "the adjustment")
    assert desk.changes(account)[-1] == ("adjustment", Decimal("35.00"))


def test_the_poll_goes_on_where_it_was_after_kill_9(desk: Desk) -> None:
    account = desk.account("birch", "7", current_charges="40.00")
    path = f"/billers/birch/balances/{account}"
    until(lambda: desk.get(path, "birch").status_code == 200, LIMIT_S, "the first balance")
    for name in ("balances", "balances-2"):
        desk.processes.kill(name)
    desk.seed("birch", account, current_charges="39.00")
    for name in ("balances", "balances-2"):
        desk.processes.launch(name)
    for name in ("balances", "balances-2"):
        desk.processes.wait_ready(name)
    until(lambda: desk.get(path, "birch").json()["balance_due"] == "39.00", LIMIT_S, "the change meanwhile")


def test_a_posted_payment_refreshes_the_balance(desk: Desk) -> None:
    account = desk.account(current_charges="100.00")
    desk.get(f"/ic/acme/balances/{account}")
    desk.seed("acme", account, current_charges="80.00")  # as if IMT had just taken the payment
    outcome = PaymentOutcome(
        biller="acme",
        account=account,
        natural_id=f"GUID-{account}",
        event_id=f"event-{account}",
        state="posted",
        origin_topic="billing.payment.received.v1",
        origin_partition=0,
        origin_offset=0,
        settled_at=datetime.now(UTC),
        amount=Decimal("20.00"),
        tender="card",
        product="portal",
    )
    publish(desk.stack, outcome)
    path = f"/billers/acme/balances/{account}"
    until(lambda: desk.get(path).json()["balance_due"] == "80.00", LIMIT_S, "the refresh")
    assert desk.changes(account)[-1] == ("payment", Decimal("80.00"))


def test_ivr_answers_from_the_local_view_in_time(desk: Desk) -> None:
    account = desk.account(current_charges="12.00")
    desk.get(f"/ic/acme/balances/{account}")
    desk.fault("maintenance")  # IMT is not asked
    took = []
    with httpx.Client(**desk.replica("acme")) as client:
        for _ in range(40):
            began = time.monotonic()
            answer = client.get(f"/ic/acme/ivr/ {account[:4]}-{account[4:]}")
            took.append(time.monotonic() - began)
            assert answer.json()["AccountNumber"] == account
            assert answer.json()["InvoiceNumber"] == f"INV-{account}"
    assert sorted(took)[len(took) // 2] < 0.05
