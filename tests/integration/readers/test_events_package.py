"""billbus-events, installed from its wheel alone, gives typed events at least once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from deploy.local import Stack
from deploy.local.processes import ROOT
from services.events import Event
from tests.contract.examples import Example
from tests.integration.readers.example_events import event_of
from tests.integration.readers.program import READ_LIMIT_S
from tests.integration.rights.secured import Secured
from tools import build_events

pytestmark = pytest.mark.extra  # its environment is its own, so it needs an index of packages
PAYMENTS = "billing.payment.received.v1"
INSTALL_LIMIT_S = 120


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an empty environment with the wheel and what the wheel asks for."""
    folder = tmp_path_factory.mktemp("events")
    build_events.main(folder)
    (wheel,) = folder.glob("*.whl")
    python = folder / "venv" / "bin" / "python"
    for command in (
        [sys.executable, "-m", "venv", str(folder / "venv")],
        [str(python), "-m", "pip", "install", "--quiet", str(wheel)],
    ):
        subprocess.run(command, check=True, timeout=INSTALL_LIMIT_S)
    return python


def read(python: Path, own: Stack | Secured, group: str, counts: dict[str, int]) -> dict[str, list[Any]]:
    yesterday = str((datetime.now(UTC) - timedelta(days=1)).date())
    script = Path(__file__).with_name("typed_reader.py")
    place = [own.bootstrap, own.registry, group, yesterday, json.dumps(counts)]
    done = subprocess.run(
        [str(python), "-I", str(script), *place], capture_output=True, text=True, timeout=READ_LIMIT_S
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, dict)
    return found


def test_every_topic_gives_events_of_its_type_with_exact_values(
    python: Path, own: Stack, published: list[Example]
) -> None:
    found = read(python, own, "typed", Counter(example.topic for example in published))
    for example in published:
        assert [example.ce_id, as_json(event_of(example))] in found[example.topic]


def test_an_event_that_was_at_hand_comes_again_and_what_was_done_does_not(
    python: Path, own: Stack, published: list[Example]
) -> None:
    count = sum(example.topic == PAYMENTS for example in published)
    first = read(python, own, "again", {PAYMENTS: count})[PAYMENTS]
    again = read(python, own, "again", {PAYMENTS: 1})[PAYMENTS]
    assert again == first[-1:]


def test_the_example_adds_up_what_was_paid(python: Path, own: Stack, published: list[Example]) -> None:
    approved = [e.value for e in published if e.topic == PAYMENTS and e.value["approved"]]
    place = {"KAFKA": own.bootstrap, "REGISTRY": own.registry, "GROUP": "adds-up"}
    script = ROOT / "examples" / "billbus_events" / "payments.py"
    with subprocess.Popen(
        [str(python), "-I", str(script), "2026-11-20"],
        env=os.environ | place,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            lines = [process.stdout.readline().split() for _ in approved]
        finally:
            process.terminate()
    assert Counter((line[0], line[1], line[2]) for line in lines) == Counter(
        (value["biller"], value["amount"], value["tender"]) for value in approved
    )


def as_json(event: Event) -> Any:
    return json.loads(json.dumps(event.as_record(), default=str))
