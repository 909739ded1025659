"""billbus tail on the real broker: what an operator sees of every topic, and how it ends."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from deploy.local import Stack
from deploy.local.processes import ROOT, Processes
from services.events import BalanceChanged
from tests.contract.examples import Example, examples
from tests.deadline import until
from tests.integration.readers.example_events import CATALOG, event_of
from tests.on_the_bus import publish
from tests.stacks import Addresses

LIMIT_S = 60
MAY_SEE = {"BILLBUS_PERSONAL_DATA": "true"}
BALANCES = "billing.balance.changed.v1"


class Operator:
    """Runs `billbus tail` as a process of its own, against one stack."""

    def __init__(self, stack: Stack | Addresses, folder: Path) -> None:
        self.folder = folder
        self.environment = Processes(folder, bootstrap=stack.bootstrap, registry=stack.registry).environment(
            "payments"
        )

    def command(self, *arguments: str) -> list[str]:
        return [str(Path(sys.executable).with_name("billbus")), "tail", *arguments]

    def __call__(self, *arguments: str, **changed: str) -> tuple[int, str, str]:
        """Exit code, output and errors of a tail that comes to its end."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment | changed,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
        )
        return done.returncode, done.stdout, done.stderr

    @contextmanager
    def following(self, *arguments: str) -> Iterator[Following]:
        """A tail that goes on; entered once its place on the topic is fixed."""
        out, told = self.folder / "out", self.folder / "told"
        with out.open("w") as stdout, told.open("w") as stderr:
            process = subprocess.Popen(
                self.command(*arguments), env=self.environment, stdout=stdout, stderr=stderr
            )
        try:
            until(lambda: "from now on" in told.read_text(), LIMIT_S, "the start")
            yield Following(process, out)
        finally:
            process.kill()
            process.wait(LIMIT_S)


class Following:
    """A `billbus tail` that runs."""

    def __init__(self, process: subprocess.Popen[bytes], out: Path) -> None:
        self._process = process
        self._out = out

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._out.read_text().split("\n")[:-1]]

    def wait_for(self, count: int) -> list[dict[str, Any]]:
        until(lambda: len(self.lines()) >= count, LIMIT_S, f"line {count}")
        return self.lines()

    def interrupt(self) -> int:
        """Ctrl-C, and what it returned."""
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(LIMIT_S)


@pytest.fixture
def tail(own: Stack, tmp_path: Path) -> Operator:
    return Operator(own, tmp_path)


def yesterday() -> str:
    return str((datetime.now(UTC) - timedelta(days=1)).date())


def records(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def by_id(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found, key=lambda each: json.dumps(each, sort_keys=True))


@pytest.mark.parametrize("topic", sorted(CATALOG))
def test_every_topic_is_told_with_exact_values(tail: Operator, published: list[Example], topic: str) -> None:
    code, output, told = tail(topic, "--since", yesterday(), "--json", "--pii", **MAY_SEE)

    assert code == 0, told
    # that personal data was asked for is itself told on the audit topic
    values = [line["value"] for line in records(output) if not is_noted(line["value"])]
    assert by_id(values) == by_id([each.value for each in published if each.topic == topic])


def is_noted(value: dict[str, Any] | None) -> bool:
    return value is not None and value.get("action") == "show personal data"


def test_who_asks_for_personal_data_is_noted_and_nobody_else(
    tail: Operator, published: list[Example]
) -> None:
    del published
    since = datetime.now(UTC).isoformat()
    words = ("payment.outcome", "--biller", "acme", "--since", yesterday(), "--json")
    assert tail(*words)[0] == 0
    assert tail(*words, "--pii", **MAY_SEE, BILLBUS_OPERATOR="jdoe")[0] == 0
    _, output, _ = tail("operation.audited", "--since", since, "--json")
    (noted,) = [line["value"] for line in records(output) if is_noted(line["value"])]
    assert (noted["operator"], noted["biller"]) == ("jdoe", "acme")
    assert noted["target"] == "tail billing.payment.outcome.v1"


def test_dead_letters_are_told_without_their_bytes(tail: Operator, own: Stack) -> None:
    letter = b"Ada Example, no event"
    producer = Producer({"bootstrap.servers": own.bootstrap})
    headers = [("billbus_reason", b"not in the Confluent wire format"), ("billbus_lane", b"payments.post")]
    producer.produce("billing.payment.received.v1.dlq", letter, b"acme/0009990001", headers=headers)
    producer.flush(LIMIT_S)
    words = ("payment.received.dlq", "--since", yesterday(), "--account", "0009990001", "--json")
    code, output, _ = tail(*words)
    (line,) = records(output)
    assert (code, line["reason"], line["size"], line["raw"]) == (
        0,
        "not in the Confluent wire format",
        len(letter),
        None,
    )
    assert (line["key"], line["origin"]) == ("acme/***001", None)
    _, output, _ = tail(*words, "--pii", **MAY_SEE)
    assert records(output)[0]["raw"] == letter.hex()


def test_personal_data_is_hidden_and_nothing_else(tail: Operator, published: list[Example]) -> None:
    code, output, _ = tail("payment.received", "--since", yesterday(), "--biller", "acme", "--json")

    assert code == 0
    (expected,) = [
        e for e in published if e.topic.endswith("payment.received.v1") and e.name == "valid-portal"
    ]
    (line,) = [each for each in records(output) if each["id"] == expected.ce_id]
    hidden = {"account": "***567", "payer_name": "***", "description": "***"}
    assert line["value"] == expected.value | hidden
    assert line["key"] == "acme/***567"
    assert "Ada" not in output
    assert "0001234567" not in output


def test_one_accounts_records_are_found_with_the_times_of_its_biller(
    tail: Operator, published: list[Example]
) -> None:
    del published
    code, output, told = tail(
        "payment.received", "--since", yesterday(), "--biller", "acme", "--account", "0001234567"
    )

    assert code == 0
    assert f"since {yesterday()}T00:00:00.000-06:00, times in America/Chicago" in told
    lines = output.splitlines()
    assert lines
    assert all("  acme/***567  " in line for line in lines)
    assert any("amount=110.00" in line and "paid_at=2026-11-20T09:04:58.000-06:00" in line for line in lines)


def test_what_was_stored_before_the_instant_is_not_told(tail: Operator, published: list[Example]) -> None:
    del published
    _, output, _ = tail("payment.received", "--since", yesterday(), "--json")
    stored = sorted(line["stored"] for line in records(output))

    code, later, _ = tail("payment.received", "--since", stored[-1], "--json")

    assert code == 0
    assert {line["stored"] for line in records(later)} == {stored[-1]}
    after = datetime.fromisoformat(stored[-1]) + timedelta(seconds=1)
    assert tail("payment.received", "--since", after.isoformat(), "--json")[:2] == (0, "")


def test_new_records_come_as_they_are_written_and_ctrl_c_ends_it(stack: Addresses, tmp_path: Path) -> None:
    (example,) = [e for e in examples("valid") if e.topic == BALANCES and e.name == "valid-poll"]
    event = event_of(example)
    assert isinstance(event, BalanceChanged)
    mine = replace(event, account="TAIL-4711")
    publish(stack, replace(mine, balance_due=Decimal("1.10")))

    with Operator(stack, tmp_path).following(BALANCES, "--account", "TAIL-4711", "--json") as following:
        publish(stack, replace(mine, balance_due=Decimal("2.20")), replace(mine, account="OTHER-9000"))
        publish(stack, replace(mine, balance_due=Decimal("3.30")))
        told = following.wait_for(2)
        assert [line["value"]["balance_due"] for line in told] == ["2.20", "3.30"]
        assert following.interrupt() == 0


def test_a_reader_that_leaves_ends_it(tail: Operator, published: list[Example]) -> None:
    del published
    command = [*tail.command("payment.received", "--since", yesterday(), "--follow"), "--json"]
    with subprocess.Popen(
        command, env=tail.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as it:
        assert it.stdout is not None
        assert it.stderr is not None
        it.stdout.close()  # as `head` does when it has enough
        assert it.wait(LIMIT_S) == 0
        assert b"Traceback" not in it.stderr.read()


def test_a_registry_that_is_away_is_exit_code_3(tail: Operator, published: list[Example]) -> None:
    del published
    code, output, told = tail(
        "payment.received", "--since", yesterday(), BILLBUS_REGISTRY="http://127.0.0.1:1/apis/ccompat/v7"
    )
    assert (code, output) == (3, "")
    assert "The schema registry does not answer" in told
    assert "Traceback" not in told


def test_a_broker_without_the_topic_says_what_to_do(tail: Operator, tmp_path: Path) -> None:
    schemas = tmp_path / "schemas"
    shutil.copytree(ROOT / "schemas" / "partners", schemas / "partners")
    shutil.copytree(ROOT / "schemas" / "billing.bill.linked.v1", schemas / "billing.bill.linked.v9")
    code, output, told = tail("bill.linked.v9", BILLBUS_SCHEMAS=str(schemas))
    assert (code, output) == (2, "")
    assert told == "billing.bill.linked.v9 is not on the broker; run: billbus topics apply --yes\n"
