"""What a replay may not do, on the real broker beside the running services."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import pytest

from services.bus.clock import Clock
from services.bus.place import Place
from services.bus.replayed import Act
from services.operations.reemitting import Reemitter, coordinates_of
from services.operations.topic_reader import TopicReader
from tests.deadline import until
from tests.e2e.both_sides import LIMIT_S, BothSides, Customer
from tests.e2e.replaying import REASON, adds_up, begin, dry_run, ended, now, replay, states
from tests.e2e.test_rows_settings import change, posted

REPLAYED = ("payment.received", "invoice.issued", "setting.changed")
LIVE = (*REPLAYED, "payment.outcome", "invoice.outcome", "setting.outcome", "bill.linked", "balance.changed")
PAYMENTS = 4
START_S = 120
"""For a command to begin, also where much else runs."""
AMOUNT_NOBODY_ELSE_HAS = "731.19"


@dataclass
class World:
    """A customer with a history, as partners and topics had it before all of it was replayed, and have it."""

    customer: Customer
    window: tuple[str, ...]
    before: dict[str, Any]
    after: dict[str, Any] = field(default_factory=dict)
    reports: list[dict[str, Any]] = field(default_factory=list)


@pytest.fixture(scope="module")
def world(sides: BothSides) -> World:
    """Payments, a setting changed to and fro, an invoice and its bill; then each record twice onto `.replay`,
    settled as it is, to be delivered and to be asked for, and the command for every topic besides."""
    begun = now()
    customer = sides.customer()
    account = customer.account
    paid = [
        sides.payment(AccountNumber=account, PaymentAmount=AMOUNT_NOBODY_ELSE_HAS) for _ in range(PAYMENTS)
    ]
    for told in paid:
        assert sides.pay(told).status_code == 200
    for value, at in (("True", "09:00"), ("False", "11:00")):
        told = change(customer, "AutoPay", value, at=at)
        assert sides.change(told).status_code == 200
        assert posted(sides, told, "autopay")["state"] == "posted"
    for told in paid:
        assert sides.settled(told)["state"] == "posted"
    until(lambda: sides.events("bill.linked", account=account), LIMIT_S, "the bill's link")
    until(lambda: sides.events("invoice.outcome", account=account), LIMIT_S, "the invoice at IC")
    until(lambda: len(sides.events("balance.changed", account=account)) >= 1, LIMIT_S, "the balance")
    window = ("--biller", "acme", "--account", account, "--from", begun, "--to", now())
    made = World(customer, window, snapshot(sides, customer))
    for topic in REPLAYED:
        for act in (Act("replay"), Act("recheck")):
            emit_all(sides, topic, f"acme/{account}", act)
        # it ends when the lanes have taken all that stands on `.replay`, whoever put it there
        made.reports.append(replay(sides.processes, topic, *window, "--recheck"))
    made.after = snapshot(sides, customer)
    return made


def snapshot(sides: BothSides, customer: Customer) -> dict[str, Any]:
    """What partners' ledgers and topics have of the account."""
    query = {"params": {"biller": "acme", "account": customer.account}}
    kinds = ("payments", "settings", "invoices")
    ledgers = {kind: sides.control("GET", f"/ledger/{kind}", **query)["rows"] for kind in kinds}
    topics = {name: sides.records(name, account=customer.account) for name in LIVE}
    return {"ledgers": ledgers, "topics": topics, "batches": sides.events("batch.closed")}


def emit_all(sides: BothSides, name: str, key: str, act: Act) -> None:
    """Every record of a key onto `.replay`, whatever has become of it."""
    topic = f"billing.{name}.v1"
    with (
        Place(sides.stack.bootstrap, sides.stack.registry) as place,
        TopicReader(place, topic, Clock()) as reader,
        Reemitter(place, topic, "test", Clock()) as writer,
    ):
        ends = reader.ends()
        reader.read(dict.fromkeys(ends, 0), ends)
        while not reader.finished:
            for record in reader.fetch():
                if record.key() == key.encode():
                    headers, origin = record.headers(), coordinates_of(record)
                    writer.emit(record.key(), record.value(), headers, origin, act)
        writer.flush()


def test_it_doubles_no_effect(world: World) -> None:
    for kind, rows in world.before["ledgers"].items():
        assert world.after["ledgers"][kind] == rows
    assert len(world.after["ledgers"]["payments"]) == PAYMENTS
    assert len(world.after["ledgers"]["invoices"]) == 1


def test_it_applies_no_older_setting_over_a_newer_one(sides: BothSides, world: World) -> None:
    values = [row["fields"]["Value"] for row in world.after["ledgers"]["settings"]]
    assert values == ["T", "F"]
    (current,) = {
        event["autopay"] for event in sides.events("enrollment.current", account=world.customer.account)[-1:]
    }
    assert current is False


def test_it_moves_no_current_balance_back(sides: BothSides, world: World) -> None:
    told = [event["as_of"] for event in sides.events("balance.current", account=world.customer.account)]
    assert told
    assert told == sorted(told)
    assert world.after["topics"]["balance.changed"] == world.before["topics"]["balance.changed"]


def test_it_closes_no_batch_again(world: World) -> None:
    """That a replayed payment counts in no batch: tests/integration/test_batches.py."""
    days = [(event["biller"], event["batch_day"]) for event in world.after["batches"]]
    assert len(days) == len(set(days))


def test_it_publishes_no_fact_twice_on_a_live_topic(world: World) -> None:
    for name in LIVE:
        told = [record.ce_id for record in world.after["topics"][name]]
        assert told == [record.ce_id for record in world.before["topics"][name]], name
        assert len(told) == len(set(told)), name


def test_its_report_adds_up_and_nobody_s_account_is_in_it(sides: BothSides, world: World) -> None:
    for report, count in zip(world.reports, (PAYMENTS, 1, 2), strict=True):
        assert adds_up(report) == dict.fromkeys(("delivered", "refused", "parked", "open"), 0) | {
            "selected": count,
            "skipped": count,
        }
    audited = [event for event in sides.events("operation.audited") if event["action"] == "replay"]
    ours = [event for event in audited if "one account" in event["target"]]
    assert [event["result"].split(":")[0] for event in ours[-6:]] == ["begun", "ended"] * 3
    assert {event["reason"] for event in ours} == {REASON}
    said = f"{world.reports} {audited}"
    assert world.customer.account not in said
    assert "Ada Aldertree" not in said


def test_what_is_on_its_way_is_left_alone_and_what_is_parked_is_delivered(sides: BothSides) -> None:
    begun = now()
    customer = sides.customer("birch")
    window = ("payment.received", "--biller", "birch", "--account", customer.account, "--from", begun)
    fault = sides.fault("imt.datapump", "maintenance", biller="birch")
    told = sides.payment("birch", AccountNumber=customer.account)
    assert sides.pay(told, "birch").status_code == 200
    until(lambda: sides.hits(fault) > 0, LIMIT_S, "the first attempt")
    assert states(dry_run(sides.processes, *window)) == {"on its way": 1}
    sides.control("DELETE", "/faults")
    assert sides.settled(told, "birch")["state"] == "posted"
    assert adds_up(replay(sides.processes, *window, "--to", now()))["skipped"] == 1
    assert len(sides.paid(told, "birch")) == 1


def test_live_traffic_keeps_its_rate_a_second_one_is_refused_and_ctrl_c_loses_no_place(
    sides: BothSides,
) -> None:
    customers = sides.customers(8, "birch")
    begun, number = now(), 600
    like = sides.payment("birch")
    paid = [
        like | {"PaymentGUID": str(uuid4()), "AccountNumber": customers[n % 8].account} for n in range(number)
    ]
    for first in (0, 300):
        batch = {"payments": paid[first : first + 300]}
        assert (
            sides.ask("payments", "POST", "/ic/birch/payments/batch", "birch", json=batch).status_code == 200
        )
    for told in (paid[0], paid[-1]):
        sides.settled(told, "birch")
    day = ("payment.received", "--biller", "birch", "--from", begun, "--to", now(), "--recheck")
    until(lambda: states(dry_run(sides.processes, *day)) == {"posted": number}, LIMIT_S, "the outcomes")

    alone = waits(sides, customers[0], 10)
    running = begin(sides.processes, *day, "--rate", "5")
    audited = sides.reader("operation.audited")
    until(lambda: f"{number} of {number} records are to be" in f"{audited.all()[-2:]}", START_S, "the replay")
    beside = waits(sides, customers[0], 10)
    refused = begin(sides.processes, "payment.received", "--biller", "acme", "--from", begun, "--to", now())
    out, errors = refused.communicate(timeout=LIMIT_S)
    assert refused.returncode == 2, out + errors
    assert "Another replay of payment.received runs" in errors
    assert sorted(beside)[5] < 3 * sorted(alone)[5] + 0.5

    running.send_signal(signal.SIGINT)
    left = ended(running, code=1)
    assert adds_up(left)["open"] > 0
    report = replay(sides.processes, *day)
    assert (report["continued"], report["run"]) == (True, left["run"])
    assert report["emitted"] + left["emitted"] == adds_up(report)["skipped"] == number


def waits(sides: BothSides, customer: Customer, count: int) -> list[float]:
    """Seconds until each of some payments, one after the other, was at IMT."""
    found = []
    for _ in range(count):
        told, began = sides.payment("birch", AccountNumber=customer.account), time.monotonic()
        assert sides.pay(told, "birch").status_code == 200
        until(lambda told=told: sides.paid(told, "birch"), LIMIT_S, "a live payment at IMT")  # type: ignore[misc]  # bound now
        found.append(time.monotonic() - began)
    return found
