"""Programs of other teams log in over TLS, and read what names their team and nothing else."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import date

import pytest

from services.events import PaymentOutcome
from services.events.reader import Login, Received, read
from tests.contract.examples import examples
from tests.integration.readers.example_events import event_of
from tests.integration.readers.program import Program, build
from tests.integration.readers.test_readers import LANGUAGES
from tests.integration.rights.secured import Secured, password_of
from tests.on_the_bus import publish

TEAM, NOT_ITS_OWN = "general-ledger", "billing.payment.received.v1"
SINCE = "2026-11-20"


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


async def test_the_typed_package_logs_in_as_well(secured: Secured) -> None:
    sent = event_of(next(each for each in examples("valid") if each.topic == PaymentOutcome.TOPIC))
    publish(secured.seen_by("payments"), sent)

    async def first() -> Received[PaymentOutcome]:
        reading = read(
            PaymentOutcome,
            kafka=secured.bootstrap,
            registry=secured.registry,
            group=f"{TEAM}.typed",
            since=date.fromisoformat(SINCE),
            login=Login(TEAM, password_of(TEAM), str(secured.ca)),
        )
        async with aclosing(reading) as events:
            return await anext(events)

    received = await asyncio.wait_for(first(), 60)
    assert received.event == sent
