"""Pausing a biller, and the one screen: what the partners' ledgers have, and what somebody on call sees."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from typer.testing import CliRunner

from deploy.local.processes import SERVICES
from services.cli.app import cli
from services.events import PauseCurrent
from tests.deadline import until
from tests.e2e.both_sides import LIMIT_S, BothSides, Customer

WHY = "IMT maintenance until 06:00"


def billbus(sides: BothSides, *arguments: str, **changed: str) -> tuple[int, Any]:
    """Exit code and what --json prints."""
    places = ",".join(f"{name}={sides.processes.url(name)}" for name in SERVICES)
    environment = {**sides.processes.environment("payments"), "BILLBUS_SERVICES": places, **changed}
    done = CliRunner().invoke(cli, [*arguments, "--json"], env=environment)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, json.loads(done.stdout)


def pausing(sides: BothSides, *arguments: str) -> dict[str, Any]:
    """Pauses or resumes, and waits until every service has heard of it."""
    code, told = billbus(sides, *arguments, "--reason", WHY, "--yes")
    assert (code, told["state"]) == (0, "done")
    heard(sides)
    return dict(told)


def heard(sides: BothSides) -> None:
    written = len(sides.records("pause.current"))
    for name in SERVICES:
        until(
            lambda name=name: (
                sides.metric(name, "billbus_view_records_total", view=PauseCurrent.TOPIC) >= written
            ),  # type: ignore[misc]  # bound now
            LIMIT_S,
            f"{name} hearing of the pause",
        )


@pytest.fixture(autouse=True)
def nothing_paused(sides: BothSides) -> Iterator[None]:
    """No test leaves a biller paused, or a service ended."""
    yield
    for whose in ("acme", "birch", "--all"):
        billbus(sides, "resume", whose, "--reason", "the test is over", "--yes")
    for name in SERVICES:
        if not sides.processes.alive(name):
            sides.processes.start(name)
    heard(sides)


def autopay(customer: Customer) -> dict[str, Any]:
    told = {"ChangeID": str(uuid4()), "ChangedAt": "2026-11-20T10:00:00Z", "Type": "AutoPay"}
    return told | {"AccountNumber": customer.account, "AutoPay": "True"}


def pay(sides: BothSides, customer: Customer) -> dict[str, str]:
    """A payment that the intake has taken."""
    told = sides.payment(customer.biller, AccountNumber=customer.account)
    assert sides.pay(told, customer.biller).status_code == 200
    return told


def test_while_a_biller_is_paused_its_partners_get_nothing_and_afterwards_all_of_it_once(
    sides: BothSides,
) -> None:
    acme, birch = sides.customer(), sides.customer("birch")
    pausing(sides, "pause", "acme")
    held = [pay(sides, acme)]
    change, row = autopay(acme), sides.new_row()
    assert sides.change(change).status_code == 200
    assert sides.deliver(row).json()["refusals"] == []
    assert sides.settled(pay(sides, birch), "birch")["state"] == "posted"

    sides.processes.kill("payments")
    sides.processes.start("payments")
    held.append(pay(sides, acme))
    assert sides.settled(pay(sides, birch), "birch")["state"] == "posted"

    assert [sides.paid(told) for told in held] == [[], []]
    assert sides.ledger("settings", account=acme.account) == []
    assert sides.ledger("invoices", natural_id=row["InvoiceNumber"]) == []
    assert all(sides.processes.ready(name) for name in SERVICES)
    asked = sides.ask("balances", "GET", f"/ic/acme/balances/{acme.account}")
    assert (asked.status_code, asked.json().get("stale", False)) == (200, False)

    _, shown = billbus(sides, "status")
    assert [(each["biller"], each["lane"], each["reason"]) for each in shown["pauses"]] == [
        ("acme", "-", WHY)
    ]
    lag = {lane["lane"]: lane for lane in shown["lanes"]}["payments.post"]
    assert lag["records"] + lag["behind_cursors"] >= len(held)
    assert lag["seconds_behind"] > 0

    pausing(sides, "resume", "acme")
    assert [sides.settled(told)["state"] for told in held] == ["posted", "posted"]
    natural = f"{change['ChangeID']}/autopay"
    assert sides.one("setting.outcome", natural_id=natural)["state"] == "posted"
    until(lambda: sides.ledger("invoices", natural_id=row["InvoiceNumber"]), LIMIT_S, "the invoice at IC")
    assert [len(sides.paid(told)) for told in held] == [1, 1]
    assert len(sides.ledger("settings", account=acme.account)) == 1
    assert len(sides.ledger("invoices", natural_id=row["InvoiceNumber"])) == 1


def test_a_lane_alone_is_paused_for_all_billers_twice_changes_nothing_and_each_act_is_audited(
    sides: BothSides,
) -> None:
    acme = sides.customer()
    code, planned = billbus(sides, "pause", "--all", "--lane", "settings.apply")
    assert (code, planned["state"], len(sides.records("pause.current", biller="-"))) == (
        0,
        "would be done",
        0,
    )
    pausing(sides, "pause", "--all", "--lane", "settings.apply")
    again = billbus(sides, "pause", "--all", "--lane", "settings.apply", "--reason", "again", "--yes")
    assert (again[0], again[1]["state"], again[1]["after"][0]["reason"]) == (0, "nothing to do", WHY)
    change = autopay(acme)
    assert sides.change(change).status_code == 200
    assert sides.settled(pay(sides, acme))["state"] == "posted"
    assert sides.ledger("settings", account=acme.account) == []

    code, resumed = billbus(sides, "resume", "acme", "--lane", "settings.apply", "--reason", "x", "--yes")
    assert (code, resumed["state"], resumed["still_held_by"][0]["biller"]) == (0, "nothing to do", "-")
    pausing(sides, "resume", "--all", "--lane", "settings.apply")
    sides.one("setting.outcome", natural_id=f"{change['ChangeID']}/autopay")
    acts = sides.events("operation.audited", target="all billers settings.apply")
    assert [(act["action"], act["result"]) for act in acts] == [
        ("pause", "begun"),
        ("pause", "paused"),
        ("resume", "begun"),
        ("resume", "resumed"),
    ]


def test_an_unknown_biller_or_lane_is_wrong_use(sides: BothSides) -> None:
    for arguments in (["pause", "acmee"], ["pause", "acme", "--lane", "payment.post"], ["pause"]):
        environment = sides.processes.environment("payments")
        done = CliRunner().invoke(cli, arguments, env=environment)
        assert done.exit_code == 2 or "did you mean" in str(done.exception)


def test_status_shows_what_needs_a_person_with_what_to_run(sides: BothSides) -> None:
    customer, other = sides.customer(), sides.customer("birch")
    stranger = sides.payment(AccountNumber="999999999")
    sides.pay(stranger)
    assert sides.settled(stranger)["state"] == "parked"
    sides.fault("imt.datapump", "maintenance", biller="birch")
    pay(sides, other)
    letters = Producer({"bootstrap.servers": sides.stack.bootstrap})
    letters.produce("billing.file.received.v1.dlq", b"no event")
    letters.flush(10)
    pausing(sides, "pause", "acme", "--lane", "poll")
    sides.processes.kill("bills")
    until(lambda: ("payments.post", "birch") in breakers(sides), LIMIT_S, "the breaker")

    code, shown = billbus(sides, "status")

    assert code == 1
    needs = {need["what"]: need["run"] for need in shown["needs"]}
    assert any(what.startswith("bills does not answer at ") for what in needs)
    assert (
        needs["A partner of birch is taken to be away, so this waits: payments.post."]
        == "billbus doctor --read-only"
    )
    assert any(what.startswith("Parked, for a person to decide") for what in needs)
    assert any("on billing.file.received.v1.dlq, the newest" in what for what in needs)
    states = {each["service"]: each["state"] for each in shown["services"]}
    assert states == {name: "no answer" if name == "bills" else "ready" for name in SERVICES}
    assert [(each["biller"], each["lane"]) for each in shown["pauses"]] == [("acme", "poll")]
    billers = {each["biller"]: each for each in shown["billers"]}
    assert billers["birch"]["last_poll"] is not None
    assert (billers["acme"]["parked"] >= 1, shown["parked_since_start"]) == (True, False)
    assert customer.account not in json.dumps(shown)


def breakers(sides: BothSides) -> set[tuple[str, str]]:
    _, shown = billbus(sides, "status")
    return {(each["lane"], each["biller"]) for each in shown["breakers"]}


def test_status_shows_the_services_when_the_broker_is_away(sides: BothSides) -> None:
    code, shown = billbus(sides, "status", BILLBUS_BOOTSTRAP="127.0.0.1:1")
    assert code == 3
    assert shown["needs"][0]["what"].startswith("Kafka at 127.0.0.1:1 does not answer")
    assert {each["state"] for each in shown["services"]} == {"ready"}
    known = len(list(sides.processes.billers.glob("*.yaml")))
    assert (shown["lanes"], len(shown["billers"])) == ([], known)
