"""The stack as tests and the demo use it: several beside each other, and each survives a crash."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from deploy.local import LocalError, Stack
from tests.stacks import Addresses

TOPIC = "local.kept"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("own")) as stack:
        yield stack


def written(stack: Stack) -> list[bytes]:
    consumer = Consumer(
        {"bootstrap.servers": stack.bootstrap, "group.id": "local", "auto.offset.reset": "earliest"}
    )
    try:
        consumer.subscribe([TOPIC])
        return [record.value() or b"" for record in consumer.consume(1, timeout=20)]
    finally:
        consumer.close()


def subject(stack: Stack, body: bytes | None = None) -> dict[str, int]:
    address = f"{stack.registry}/subjects/{TOPIC}-value/versions"
    request = urllib.request.Request(
        address if body else f"{address}/latest",
        body,
        {"Content-Type": "application/vnd.schemaregistry.v1+json"},
    )
    with urllib.request.urlopen(request, timeout=10) as reply:
        return dict(json.load(reply))


def test_what_was_acknowledged_survives_kill_9_of_broker_and_registry(own: Stack) -> None:
    admin = AdminClient({"bootstrap.servers": own.bootstrap, "log_level": 0})
    admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(10)
    producer = Producer({"bootstrap.servers": own.bootstrap, "acks": "all", "log_level": 0})
    producer.produce(TOPIC, b"premium")
    assert producer.flush(10) == 0
    number = subject(own, json.dumps({"schema": '"string"'}).encode())["id"]
    own.kill_broker()
    own.kill_registry()
    own.start_broker()
    own.start_registry()
    assert written(own) == [b"premium"]
    assert subject(own)["id"] == number


def test_the_broker_keeps_groups_as_long_as_the_facts_and_lets_sessions_be_short(own: Stack) -> None:
    broker = ConfigResource(ResourceType.BROKER, "1")
    admin = AdminClient({"bootstrap.servers": own.bootstrap, "log_level": 0})
    settings = admin.describe_configs([broker])[broker].result(10)
    assert int(settings["offsets.retention.minutes"].value) >= 400 * 24 * 60
    assert int(settings["group.min.session.timeout.ms"].value) <= 3000
    assert settings["auto.create.topics.enable"].value == "false"


def test_stacks_run_beside_each_other(own: Stack, stack: Addresses) -> None:
    assert own.bootstrap != stack.bootstrap
    theirs = AdminClient({"bootstrap.servers": stack.bootstrap, "log_level": 0})
    assert TOPIC not in theirs.list_topics(timeout=10).topics


def test_a_data_folder_in_use_is_told(own: Stack) -> None:
    with pytest.raises(LocalError, match="already run; run `make down` first"):
        Stack(own.data).start()
