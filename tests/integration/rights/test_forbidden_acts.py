"""Every forbidden act of every user, tried with its own credentials on a real broker, is refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from deploy.local.processes import ROOT
from services.bus.catalog import load_catalog
from services.bus.groups import commit_offsets, has_members
from services.bus.own_rights import missing_rights
from services.bus.place import Place
from services.bus.rights import OPERATIONS, READER_GROUP, SERVICES, Right, rights_of
from services.bus.topics import LANES, TABLES, group_of, wanted_topics
from services.operations.access import AccessChange, make_access
from tests.integration.rights.acts import is_refused, refused_to_join, refused_to_read, refused_to_write
from tests.integration.rights.secured import Secured

CATALOG = load_catalog(ROOT / "schemas")
RIGHTS = rights_of(CATALOG)
TOPICS = set(wanted_topics(CATALOG, replication=1))
GROUPS = {group_of(each) for each in LANES | TABLES}
CURSORS = {f"{group_of(lane)}.acme" for lane in LANES}


@pytest.fixture(params=RIGHTS)
def user(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


def granted(user: str, resource: str, operation: str) -> set[str]:
    return {r.name for r in RIGHTS[user] if (r.resource, r.operation) == (resource, operation)}


def test_only_its_own_topics_are_read(secured: Secured, user: str) -> None:
    own = granted(user, "topic", "Read")
    group = min(granted(user, "group", "Read"), default=READER_GROUP)
    assert refused_to_read(secured.client(user), group, TOPICS) == TOPICS - own


def test_only_its_own_facts_are_written(secured: Secured, user: str) -> None:
    foreign = TOPICS - granted(user, "topic", "Write")
    assert refused_to_write(secured.client(user), foreign) == foreign


def test_no_other_group_is_joined(secured: Secured, user: str) -> None:
    own = {group for group in GROUPS | CURSORS if group.removeprefix("billbus.").startswith(f"{user}.")}
    teams = {name for name in RIGHTS if name not in (*SERVICES, OPERATIONS)} - {user}
    if user == OPERATIONS:
        teams = set()  # who may set a group's offsets may be in it: Kafka knows no right between the two
    foreign = (GROUPS | CURSORS) - own | teams
    topic = min(granted(user, "topic", "Read"))
    assert refused_to_join(secured.client(user), foreign, topic) == foreign


@pytest.mark.parametrize("name", SERVICES)
def test_only_its_own_groups_and_cursors_are_seen_and_no_others_are_moved(
    secured: Secured, name: str
) -> None:
    admin = AdminClient(secured.client(name))
    for lane, topic in LANES.items():
        for group in (group_of(lane), f"{group_of(lane)}.acme"):
            own = lane.startswith(f"{name}.")
            assert is_refused(partial(_look, admin, group)) != own
            if not own:
                place = TopicPartition(topic, 0, 7)
                assert is_refused(partial(commit_offsets, admin, group, [place]))


def _look(admin: AdminClient, group: str) -> None:
    has_members(admin, group)


def test_a_team_reads_in_groups_of_its_own(secured: Secured) -> None:
    team = "general-ledger"
    topic = min(granted(team, "topic", "Read"))
    assert refused_to_join(secured.client(team), [team, f"{team}.again"], topic) == set()


def test_operations_sets_a_teams_group_back_and_none_of_ours(secured: Secured) -> None:
    admin = AdminClient(secured.client(OPERATIONS))
    place = TopicPartition(min(granted("general-ledger", "topic", "Read")), 0, 0)
    assert not is_refused(partial(commit_offsets, admin, "general-ledger.set-back", [place]))
    for group in (group_of("payments.post"), f"{group_of('payments.post')}.acme", "unknown-team"):
        assert is_refused(partial(commit_offsets, admin, group, [place]))


def test_nobody_looks_after_topics_brokers_or_rights(secured: Secured, user: str) -> None:
    admin = AdminClient(secured.client(user))
    acts = _administration(admin, secured.client(user), min(granted(user, "topic", "Read")), user)
    assert {name for name, act in acts.items() if not is_refused(act)} == set()


def _administration(
    admin: AdminClient, client: dict[str, Any], topic: str, user: str
) -> dict[str, Callable[[], Any]]:
    entry = ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)
    setting = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=[entry])
    kept = ConfigEntry("log.retention.ms", "604800000", incremental_operation=AlterConfigOpType.SET)
    broker = ConfigResource(ConfigResource.Type.BROKER, "1", incremental_configs=[kept])
    everything = AclBinding(
        ResourceType.TOPIC,
        "billing.",
        ResourcePatternType.PREFIXED,
        f"User:{user}",
        "*",
        AclOperation.ALL,
        AclPermissionType.ALLOW,
    )
    return {
        "create a topic": lambda: admin.create_topics([NewTopic("billing.mine.v1", 1, 1)]),
        "create one that begins as its own": lambda: admin.create_topics([NewTopic(f"{topic}.mine", 1, 1)]),
        "delete a topic": lambda: admin.delete_topics([topic]),
        "alter a topic": lambda: admin.incremental_alter_configs([setting]),
        "alter the broker": lambda: admin.incremental_alter_configs([broker]),
        "give itself rights": lambda: admin.create_acls([everything]),
        "delete another's group": lambda: admin.delete_consumer_groups(["somebody"]),
        "write in a transaction": lambda: _transaction({**client, "transactional.id": user}),
    }


def _transaction(client: dict[str, Any]) -> None:
    Producer(client).init_transactions(20)


@pytest.mark.parametrize("wrong", ["password", "user", "protocol"])
def test_who_does_not_prove_itself_gets_nothing(secured: Secured, wrong: str) -> None:
    client = {
        "password": secured.client("payments", password="guessed"),
        "user": secured.client("mallory"),
        "protocol": {"bootstrap.servers": secured.bootstrap, "log_level": 0},
    }[wrong]
    consumer = Consumer({**client, "group.id": "x"})
    try:
        with pytest.raises(KafkaException):
            consumer.list_topics(timeout=2)
    finally:
        consumer.close()


def test_every_right_of_a_service_is_there_and_a_lost_one_is_named(secured: Secured) -> None:
    for name in SERVICES:
        assert missing_rights(AdminClient(secured.client(name)), RIGHTS[name]) == []
    lost = {
        Right("topic", "billing.payment.outcome.v1", "Read"),
        Right("topic", "billing.setting.changed.v1", "Write"),
        Right("group", "billbus.settings.apply", "Read"),
    }
    assert set(missing_rights(AdminClient(secured.client("bills")), lost)) == lost


def test_granting_again_changes_nothing_and_what_is_too_much_is_named_and_taken(secured: Secured) -> None:
    with Place(secured.kafka(), secured.registry) as place:
        assert make_access(place, RIGHTS, act=True, revoke=False) == []
        lesser = RIGHTS | {"internal-audit": RIGHTS["internal-audit"][1:]}
        (extra,) = make_access(place, lesser, act=True, revoke=False)
        assert (extra.user, extra.action) == ("internal-audit", "revoke")
        assert make_access(place, lesser, act=True, revoke=True) == [extra]
        assert make_access(place, RIGHTS, act=True, revoke=False) == [
            AccessChange("internal-audit", "grant", str(RIGHTS["internal-audit"][0]))
        ]
