"""Settings over the real broker, real HTTP and the sandbox's IMT: what its ledger and our topics have."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest

from deploy.local.processes import Processes
from services.events import AccountCurrent
from tests.deadline import until
from tests.on_the_bus import publish
from tests.stacks import Addresses

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
LIMIT_S = 40


def account_of(number: int) -> str:
    return f"{number:010d}"


class Desk:
    """Settings and the sandbox as processes, and both sides of them."""

    def __init__(self, processes: Processes, stack: Addresses) -> None:
        self.processes = processes
        self._stack = stack
        self._used = 70_000
        self.ic = httpx.Client(
            base_url=processes.url("settings"),
            headers={"Authorization": f"Bearer {processes.secret('acme-intake-bearer')}"},
            timeout=30,
        )
        self.control = httpx.Client(base_url=f"{processes.url('sandbox')}/control", timeout=30)

    def account(self, *, policies: int = 1) -> tuple[str, list[str]]:
        """A new account that IMT and the bus both know, with its policies."""
        self._used += 1
        account = account_of(self._used)
        numbers = [f"HO-{self._used}-{n}" for n in range(policies)]
        seeded = {"biller": "acme", "accounts": [{"account": account, "policies": numbers}]}
        assert self.control.post("/accounts", json=seeded).status_code == 200
        current = AccountCurrent(
            biller="acme",
            account=account,
            normalised=account.lstrip("0"),
            policies=tuple(numbers),
            invoice_number=f"INV-{account}",
            invoice_date=date(2026, 11, 1),
            invoices=(f"INV-{account}",),
            updated_at=NOON,
        )
        publish(self._stack, current)
        until(lambda: self.enrollment(account).status_code == 200, LIMIT_S, "the account's being known")
        return account, numbers

    def change(self, *told: dict[str, Any]) -> dict[str, Any]:
        response = self.ic.post("/ic/acme/changes", json={"changes": list(told)})
        assert response.status_code in (200, 207), response.text
        answer: dict[str, Any] = response.json()
        return answer

    def enrollment(self, typed: str) -> httpx.Response:
        return self.ic.get(f"/ic/acme/enrollments/{typed}")

    def at_imt(self, number: str) -> list[tuple[str, str, str]]:
        """What IMT's ledger has of a number, in order: change, indicator, value."""
        answer = self.control.get("/ledger/settings", params={"biller": "acme", "account": number}).json()
        return [
            (r["fields"]["ChangeID"], r["fields"]["Indicator"], r["fields"]["Value"]) for r in answer["rows"]
        ]

    def settled(self, number: str, effects: int) -> None:
        """Waits until IMT's ledger has so many effects on a number."""
        until(lambda: len(self.at_imt(number)) >= effects, LIMIT_S, f"{effects} effects")

    def enrolled(self, account: str, **wanted: bool | None) -> None:
        """Waits until the enrollment says so."""

        def says() -> bool:
            told = self.enrollment(account).json()
            return all(told[name] == value for name, value in wanted.items())

        until(says, LIMIT_S, f"enrollment {wanted}")


def changed(change_id: str, account: str, minutes: int = 0, **fields: Any) -> dict[str, Any]:
    at = (NOON + timedelta(minutes=minutes)).isoformat()
    return {"ChangeID": change_id, "ChangedAt": at, "Type": "AutoPay", "AccountNumber": account} | fields


@pytest.fixture(scope="module")
def desk(stack: Addresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("settings")
    with Processes(folder, bootstrap=stack.bootstrap, registry=stack.registry) as processes:
        processes.start_all(("sandbox", "settings"))
        made = Desk(processes, stack)
        with made.ic, made.control:
            yield made


def test_autopay_and_paperless_reach_imt_and_the_enrollment(desk: Desk) -> None:
    account, _ = desk.account()
    answer = desk.change(
        changed(f"a-{account}", account, AutoPay="True"),
        changed(f"p-{account}", account, Type="PaperInvoices", PaperInvoices="False"),
    )

    assert answer["accepted"] == 2
    desk.enrolled(account, autopay=True, paperless=True)
    assert desk.at_imt(account) == [(f"a-{account}", "AutoPay", "T"), (f"p-{account}", "Paperless", "T")]


def test_a_policy_number_carries_its_own_indicator(desk: Desk) -> None:
    account, (first, second) = desk.account(policies=2)
    desk.change(changed(f"a-{account}", "", PolicyNumber=first.lower(), AutoPay="True"))

    desk.enrolled(account, autopay=True)
    assert desk.at_imt(first) == [(f"a-{account}", "AutoPay", "T")]
    assert desk.at_imt(second) == desk.at_imt(account) == []


def test_a_repeat_takes_effect_once(desk: Desk) -> None:
    account, _ = desk.account()
    told = changed(f"a-{account}", account, AutoPay="True")
    first, again = desk.change(told), desk.change(told, told)
    desk.change(changed(f"b-{account}", account, 1, AutoPay="False"))

    assert first["results"][0] == again["results"][0]
    desk.enrolled(account, autopay=False)
    assert desk.at_imt(account) == [(f"a-{account}", "AutoPay", "T"), (f"b-{account}", "AutoPay", "F")]


def test_an_older_change_is_superseded_and_a_late_paperless_one_is_not(desk: Desk) -> None:
    account, _ = desk.account()
    desk.change(changed(f"new-{account}", account, 60, AutoPay="True"))
    desk.enrolled(account, autopay=True)
    desk.change(
        changed(f"old-{account}", account, 30, AutoPay="False"),
        changed(f"paper-{account}", account, 30, Type="PaperInvoices", PaperInvoices="False"),
    )

    desk.enrolled(account, autopay=True, paperless=True)
    assert desk.at_imt(account) == [
        (f"new-{account}", "AutoPay", "T"),
        (f"paper-{account}", "Paperless", "T"),
    ]


def test_unlinking_ends_autopay(desk: Desk) -> None:
    account, _ = desk.account()
    desk.change(
        changed(f"l-{account}", account, Type="AccountLink"), changed(f"a-{account}", account, AutoPay="True")
    )
    desk.enrolled(account, linked=True, autopay=True)
    desk.change(changed(f"u-{account}", account, 1, Type="AccountUnlink"))

    desk.enrolled(account, linked=False, autopay=False)
    assert desk.at_imt(account) == [
        (f"a-{account}", "AutoPay", "T"),
        (f"u-{account}.autopay", "AutoPay", "F"),
    ]


def test_unlinking_ends_autopay_on_a_policy_as_well(desk: Desk) -> None:
    account, (policy,) = desk.account()
    desk.change(changed(f"a-{account}", "", PolicyNumber=policy, AutoPay="True"))
    desk.enrolled(account, autopay=True)
    desk.change(changed(f"u-{account}", account, 1, Type="AccountUnlink"))

    desk.settled(policy, 2)
    desk.enrolled(account, linked=False, autopay=False)
    assert [(indicator, value) for _, indicator, value in desk.at_imt(policy)] == [
        ("AutoPay", "T"),
        ("AutoPay", "F"),
    ]
    assert desk.at_imt(account) == [(f"u-{account}.autopay", "AutoPay", "F")]


def test_a_number_nobody_knows_is_taken_and_never_reaches_imt(desk: Desk) -> None:
    account, _ = desk.account()
    answer = desk.change(
        changed("nobody", "1", AutoPay="True"), changed(f"a-{account}", account, AutoPay="True")
    )

    assert answer["accepted"] == 2
    desk.enrolled(account, autopay=True)
    assert desk.at_imt("1") == desk.at_imt(account_of(1)) == []


@pytest.mark.parametrize("kind", ["apply_then_hang", "error", "reset"])
def test_a_value_in_doubt_ends_at_imt_in_the_right_order(desk: Desk, kind: str) -> None:
    account, _ = desk.account()
    fault = {"service": "imt.settings", "kind": kind, "count": 1, "biller": "acme"}
    assert desk.control.put("/faults", json=fault).status_code == 200
    desk.change(
        changed(f"a-{account}", account, 0, AutoPay="True"),
        changed(f"b-{account}", account, 1, AutoPay="False"),
    )

    desk.enrolled(account, autopay=False)
    assert desk.at_imt(account) == [(f"a-{account}", "AutoPay", "T"), (f"b-{account}", "AutoPay", "F")]


def test_kill_9_loses_nothing_and_doubles_nothing(desk: Desk) -> None:
    accounts = [desk.account()[0] for _ in range(3)]
    slow = {"service": "imt.settings", "kind": "slow", "delay_s": 0.5, "count": 100, "biller": "acme"}
    assert desk.control.put("/faults", json=slow).status_code == 200
    told = [changed(f"k-{a}-{n}", a, n, AutoPay=str(n % 2 == 0)) for n in range(4) for a in accounts]
    assert desk.change(*told)["accepted"] == len(told)
    until(lambda: desk.at_imt(accounts[0]), LIMIT_S, "a first effect")
    desk.processes.kill("settings")
    desk.control.delete("/faults")
    desk.processes.start("settings")

    for account in accounts:
        desk.settled(account, 4)
        desk.enrolled(account, autopay=False)
        values = [(f"k-{account}-{n}", "AutoPay", "T" if n % 2 == 0 else "F") for n in range(4)]
        assert desk.at_imt(account) == values
