"""Topics, subjects and first offsets on a real broker and registry, made once, again, and by two at once."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from deploy.local import Stack
from deploy.local.progress import fetch_with_progress
from services.bus import topics
from services.bus.catalog import DAY_MS, load_catalog
from services.bus.groups import committed_offsets
from services.bus.progress import fresh_metadata
from services.bus.settings import ROOT
from tests.deadline import until

CATALOG = load_catalog(ROOT / "schemas")
PAYMENTS = "billing.payment.received.v1"
SETTINGS = "billing.setting.changed.v1"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A broker and a registry on which nothing was ever done, for this file alone."""
    with Stack(tmp_path_factory.mktemp("topics"), parts=fetch_with_progress()) as stack:
        yield stack


@pytest.fixture(scope="module")
def applied(fresh: Stack) -> list[list[topics.Change]]:
    """What two who apply at the same moment on the new broker say they did."""
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(topics.apply, fresh.bootstrap, fresh.registry, CATALOG) for _ in range(2)]
        return [future.result(120) for future in both]


@pytest.fixture
def client(fresh: Stack) -> dict[str, Any]:
    return {"bootstrap.servers": fresh.bootstrap}


@pytest.fixture
def admin(client: dict[str, Any]) -> AdminClient:
    return AdminClient(client)


@pytest.fixture
def registry(fresh: Stack) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": fresh.registry}) as found:
        yield found


def plan(stack: Stack, **options: Any) -> list[topics.Change]:
    return topics.plan(stack.bootstrap, stack.registry, CATALOG, **options)


def test_two_at_once_leave_nothing_to_do(fresh: Stack, applied: list[list[topics.Change]]) -> None:
    assert any(change.kind == "topic" for changes in applied for change in changes)
    assert all(change.possible for changes in applied for change in changes)
    assert plan(fresh) == []


@pytest.mark.usefixtures("applied")
def test_applying_again_changes_nothing(fresh: Stack) -> None:
    assert topics.apply(fresh.bootstrap, fresh.registry, CATALOG) == []


@pytest.mark.usefixtures("applied")
def test_the_broker_has_every_topic_with_its_settings(fresh: Stack) -> None:
    wanted = topics.wanted_topics(CATALOG, replication=1)
    with topics.Place(fresh.bootstrap, fresh.registry) as place:
        there, stated = place.topics(), place.settings(wanted)
    assert {name: there.get(name) for name in wanted} == dict.fromkeys(wanted, 12)
    for name, settings in stated.items():
        assert {key: settings[key] for key in wanted[name].settings} == wanted[name].settings


@pytest.mark.usefixtures("applied")
def test_a_setting_that_somebody_changed_is_put_right(fresh: Stack, admin: AdminClient) -> None:
    wrong = ConfigEntry("retention.ms", "1000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, PAYMENTS, incremental_configs=[wrong])
    admin.incremental_alter_configs([resource])[resource].result(10)
    until(lambda: plan(fresh), what="the change")

    (change,) = topics.apply(fresh.bootstrap, fresh.registry, CATALOG)

    assert (change.kind, change.name) == ("setting", PAYMENTS)
    assert change.detail == f"retention.ms: 1000 -> {400 * DAY_MS}"
    until(lambda: plan(fresh) == [], what="the repair")


@pytest.mark.usefixtures("applied")
def test_more_partitions_are_asked_for_never_made(fresh: Stack) -> None:
    catalog = {PAYMENTS: replace(CATALOG[PAYMENTS], partitions=24)}
    changes = topics.apply(fresh.bootstrap, fresh.registry, catalog)
    assert {(c.kind, c.possible) for c in changes} == {("partitions", False)}
    with topics.Place(fresh.bootstrap, fresh.registry) as place:
        assert place.topics()[PAYMENTS] == 12


@pytest.mark.usefixtures("applied")
def test_every_subject_refuses_a_breaking_change(registry: SchemaRegistryClient) -> None:
    for topic in CATALOG.values():
        assert registry.get_compatibility(topic.subject) == "FULL_TRANSITIVE"
        found = registry.get_latest_version(topic.subject)
        assert json.loads(found.schema.schema_str) == topic.schema
        fields = [*topic.schema["fields"], {"name": "added", "type": "string", "doc": "No default."}]
        broken = Schema(json.dumps({**topic.schema, "fields": fields}), "AVRO")
        with pytest.raises(SchemaRegistryError) as raised:
            registry.register_schema(topic.subject, broken)
        assert raised.value.http_status_code == 409


@pytest.mark.usefixtures("applied")
def test_a_field_with_a_default_may_be_added(registry: SchemaRegistryClient) -> None:
    for topic in CATALOG.values():
        more = {"name": "added", "type": ["null", "string"], "default": None, "doc": "Later."}
        newer = Schema(json.dumps({**topic.schema, "fields": [*topic.schema["fields"], more]}), "AVRO")
        assert registry.test_compatibility(topic.subject, newer)


@pytest.mark.usefixtures("applied")
@pytest.mark.parametrize("lane", topics.LANES)
def test_a_lane_begins_at_the_beginning_and_knows_that_nothing_was_tried(
    lane: str, client: dict[str, Any]
) -> None:
    name = topics.LANES[lane]
    read = [name, f"{name}.replay"] if CATALOG[name].replay else [name]
    partitions = [TopicPartition(topic, number) for topic in read for number in range(12)]
    found = committed_offsets(client, topics.group_of(lane), partitions)
    assert {(p.offset, p.metadata) for p in found} == {(0, fresh_metadata())}


@pytest.mark.usefixtures("applied")
def test_an_offset_that_was_lost_is_never_made_anew(
    fresh: Stack, client: dict[str, Any], admin: AdminClient
) -> None:
    group = topics.group_of("settings.apply")
    lost = TopicPartition(SETTINGS, 3)
    producer = Producer(client)
    producer.produce(SETTINGS, b"x", partition=3)
    assert producer.flush(10) == 0
    kept = committed_offsets(client, group, [lost])
    admin.delete_consumer_groups([group])[group].result(10)

    changes = topics.apply(fresh.bootstrap, fresh.registry, CATALOG)

    (waiting,) = [change for change in changes if not change.possible]
    assert (waiting.kind, waiting.name) == ("first offset", group)
    assert "--begin settings.apply" in waiting.detail
    # the other partitions never had a record, so their beginning is certain
    assert [p.offset for p in committed_offsets(client, group, [lost])] == [-1001]
    assert [p.offset for p in committed_offsets(client, group, [TopicPartition(SETTINGS, 4)])] == [0]

    topics.apply(fresh.bootstrap, fresh.registry, CATALOG, begin=["settings.apply"])
    assert committed_offsets(client, group, [lost])[0].metadata == kept[0].metadata
    assert plan(fresh) == []


@pytest.mark.usefixtures("applied")
def test_the_offsets_of_a_group_at_work_are_left_alone(
    fresh: Stack, client: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "LANES", {"test.busy": PAYMENTS})
    group = topics.group_of("test.busy")
    consumer = Consumer({**client, "group.id": group, "enable.auto.commit": False})
    consumer.subscribe([PAYMENTS])
    try:
        until(lambda: consumer.poll(0.1) is None and consumer.assignment(), 20, "the membership")
        (change,) = topics.apply(fresh.bootstrap, fresh.registry, CATALOG)
    finally:
        consumer.close()
    assert not change.possible
    assert "has members" in change.detail


@pytest.mark.usefixtures("applied")
def test_a_record_carries_the_brokers_time(client: dict[str, Any]) -> None:
    stamped: list[tuple[int, int]] = []
    producer = Producer(client)
    producer.produce(
        PAYMENTS, b"x", timestamp=1000, on_delivery=lambda _, message: stamped.append(message.timestamp())
    )
    assert producer.flush(10) == 0
    assert stamped[0][0] == 2  # LogAppendTime
    assert stamped[0][1] > 1_700_000_000_000


def test_an_absent_broker_is_said_so(fresh: Stack) -> None:
    with pytest.raises(topics.Unreachable, match=r"Kafka at 127\.0\.0\.1:1 does not answer"):
        topics.plan("127.0.0.1:1", fresh.registry, CATALOG)


@pytest.mark.usefixtures("applied")
def test_an_absent_registry_is_said_so(fresh: Stack) -> None:
    with pytest.raises(topics.Unreachable, match=r"registry at http://127\.0\.0\.1:1 does not answer"):
        topics.plan(fresh.bootstrap, "http://127.0.0.1:1", CATALOG)
