"""The row about balances: IC gets IMT's own, what changed is an event, the newest is kept."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from services.events import BalanceChanged
from tests.deadline import until
from tests.e2e.both_sides import LIMIT_S, BothSides
from tests.on_the_bus import publish


def current(sides: BothSides, account: str, biller: str = "acme") -> str | None:
    answer = sides.ask("balances", "GET", f"/billers/{biller}/balances/{account}", biller)
    return answer.json()["balance_due"] if answer.status_code == 200 else None


def test_adjustments_balances(sides: BothSides) -> None:
    customer = sides.customer(PastDueAmount="10.00", CurrentCharges="90.00")
    told = sides.control("POST", "/play/rtdr", json={"biller": "acme", "accounts": [customer.account]})
    assert told["statuses"] == {"200": 1}
    asked = sides.ask("balances", "GET", f"/ic/acme/balances/{customer.account.lstrip('0')}").json()
    assert (asked["AccountNumber"], asked["BalanceDue"], asked["MinimumAmountDue"], asked["Stale"]) == (
        customer.account,
        "100.00",
        "100.00",
        False,
    )
    until(lambda: current(sides, customer.account) == "100.00", LIMIT_S, "the balance in the view")
    found = sides.records("balance.changed", account=customer.account)
    assert {(one.value["cause"], one.value["balance_due"]) for one in found} == {("rtdr", Decimal("100.00"))}
    assert len({one.ce_id for one in found}) == 1  # asked twice at once, it is still one fact


def test_adjustments_balances_a_burst_makes_one_call(sides: BothSides) -> None:
    customer = sides.customer()
    fault = sides.fault("imt.payments_due", "slow", delay_s=0.5, subject=customer.account)
    with ThreadPoolExecutor(16) as pool:
        path = f"/ic/acme/balances/{customer.account}"
        answers = list(pool.map(lambda _: sides.ask("balances", "GET", path), range(16)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["BalanceDue"] for answer in answers}) == 1
    assert sides.hits(fault) == 1


def test_adjustments_balances_while_imt_is_away_nothing_stale_is_shown_as_fresh(sides: BothSides) -> None:
    honest, stale = sides.customer("acme"), sides.customer("cedar")
    fresh = {}
    for customer in (honest, stale):
        path = f"/ic/{customer.biller}/balances/{customer.account}"
        answer = sides.ask("balances", "GET", path, customer.biller)
        assert (answer.status_code, answer.json()["Stale"]) == (200, False)
        assert "billbus-stale-since" not in answer.headers
        fresh[customer.biller] = answer.json()
        until(lambda c=customer: current(sides, c.account, c.biller), LIMIT_S, "the view")  # type: ignore[misc]  # bound now
    sides.fault("imt.payments_due", "maintenance")

    answer = sides.ask("balances", "GET", f"/ic/acme/balances/{honest.account}")
    assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (503, True)
    answer = sides.ask("balances", "GET", f"/ic/cedar/balances/{stale.account}", "cedar")
    assert (answer.status_code, answer.json()) == (200, fresh["cedar"] | {"Stale": True})
    assert answer.headers["billbus-stale-since"] == fresh["cedar"]["AsOf"]  # IMT's time


def test_adjustments_balances_a_payment_refreshes_and_a_poll_finds_an_adjustment(sides: BothSides) -> None:
    customer = sides.customer("birch", PastDueAmount="0.00", CurrentCharges="80.00")
    told = sides.payment("birch", InvoiceNumber=customer.invoice, PaymentAmount="30.00")
    assert sides.pay(told, "birch").status_code == 200
    assert sides.settled(told, "birch")["state"] == "posted"
    until(lambda: current(sides, customer.account, "birch") == "50.00", LIMIT_S, "the refreshed balance")

    sides.seed(customer.account, "birch", current_charges="65.00", cause="adjustment")
    until(lambda: current(sides, customer.account, "birch") == "65.00", LIMIT_S, "the adjustment")
    changes = sides.events("balance.changed", biller="birch", account=customer.account)
    assert {"payment", "adjustment"} <= {event["cause"] for event in changes}
    in_order = [event["as_of"] for event in sides.events("balance.current", account=customer.account)]
    assert in_order == sorted(in_order)
    assert sides.events("balance.current", account=customer.account)[-1]["balance_due"] == Decimal("65.00")


def test_adjustments_balances_an_older_one_never_overwrites_a_newer(sides: BothSides) -> None:
    customer = sides.customer()
    now = datetime.now(UTC)

    def changed(due: str, minutes: int) -> BalanceChanged:
        amount, at = Decimal(due), now + timedelta(minutes=minutes)
        return BalanceChanged(
            biller="acme",
            account=customer.account,
            balance_due=amount,
            minimum_due=amount,
            past_due=Decimal("0.00"),
            current_charges=amount,
            credit=Decimal("0.00"),
            cause="adjustment",
            as_of=at,
            observed_at=now,
        )

    # one account is one partition: once the last is in the table, the older one has been through it
    publish(sides.stack, changed("70.00", 10))
    publish(sides.stack, changed("30.00", 5))
    publish(sides.stack, changed("80.00", 15))
    until(lambda: current(sides, customer.account) == "80.00", LIMIT_S, "the newest balance")
    kept = [event["balance_due"] for event in sides.events("balance.current", account=customer.account)]
    assert kept == [Decimal("70.00"), Decimal("80.00")]
