"""One payment from IC's request to its outcome: one trace over the intake, the lane and the partner."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from deploy.local.processes import ROOT, Processes
from services.bus import topics
from services.bus.catalog import load_catalog
from tests.deadline import until
from tests.e2e.both_sides import LIMIT_S, BothSides
from tests.e2e.collector import Collector, collecting
from tests.e2e.test_rows_payments import ACCOUNT
from tests.on_the_bus import publish
from tests.stacks import Addresses, chosen

INTAKES = ("payments", "payments-2")
"""Two replicas: one of them has the account's partition, so what comes in by the other crosses over."""
CALLER = "00f067aa0ba902b7"
RECEIVED, OUTCOME = "billing.payment.received.v1", "billing.payment.outcome.v1"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    with chosen(tmp_path_factory.mktemp("stack")) as addresses:
        topics.apply(addresses.bootstrap, addresses.registry, load_catalog(ROOT / "schemas"))
        publish(addresses, ACCOUNT)  # before they start: ready means that they know the accounts
        yield addresses


@contextmanager
def running(
    stack: Addresses, folder: Path, collector: Collector, environment: Mapping[str, str]
) -> Iterator[BothSides]:
    """Two replicas of payments, and the sandbox behind the collector's relay."""
    told = {"BILLBUS_SANDBOX_URL": collector.url, **environment}
    with Processes(folder, bootstrap=stack.bootstrap, registry=stack.registry, environment=told) as processes:
        collector.partner = processes.url("sandbox")
        processes.start_all(("sandbox", *INTAKES))
        with closing(BothSides(processes, stack)) as sides:
            sides.seed(ACCOUNT.account)
            yield sides


def pay(sides: BothSides, service: str, told: Mapping[str, str]) -> str:
    """Posts a payment as part of a caller's trace; its id."""
    trace_id = os.urandom(16).hex()
    answer = sides.ask(
        service,
        "POST",
        "/ic/acme/payments",
        data=dict(told),
        headers={"traceparent": f"00-{trace_id}-{CALLER}-01"},
    )
    assert answer.status_code == 200, answer.text
    return trace_id


def test_record_request_and_outcome_are_of_the_callers_trace(stack: Addresses, tmp_path: Path) -> None:
    with collecting() as collector, running(stack, tmp_path, collector, {}) as sides:
        for service in INTAKES:
            told = sides.payment(AccountNumber=ACCOUNT.account)
            trace_id = pay(sides, service, told)
            sides.settled(told)
            received, outcome = records(sides, told)
            (asked,) = [parent for _, parent in collector.asked if parent.split("-")[1] == trace_id]
            assert [place.split("-")[1] for place in (received, asked, outcome)] == [trace_id] * 3
    assert collector.spans == []  # nobody asked for them


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


@pytest.fixture(scope="module")
def sides(
    stack: Addresses, collector: Collector, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BothSides]:
    """Services whose spans go to the collector."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "100"}
    with running(stack, tmp_path_factory.mktemp("services"), collector, environment) as made:
        yield made


def test_spans_of_three_processes_hang_together(sides: BothSides, collector: Collector) -> None:
    # until both replicas have their partitions, one of them may do everything by itself
    until(lambda: any(follow(sides, service, collector) for service in INTAKES), LIMIT_S, "two replicas")


def test_an_attempt_and_the_look_up_after_it_stand_side_by_side(
    sides: BothSides, collector: Collector
) -> None:
    told = sides.payment(AccountNumber=ACCOUNT.account)
    sides.fault("imt.datapump", "error_after", count=1, subject=told["PaymentGUID"])
    trace_id = pay(sides, "payments", told)
    assert sides.settled(told)["looked_up"]
    until(lambda: f"send {OUTCOME}" in names(collector, trace_id), LIMIT_S, "the outcome's span")
    spans = {each.name: each for each in collector.of_trace(trace_id)}
    attempt, look_up = spans["deliver payments.post"], spans["look up payments.post"]
    assert attempt.parent == look_up.parent == spans[f"send {RECEIVED}"].span_id
    assert (attempt.attributes["error.type"], look_up.attributes["billbus.answer"]) == ("Unknown", "found")
    assert spans[f"send {OUTCOME}"].parent == look_up.span_id


def test_no_span_says_whom_or_what_it_is_about(sides: BothSides, collector: Collector) -> None:
    told = sides.payment(AccountNumber=ACCOUNT.account, PaymentAmount="31.77")
    trace_id = pay(sides, "payments", told)
    sides.settled(told)
    until(lambda: len(names(collector, trace_id)) == 5, LIMIT_S, "all spans")
    text = str(collector.spans)
    personal = (told["PaymentGUID"], ACCOUNT.account, told["CustomerName"], "31.77")
    assert not [word for word in personal if word in text]


def follow(sides: BothSides, service: str, collector: Collector) -> bool:
    """Follows one payment along its spans; whether intake and lane were two processes."""
    told = sides.payment(AccountNumber=ACCOUNT.account)
    trace_id = pay(sides, service, told)
    sides.settled(told)
    until(lambda: len(names(collector, trace_id)) == 5, LIMIT_S, "all spans")
    spans = {each.name: each for each in collector.of_trace(trace_id)}
    intake, received = spans["POST /ic/{biller}/payments"], spans[f"send {RECEIVED}"]
    attempt, outcome = spans["deliver payments.post"], spans[f"send {OUTCOME}"]
    (request,) = [each for name, each in spans.items() if each.attributes.get("billbus.partner")]

    parents = [each.parent for each in (intake, received, attempt, request, outcome)]
    assert parents == [CALLER, intake.span_id, received.span_id, attempt.span_id, attempt.span_id]
    places = [f"00-{trace_id}-{each.span_id}-01" for each in (received, outcome)]
    assert records(sides, told) == places
    assert ("POST", f"00-{trace_id}-{request.span_id}-01") in collector.asked
    assert (intake.process, attempt.process) == (received.process, outcome.process)
    return bool(intake.process != attempt.process)


def names(collector: Collector, trace_id: str) -> set[str]:
    return {each.name for each in collector.of_trace(trace_id)}


def records(sides: BothSides, told: Mapping[str, str]) -> list[str]:
    """What the payment's record and its outcome's record say of their place."""
    (received,) = sides.records("payment.received", payment_guid=told["PaymentGUID"])
    (outcome,) = sides.records("payment.outcome", natural_id=told["PaymentGUID"])
    return [received.traceparent, outcome.traceparent]
