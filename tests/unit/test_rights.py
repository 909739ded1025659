"""Rights from the catalog: what the services are built of, and nothing beyond it."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deploy.local.processes import DEMO_BILLERS, prepare
from services.bus.catalog import load_catalog
from services.bus.rights import OPERATIONS, REPLAY_GROUPS, SERVICES, Right, rights_of
from services.bus.service import Service, faust_app, open_bus
from services.bus.settings import ROOT, load_settings
from services.cli.app import cli
from services.events import OperationAudited, PauseCurrent
from services.operations.pausing import CLOCKS

CATALOG = load_catalog(ROOT / "schemas")
RIGHTS = rights_of(CATALOG)
PAYMENTS = "billing.payment.received.v1"


@pytest.fixture(params=SERVICES)
def name(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


def reads(name: str) -> set[str]:
    return {right.name for right in RIGHTS[name] if (right.resource, right.operation) == ("topic", "Read")}


def writes(name: str) -> set[str]:
    return {right.name for right in RIGHTS[name] if (right.resource, right.operation) == ("topic", "Write")}


def groups(name: str) -> set[tuple[str, bool]]:
    return {(right.name, right.prefixed) for right in RIGHTS[name] if right.resource == "group"}


def test_a_service_may_what_it_is_built_of_and_no_more(name: str, tmp_path: Path) -> None:
    service, tables_group = built(name, tmp_path)
    read = {view.reads.TOPIC for view in service.views} | {PauseCurrent.TOPIC}
    buried, joined = set(), set()
    for lane in service.lanes:
        topic = CATALOG[lane.reads.TOPIC]
        read |= {topic.name, f"{topic.name}.replay"} if topic.replay else {topic.name}
        if lane.writes is not None:
            read.add(topic.name.rsplit(".", 2)[0] + ".outcome.v1")
        buried.add(topic.name)
        joined |= {(lane.group, False), (f"{lane.group}.", True)}
    for table in service.tables:
        read |= {table.reads.TOPIC, table.into.TOPIC}
        buried.add(table.reads.TOPIC)
        joined.add((tables_group, False))
    facts = {topic.name for topic in CATALOG.values() if name in topic.producers}

    assert reads(name) == read
    assert writes(name) == facts | {f"{topic}.dlq" for topic in buried if CATALOG[topic].dlq}
    assert groups(name) == joined
    assert {right.resource for right in RIGHTS[name]} == {"topic", "group"}
    assert {clock.name for clock in service.clocks if clock.calls_partner} <= set(
        CLOCKS
    )  # each can be paused


def built(name: str, folder: Path) -> tuple[Service, str]:
    """The service as its app.py builds it, and the group of its tables."""
    billers, secrets, _ = prepare(folder, DEMO_BILLERS)
    settings = load_settings(service=name, billers=billers, secrets=secrets, state=folder / "state")
    bus = open_bus(settings)
    try:
        service: Service = import_module(f"services.{name}.app").build(bus)
        return service, faust_app(settings).conf.id
    finally:
        bus.codec.close()


def test_a_team_reads_the_topics_that_name_it_in_groups_that_begin_with_its_name() -> None:
    assert RIGHTS["customer-care"] == [
        Right("group", "customer-care", "Read"),
        Right("group", "customer-care.", "Read", prefixed=True),
        Right("topic", "billing.balance.current.v1", "Read"),
        Right("topic", "billing.bill.linked.v1", "Read"),
        Right("topic", "billing.enrollment.current.v1", "Read"),
        Right("topic", "billing.invoice.issued.v1", "Read"),
        Right("topic", PAYMENTS, "Read"),
        Right("topic", "billing.setting.changed.v1", "Read"),
    ]


def test_nobody_but_operations_reads_dead_letters_and_it_writes_no_fact_of_another() -> None:
    readers = {
        user for user in RIGHTS for topic in CATALOG if Right("topic", f"{topic}.dlq", "Read") in RIGHTS[user]
    }
    assert readers == {OPERATIONS}
    replays = {f"{name}.replay" for name, topic in CATALOG.items() if topic.replay}
    assert writes(OPERATIONS) == {OperationAudited.TOPIC, PauseCurrent.TOPIC} | replays
    assert not any(
        right.name in replays
        for user in RIGHTS.keys() - {OPERATIONS}
        for right in RIGHTS[user]
        if right.operation == "Write"
    )


def test_operations_may_set_back_the_groups_of_teams_and_none_of_a_lane() -> None:
    teams = RIGHTS.keys() - {*SERVICES, OPERATIONS}
    moved = {r.name for r in RIGHTS[OPERATIONS] if (r.resource, r.operation) == ("group", "Read")}
    assert moved == teams | {f"{team}." for team in teams} | {REPLAY_GROUPS}
    seen = {r.name for r in RIGHTS[OPERATIONS] if (r.resource, r.operation) == ("group", "Describe")}
    assert {name for name in seen if name.startswith("billbus.")} == seen


def test_every_writer_and_every_reader_of_the_catalog_has_rights() -> None:
    named = {name for topic in CATALOG.values() for name in topic.producers}
    named |= {consumer.name for topic in CATALOG.values() for consumer in topic.consumers}
    assert RIGHTS.keys() == named
    assert all(RIGHTS.values())


def test_the_command_shows_the_rights_of_one_user() -> None:
    shown = CliRunner().invoke(cli, ["topics", "rights", "--user", "general-ledger", "--json"])
    assert shown.exit_code == 0
    found = {
        (each["resource"], each["name"], each["pattern"], each["operation"])
        for each in json.loads(shown.stdout)
    }
    assert ("topic", "billing.batch.closed.v1", "literal", "Read") in found
    assert ("group", "general-ledger.", "prefix", "Read") in found
    assert CliRunner().invoke(cli, ["topics", "rights", "--user", "nobody"]).exit_code == 2
