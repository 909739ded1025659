"""billbus trace and rewind on the real broker: what an operator finds, and what another team reads again."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import OffsetSpec

from deploy.local.processes import Processes
from services.bus.clock import Clock
from services.bus.connection import kafka_of
from services.bus.groups import commit_offsets, edge_offsets
from services.bus.place import Place
from services.bus.replayed import Act
from services.bus.settings import Settings, load_settings
from services.cli import app
from services.events import (
    AccountCurrent,
    BatchClosed,
    InvoiceIssued,
    OffsetRange,
    OperationAudited,
    PaymentOutcome,
    PaymentReceived,
)
from services.operations.reemitting import Coordinates, Reemitter
from services.operations.rewind import OURS
from tests.contract.examples import examples
from tests.deadline import until
from tests.e2e.both_sides import BothSides
from tests.integration.readers.example_events import event_of
from tests.on_the_bus import publish, read
from tests.stacks import Addresses
from tests.unit.payments_sample import a_payment

RECEIVED = PaymentReceived.TOPIC
LIMIT_S = 40
MARKUP = '<img src=x onerror="alert(1)">[bold]\x1b[2J'


@dataclass
class Desk:
    """An operator beside a running payments service and its partner."""

    stack: Addresses
    settings: Settings
    sides: BothSides
    account: AccountCurrent
    guid: str
    trace_id: str


def an_account(number: str) -> AccountCurrent:
    return AccountCurrent(
        biller="acme",
        account=number,
        normalised=number.lstrip("0"),
        invoice_number=f"INV-T-{number}",
        invoice_date=date(2026, 11, 1),
        invoices=(f"INV-T-{number}",),
        updated_at=datetime(2026, 11, 1, 6, tzinfo=UTC),
    )


@pytest.fixture(scope="module")
def desk(stack: Addresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One payment is posted before the first test, as part of a caller's trace."""
    account = an_account(f"00071{time.time_ns() % 100_000:05d}")
    publish(stack, account)  # before the service starts: ready means that it knows the accounts
    folder = tmp_path_factory.mktemp("trace")
    with Processes(folder, bootstrap=stack.bootstrap, registry=stack.registry) as processes:
        processes.start_all(("sandbox", "payments"))
        with closing(BothSides(processes, stack)) as sides, pytest.MonkeyPatch.context() as patch:
            for name, value in processes.environment("payments").items():
                if name.startswith("BILLBUS_"):
                    patch.setenv(name, value)
            sides.seed(account.account)
            guid, trace_id = str(uuid4()), os.urandom(16).hex()
            told = sides.payment(AccountNumber=account.account, PaymentGUID=f"{{{guid.upper()}}}")
            answer = sides.pay(told, headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"})
            assert answer.status_code == 200, answer.text
            until(lambda: outcomes_of(stack, guid), LIMIT_S, "the outcome")
            yield Desk(stack, load_settings(), sides, account, guid, trace_id)


def outcomes_of(stack: Addresses, guid: str) -> list[PaymentOutcome]:
    return [each for each in read(stack, PaymentOutcome) if each.natural_id == guid]


@pytest.fixture
def billbus(desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    del desk

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["billbus", *words])
        monkeypatch.setenv("COLUMNS", "80")
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            app.main()
        out, told = capsys.readouterr()
        return int(ended.value.code or 0), out, told

    return run


def told_by(billbus: Any, *words: str) -> dict[str, Any]:
    code, out, told = billbus("trace", *words, "--json")
    assert code == 0, out + told
    story: dict[str, Any] = json.loads(out)
    return story


def topics(story: dict[str, Any]) -> list[str]:
    return [entry["short"] for entry in story["entries"]]


def raw_record(stack: Addresses, topic: str, key: str, holds: bytes) -> Any:
    """The first record of a key whose value holds these bytes."""
    consumer = Consumer({"bootstrap.servers": stack.bootstrap, "group.id": "seen-by-a-test"})
    try:
        count = len(consumer.list_topics(topic, timeout=LIMIT_S).topics[topic].partitions)
        consumer.assign([TopicPartition(topic, number, 0) for number in range(count)])
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            for record in consumer.consume(500, timeout=0.2):
                if (
                    record.error() is None
                    and record.key() == key.encode()
                    and holds in (record.value() or b"")
                ):
                    return record
    finally:
        consumer.close()
    raise AssertionError(f"nothing of {key} on {topic}")


@pytest.mark.parametrize("spelling", ["{%s}", "%s"])
def test_a_payment_is_found_by_its_guid_however_it_is_spelled(
    billbus: Any, desk: Desk, spelling: str
) -> None:
    story = told_by(billbus, spelling % desk.guid.upper())
    assert (story["kind"], topics(story)[:2]) == ("payment", ["payment.received", "payment.outcome"])
    assert story["zone"] == "America/Chicago"
    assert "IMT posted it" in story["entries"][1]["words"]
    assert story["unsettled"] == []
    assert desk.account.account not in json.dumps(story)


def test_the_same_is_told_by_trace_id_invoice_and_account(billbus: Any, desk: Desk) -> None:
    by_trace = told_by(billbus, desk.trace_id)
    assert by_trace["kind"] == "trace"
    assert {"payment.received", "payment.outcome"} <= set(topics(by_trace))
    typed = f" {desk.account.account.lstrip('0')[:3]}-{desk.account.account.lstrip('0')[3:]}"
    by_account = told_by(billbus, typed, "--biller", "acme")
    assert by_account["kind"] == "account"
    assert {"payment.received", "payment.outcome"} <= set(topics(by_account))
    invoice = event_of(next(e for e in examples("valid") if e.topic == InvoiceIssued.TOPIC))
    assert isinstance(invoice, InvoiceIssued)
    number = desk.account.invoice_number
    publish(desk.stack, replace(invoice, biller="acme", account=desk.account.account, invoice_number=number))
    by_invoice = told_by(billbus, number)
    assert by_invoice["kind"] == "invoice"
    assert topics(by_invoice) == ["invoice.issued"]
    (said,) = by_invoice["unsettled"]
    assert "received, no outcome yet; invoices.upload is " in said  # no such service runs here
    assert " behind" in said


def test_replays_acts_batches_and_dead_letters_are_part_of_the_story(billbus: Any, desk: Desk) -> None:
    key = f"acme/{desk.account.account}"
    record = raw_record(desk.stack, RECEIVED, key, desk.guid.encode())
    run = f"run-{uuid4()}"
    with (
        Place(kafka_of(desk.settings), desk.settings.registry) as place,
        Reemitter(place, RECEIVED, run, Clock()) as out,
    ):
        at = Coordinates(record.partition(), record.offset(), record.timestamp()[1])
        out.emit(record.key(), record.value(), record.headers(), at, Act("recheck"))
        out.flush()
    now = datetime.now(UTC)
    publish(
        desk.stack,
        OperationAudited(
            biller="acme", operator="jdoe", action="recheck", target=f"one day (run {run})",
            reason="IMT restored a backup", result="begun", at=now,
        ),
        BatchClosed(
            biller="acme", batch_day=now.date(), opened_at=now - timedelta(days=1), closed_at=now, count=1,
            amount=Decimal("25.00"), convenience_fee=Decimal("0.00"), rule="received_by_cut_off",
            ranges=(OffsetRange(partition=at.partition, begin=at.offset, end=at.offset + 1),),
        ),
    )  # fmt: skip
    broken = Producer({"bootstrap.servers": desk.stack.bootstrap, "partitioner": "murmur2_random"})
    broken.produce(RECEIVED, b"no event, but of " + desk.guid.encode(), key.encode())
    broken.flush(LIMIT_S)

    def all_there() -> bool:
        found = set(topics(told_by(billbus, desk.guid)))
        return {"payment.received.replay", "payment.received.dlq"} <= found

    until(all_there, LIMIT_S, "the dead letter")
    story = told_by(billbus, desk.guid)
    by_topic = {entry["short"]: entry for entry in story["entries"]}
    assert {"operation.audited", "batch.closed"} <= by_topic.keys()
    replayed = by_topic["payment.received.replay"]
    assert (replayed["act"], replayed["run"]) == ("recheck", run)
    assert replayed["origin"] == f"{at.partition}@{at.offset}"
    assert by_topic["payment.received.dlq"]["origin"]
    assert [e["at"] for e in story["entries"]] == sorted(e["at"] for e in story["entries"])


def test_text_of_a_partner_can_steer_neither_terminal_nor_page(
    billbus: Any, desk: Desk, tmp_path: Path
) -> None:
    payment = replace(a_payment(), account=desk.account.account, payment_guid=str(uuid4()), tender=MARKUP)
    publish(desk.stack, payment)
    page, diagram = tmp_path / "story.html", tmp_path / "story.mmd"
    code, out, _ = billbus("trace", payment.payment_guid, "--html", str(page), "--mermaid", str(diagram))
    assert code == 0
    assert "\x1b[2J" not in out
    assert "[bold]" in out
    html = page.read_text()
    assert "<img" not in html
    assert "&lt;img" in html
    assert "http" not in html.replace("http-equiv", "")
    assert "<" not in diagram.read_text()
    assert diagram.read_text().startswith("sequenceDiagram\n")
    assert max(map(len, out.splitlines())) <= 80


def test_nothing_found_is_exit_code_1_and_says_what_was_searched(billbus: Any, desk: Desk) -> None:
    del desk
    for typed in (str(uuid4()), uuid4().hex, "[red] INV"):
        code, out, told = billbus("trace", typed)
        assert code == 1
        assert "Nothing found: no " in out
        assert "records searched" in out
        assert "Traceback" not in out + told


def test_a_number_that_can_mean_two_accounts_is_asked_about(billbus: Any, desk: Desk) -> None:
    stem = f"72{time.time_ns() % 1_000_000:06d}"
    publish(desk.stack, an_account(f"00{stem}"), an_account(f"000{stem}"))
    code, _, told = billbus("trace", stem, "--biller", "acme", "--kind", "account")
    assert code == 2
    assert "The number can mean acme/***" in told


# -- rewind ------------------------------------------------------------------------------------------------


@contextmanager
def reading(stack: Addresses, group: str) -> Iterator[Consumer]:
    """A member of another team's group, with partitions."""
    member = Consumer(
        {"bootstrap.servers": stack.bootstrap, "group.id": group, "auto.offset.reset": "earliest"}
    )
    given: list[Any] = []
    member.subscribe([RECEIVED], on_assign=lambda _, partitions: given.extend(partitions))
    try:
        deadline = time.monotonic() + LIMIT_S
        while not given and time.monotonic() < deadline:
            member.poll(0.1)
        assert given
        yield member
    finally:
        member.close()


def committed(desk: Desk, group: str) -> dict[int, int]:
    consumer = Consumer({"bootstrap.servers": desk.stack.bootstrap, "group.id": group})
    try:
        count = len(consumer.list_topics(RECEIVED, timeout=LIMIT_S).topics[RECEIVED].partitions)
        found = consumer.committed([TopicPartition(RECEIVED, n) for n in range(count)], timeout=LIMIT_S)
        return {each.partition: each.offset for each in found}
    finally:
        consumer.close()


def test_another_teams_group_reads_a_stretch_again_and_nothing_is_written(billbus: Any, desk: Desk) -> None:
    group = f"general-ledger.{uuid4()}"
    at = datetime.now(UTC)
    with Place(kafka_of(desk.settings), desk.settings.registry) as place:
        publish(desk.stack, *(replace(a_payment(), payment_guid=str(uuid4())) for _ in range(3)))
        ends = ends_of(place)
        read_so_far = dict(ends)
        behind = next(number for number, end in ends.items() if end)
        read_so_far[behind] = 0
        commit_offsets(
            place.admin, group, [TopicPartition(RECEIVED, n, offset) for n, offset in read_so_far.items()]
        )
        words = ("rewind", group, "payment.received", "--to-day", at.isoformat())

        code, out, _ = billbus(*words, "--json")
        plan = json.loads(out)
        assert (code, plan["done"], plan["active"]) == (0, False, False)
        assert plan["lag_then"] == plan["lag_now"] + (0 if moved(plan) == [behind] else 3)
        assert committed(desk, group) == read_so_far

        code, out, _ = billbus(*words, "--json", "--yes", "--reason", "their ledger lost an hour")
        assert (code, json.loads(out)["done"]) == (0, True)
        after = committed(desk, group)
        assert after == {each["partition"]: each["to"] for each in plan["partitions"]}
        assert after[behind] == 0  # never forward
        assert ends_of(place) == ends
    acts = [each for each in read(desk.stack, OperationAudited) if group in each.target]
    assert [each.result.split()[0] for each in acts] == ["begun", "set"]
    assert acts[0].reason == "their ledger lost an hour"


def moved(plan: dict[str, Any]) -> list[int]:
    return [each["partition"] for each in plan["partitions"] if each["lag_then"]]


def ends_of(place: Place) -> dict[int, int]:
    partitions = [TopicPartition(RECEIVED, n) for n in range(place.topics()[RECEIVED])]
    return {p.partition: end for p, end in edge_offsets(place.admin, partitions, OffsetSpec.latest()).items()}


def test_a_rewind_is_refused_where_it_would_do_harm(billbus: Any, desk: Desk) -> None:
    do = ("payment.received", "--to-day", "2026-11-20", "--yes", "--reason", "a try")
    for ours in (f"{OURS}payments.post", f"{OURS}payments.post.acme"):
        code, _, told = billbus("rewind", ours, *do)
        assert (code, "billbus replay payment.received" in told) == (2, True)
    code, _, told = billbus("rewind", f"general-ledger.{uuid4()}", *do)
    assert (code, "has never read billing.payment.received.v1" in told) == (2, True)
    code, _, told = billbus("rewind", "general-ledger", *do[:-2])
    assert (code, "--reason" in told) == (2, True)

    group = f"general-ledger.{uuid4()}"
    with reading(desk.stack, group) as member:
        member.commit(offsets=[TopicPartition(RECEIVED, 0, 1)], asynchronous=False)
        code, _, told = billbus("rewind", group, *do)
        assert (code, "has members now" in told) == (1, True)
    assert committed(desk, group)[0] == 1
