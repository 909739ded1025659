"""Programs of other teams log in over TLS, and read what names their team and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from services.events import PaymentOutcome
from tests.contract.examples import examples
from tests.integration.readers.example_events import event_of
from tests.integration.readers.program import Program, build
from tests.integration.readers.test_events_package import as_json, python, read
from tests.integration.readers.test_readers import LANGUAGES
from tests.integration.rights.secured import Secured, password_of
from tests.on_the_bus import publish

TEAM, NOT_ITS_OWN = "general-ledger", "billing.payment.received.v1"
SINCE = "2026-11-20"
__all__ = ["python"]  # a fixture, found here by its name


@pytest.fixture(scope="module", params=LANGUAGES)
def program(
    request: pytest.FixtureRequest, secured: Secured, tmp_path_factory: pytest.TempPathFactory
) -> Program:
    login = {"KAFKA_USER": TEAM, "KAFKA_PASSWORD": password_of(TEAM), "KAFKA_CA": str(secured.ca)}
    return replace(build(request.param, tmp_path_factory.mktemp(request.param)), login=login)


def test_a_team_logs_in_and_reads_what_names_it(program: Program, secured: Secured) -> None:
    example = next(each for each in examples("valid") if each.topic == PaymentOutcome.TOPIC)
    publish(secured.seen_by("payments"), event_of(example))
    group = f"{TEAM}.{program.folder.name}"
    with program.reading(secured.stack, group, SINCE, example.topic) as reading:
        lines = reading.wait_for(1)
    assert {line["topic"] for line in lines} == {example.topic}


def test_what_does_not_name_the_team_is_refused(program: Program, secured: Secured) -> None:
    said = program.refusal(secured.stack, f"{TEAM}.{program.folder.name}-more", SINCE, NOT_ITS_OWN)
    assert "authoriz" in said.lower()
    assert password_of(TEAM) not in said


@pytest.mark.extra
def test_the_typed_package_logs_in_as_well(
    python: Path, secured: Secured, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = event_of(next(each for each in examples("valid") if each.topic == PaymentOutcome.TOPIC))
    publish(secured.seen_by("payments"), sent)
    login = {"KAFKA_USER": TEAM, "KAFKA_PASSWORD": password_of(TEAM), "KAFKA_CA": str(secured.ca)}
    for name, value in login.items():
        monkeypatch.setenv(name, value)
    found = read(python, secured, f"{TEAM}.typed", {PaymentOutcome.TOPIC: 1})
    assert [record for _, record in found[PaymentOutcome.TOPIC]] == [as_json(sent)]
