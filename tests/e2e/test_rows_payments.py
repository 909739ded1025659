"""The rows about payments: what IC tells us of reaches IMT once, premium alone, whatever IC does twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from deploy.local import Stack
from deploy.local.processes import ROOT, Processes
from services.bus import topics
from services.bus.catalog import load_catalog
from services.events import AccountCurrent
from tests.deadline import until
from tests.e2e.both_sides import LIMIT_S, BothSides
from tests.on_the_bus import publish
from tests.stacks import Addresses

AFTER_AN_OUTAGE_S = 90
ACCOUNT = AccountCurrent(
    biller="acme",
    account="0000001001",
    normalised="1001",
    invoice_number="INV-1",
    invoice_date=date(2026, 11, 1),
    updated_at=datetime(2026, 11, 1, 6, tzinfo=UTC),
)


def test_payments(sides: BothSides) -> None:
    customer = sides.customer(PastDueAmount="0.00", CurrentCharges="100.00")
    told = sides.payment(
        InvoiceNumber=customer.invoice, PaymentAmount="40.00", ConvenienceFee="1.95", PaymentTypeID="2"
    )
    played = sides.control("POST", "/play/pay", json={"biller": "acme", "payments": [told]})

    assert played["statuses"] == {"200": 1}
    outcome = sides.settled(told)
    (row,) = sides.paid(told)
    assert (outcome["state"], outcome["account"]) == ("posted", customer.account)
    assert outcome["partner_reference"]
    assert (row["AccountNumber"], row["InvoiceNumber"]) == (customer.account, customer.invoice)
    assert (row["PaymentAmount"], row["Tender"], row["Product"]) == ("40.00", "eft", "portal")
    assert row["BatchDate"] == outcome["batch_day"].isoformat()
    balance = sides.control("GET", f"/accounts/acme/{customer.account}")
    assert balance["balance_due"] == "60.00"
    (event,) = sides.events("payment.received", payment_guid=told["PaymentGUID"])
    assert (event["amount"], event["convenience_fee"]) == (Decimal("40.00"), Decimal("1.95"))


def test_payments_the_convenience_fee_never_reaches_imt(sides: BothSides) -> None:
    customer = sides.customer()
    told = sides.payment(InvoiceNumber=customer.invoice, PaymentAmount="40.00", ConvenienceFee="1.95")
    assert sides.pay(told).status_code == 200
    sides.settled(told)

    (row,) = sides.paid(told)
    assert row["PaymentAmount"] == "40.00"
    assert not [name for name, value in row.items() if "Fee" in name or value in ("1.95", "41.95")]


def test_payments_a_repeat_is_answered_alike_and_posted_once(sides: BothSides) -> None:
    customer = sides.customer()
    told = sides.payment(InvoiceNumber=customer.invoice)
    first = sides.pay(told)
    sides.settled(told)
    again = sides.pay(told | {"PaymentMessage": "sent again"})
    with ThreadPoolExecutor(8) as pool:
        at_once = list(pool.map(lambda _: sides.pay(told), range(8)))
    later = sides.payment(InvoiceNumber=customer.invoice)
    sides.pay(later)
    sides.settled(later)  # behind all repeats of its account, so those are settled too

    assert {(a.status_code, a.content) for a in (again, *at_once)} == {(200, first.content)}
    assert len(sides.paid(told)) == 1
    assert len(sides.events("payment.outcome", natural_id=told["PaymentGUID"])) == 1


def test_payments_two_notices_at_the_same_moment_are_posted_once(sides: BothSides) -> None:
    customer = sides.customer()
    several = [sides.payment(InvoiceNumber=customer.invoice) for _ in range(5)]
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(sides.pay, [*several, *several]))

    assert {answer.status_code for answer in answers} == {200}
    for told in several:
        assert sides.settled(told)["state"] == "posted"
        assert len(sides.paid(told)) == 1


def test_payments_an_attempt_that_was_not_approved_is_recorded_without_effect(sides: BothSides) -> None:
    customer = sides.customer()
    told = sides.payment(InvoiceNumber=customer.invoice, Approved="False")

    assert sides.pay(told).status_code == 200
    assert (sides.settled(told)["state"], sides.settled(told)["reason"]) == ("rejected", "not_approved")
    assert sides.paid(told) == []


def test_payments_a_conflict_is_taken_and_parked(sides: BothSides) -> None:
    customer = sides.customer()
    told = sides.payment(InvoiceNumber=customer.invoice, PaymentAmount="30.00")
    first = sides.pay(told)
    sides.settled(told)
    other = sides.pay(told | {"PaymentAmount": "31.00"})

    assert (other.status_code, other.content) == (200, first.content)
    parked = sides.one("payment.outcome", account=customer.account, state="parked")
    assert (parked["reason"], parked["amount"]) == ("conflict", Decimal("31.00"))
    assert [row["PaymentAmount"] for row in sides.paid(told)] == ["30.00"]


def test_payments_of_an_unknown_account_are_parked_and_not_lost(sides: BothSides) -> None:
    told = sides.payment(InvoiceNumber="INV-nobody-has-this")

    assert sides.pay(told).status_code == 200
    outcome = sides.settled(told)
    assert (outcome["state"], outcome["reason"], outcome["never_sent"]) == ("parked", "account_unknown", True)
    assert outcome["account"] == f"?{told['PaymentGUID']}"
    assert sides.paid(told) == []


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("PaymentAmount", "ten"),
        ("PaymentAmount", "-5.00"),
        ("Approved", "maybe"),
        ("PaymentDate", "soon"),
        ("PaymentGUID", None),
        ("BillerGUID", "somebody-else"),
        ("ConvenienceFee", "1.999"),
    ],
)
def test_payments_malformed_names_the_field(sides: BothSides, field: str, value: str | None) -> None:
    told = sides.payment("acme", **{"InvoiceNumber": "INV-1", field: value})
    before = len(sides.events("payment.received"))
    answer = sides.pay(told)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["field"] == field
    assert len(sides.events("payment.received")) == before


def test_payments_a_batch_says_for_each_item_what_became_of_it(sides: BothSides) -> None:
    customer = sides.customer()
    good = [sides.payment(InvoiceNumber=customer.invoice, PaymentAmount=f"{n}.00") for n in (1, 2)]
    bad = sides.payment(InvoiceNumber=customer.invoice, PaymentAmount="0.001")
    answer = sides.ask(
        "payments", "POST", "/ic/acme/payments/batch", json={"payments": [good[0], bad, good[1]]}
    )

    assert answer.status_code == 207
    told = answer.json()
    assert (told["accepted"], told["malformed"], told["try_again"]) == (2, 1, 0)
    assert [each["status"] for each in told["results"]] == ["accepted", "malformed", "accepted"]
    assert told["results"][1]["field"] == "PaymentAmount"
    for each in good:
        assert sides.settled(each)["state"] == "posted"
    assert [len(sides.paid(each)) for each in (*good, bad)] == [1, 1, 0]


def test_payments_a_batch_holds_at_most_500(sides: BothSides) -> None:
    customers = sides.customers(25)
    most = [sides.payment(AccountNumber=one.account, PaymentAmount="0.01") for one in customers * 20]
    path = "/ic/acme/payments/batch"
    answer = sides.ask("payments", "POST", path, json={"payments": most})
    one_more = sides.ask("payments", "POST", path, json={"payments": [*most, sides.payment()]})

    assert (answer.status_code, answer.json()["accepted"]) == (200, 500)
    assert one_more.status_code == 422

    def posted() -> int:
        ours = [sides.ledger("payments", account=one.account) for one in customers]
        return sum(len(rows) for rows in ours)

    until(lambda: posted() == 500, LIMIT_S, "500 payments at IMT, each once")
    rows = [row for one in customers for row in sides.ledger("payments", account=one.account)]
    assert {row["PaymentGUID"] for row in rows} == {told["PaymentGUID"] for told in most}


def test_payments_need_the_billers_own_credential(sides: BothSides) -> None:
    told = sides.payment(InvoiceNumber="INV-1")
    url = f"{sides.processes.url('payments')}/ic/acme/payments"
    secret = sides.processes.secret
    right = sides.http.post(
        url, data=told | {"Approved": "False"}, auth=("acme", secret("acme-intake-password"))
    )
    answers = [
        sides.http.post(url, data=told),
        sides.http.post(url, data=told, auth=("acme", "guessed")),
        sides.http.post(url, data=told, headers={"Authorization": "Bearer guessed"}),
        sides.pay(told, headers={"Authorization": f"Bearer {secret('birch-intake-bearer')}"}),
    ]

    assert right.status_code == 200
    assert [answer.status_code for answer in answers] == [401, 401, 401, 403]
    assert sides.events("payment.received", payment_guid=told["PaymentGUID"], approved=True) == []


@pytest.mark.parametrize("kind", ["apply_then_hang", "error_after", "reset", "empty_success"])
def test_payments_in_doubt_are_asked_for_before_they_are_sent_again(sides: BothSides, kind: str) -> None:
    customer = sides.customer()
    told = sides.payment(InvoiceNumber=customer.invoice)
    sides.fault("imt.datapump", kind, count=1, subject=told["PaymentGUID"])

    assert sides.pay(told).status_code == 200
    outcome = sides.settled(told)
    assert (outcome["state"], outcome["looked_up"]) == ("posted", True)
    assert len(sides.paid(told)) == 1


def test_agent_connect(sides: BothSides) -> None:
    customer = sides.customer()
    told = sides.payment(
        InvoiceNumber=customer.invoice, Product="AgentConnect", AgentID="AG-7", PaymentAmount="55.00"
    )

    assert sides.pay(told).status_code == 200
    assert sides.settled(told)["state"] == "posted"
    (row,) = sides.paid(told)
    assert (row["AccountNumber"], row["PaymentAmount"]) == (customer.account, "55.00")
    assert (row["Product"], row["AgentID"]) == ("agent_connect", "AG-7")
    (event,) = sides.events("payment.received", payment_guid=told["PaymentGUID"])
    assert (event["product"], event["agent"]) == ("agent_connect", "AG-7")


def test_scheduled_payments(sides: BothSides) -> None:
    customer = sides.customer()
    schedule = {"InvoiceNumber": customer.invoice, "Product": "Scheduled", "ScheduleID": "SCH-9"}
    fixed = sides.payment(**schedule, ScheduleKind="Fixed", PaymentAmount="20.00")
    in_full = sides.payment(**schedule, ScheduleKind="PayInFull", PaymentAmount="30.00")
    for told in (fixed, in_full):
        assert sides.pay(told).status_code == 200
        assert sides.settled(told)["state"] == "posted"

    for told, kind, amount in ((fixed, "fixed", "20.00"), (in_full, "pay_in_full", "30.00")):
        (row,) = sides.paid(told)
        assert (row["ScheduleID"], row["ScheduleKind"], row["PaymentAmount"]) == ("SCH-9", kind, amount)


def test_scheduled_payments_in_full_skip_a_zero_balance_and_fixed_ones_do_not(sides: BothSides) -> None:
    customer = sides.customer(
        PastDueAmount="0.00", CurrentCharges="0.00", BalanceDue="0.00", MinimumAmountDue="0.00"
    )
    schedule = {"InvoiceNumber": customer.invoice, "Product": "Scheduled", "ScheduleID": "SCH-1"}
    in_full = sides.payment(**schedule, ScheduleKind="PayInFull", PaymentAmount="0.00")
    fixed = sides.payment(**schedule, ScheduleKind="Fixed", PaymentAmount="20.00")
    for told in (in_full, fixed):
        assert sides.pay(told).status_code == 200

    skipped = sides.settled(in_full)
    assert (skipped["state"], skipped["reason"]) == ("rejected", "nothing_due")
    assert sides.paid(in_full) == []
    assert sides.settled(fixed)["state"] == "posted"
    assert [row["PaymentAmount"] for row in sides.paid(fixed)] == ["20.00"]
    assert sides.control("GET", f"/accounts/acme/{customer.account}")["credit"] == "20.00"


def test_payments_are_not_accepted_while_kafka_is_away(tmp_path: Path) -> None:
    with Stack(tmp_path / "stack") as stack:
        topics.apply(stack.bootstrap, stack.registry, load_catalog(ROOT / "schemas"))
        addresses = Addresses(stack.bootstrap, stack.registry, "its own")
        with Processes(tmp_path, bootstrap=stack.bootstrap, registry=stack.registry) as processes:
            publish(addresses, ACCOUNT)  # before it starts: ready means that it knows the accounts
            processes.start_all(("sandbox", "payments"))
            with closing(BothSides(processes, addresses)) as sides:
                sides.seed(ACCOUNT.account)
                before, told = (sides.payment(AccountNumber=ACCOUNT.account) for _ in range(2))
                assert sides.pay(before).status_code == 200
                assert sides.settled(before)["state"] == "posted"
                stack.kill_broker()
                alone = sides.pay(told)
                several = {"payments": [told, sides.payment()]}
                batch = sides.ask("payments", "POST", "/ic/acme/payments/batch", json=several)
            stack.start_broker()
            with closing(BothSides(processes, addresses)) as sides:
                until(lambda: accepted(sides, told), AFTER_AN_OUTAGE_S, "the payment being taken")
                assert sides.settled(told)["state"] == "posted"
                assert [len(sides.paid(each)) for each in (before, told)] == [1, 1]

    assert [alone.status_code, batch.status_code] == [503, 503]
    assert int(alone.headers["retry-after"]) >= 1
    assert alone.headers["content-type"] == batch.headers["content-type"] == "application/problem+json"


def accepted(sides: BothSides, told: dict[str, str]) -> bool:
    """As IC does it: the same again until it is taken."""
    try:
        return sides.pay(told).status_code == 200
    except httpx.TransportError:
        return False
