"""Clients that are not ours read our topics: exact values, from a day on, going on where they ended."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from deploy.local import Stack
from services.bus.groups import committed_offsets, edge_offsets
from services.events import Event
from tests.contract.examples import Example, examples
from tests.integration.readers.example_events import CATALOG, event_of
from tests.integration.readers.program import CONSUMERS, GUIDE, Line, Program, build
from tests.on_the_bus import encode

PAYMENTS = "billing.payment.received.v1"
AN_HOUR = timedelta(hours=1)
AMOUNTS = ["0.00", "-0.01", "-1.28", "1.27", "1.28", "9999999999.99", "-9999999999.99"]
ELSEWHERE = ("Python", "Go", "Java", "TypeScript")
"""Left out of `make test`: they need Go, a JDK with Maven, or Node, and packages of their own lock files."""
LANGUAGES = ["here", *(pytest.param(each, marks=pytest.mark.extra) for each in ELSEWHERE)]


@pytest.fixture(scope="module", params=LANGUAGES)
def language(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture(scope="module")
def program(language: str, tmp_path_factory: pytest.TempPathFactory) -> Program:
    return build(language, tmp_path_factory.mktemp(language))


@pytest.fixture(scope="module")
def payment(own: Stack) -> bytes:
    """The value of a payment's record."""
    return encode(own, paid())[0]


def paid(**fields: str) -> Event:
    """A payment of the examples, with other fields."""
    example = next(each for each in examples("valid") if each.topic == PAYMENTS)
    return event_of(replace(example, value=example.value | fields))


def test_every_topic_is_read_to_the_exact_value_and_committed(
    program: Program, language: str, own: Stack, published: list[Example]
) -> None:
    group, yesterday = f"{language}-all", str((datetime.now(UTC) - timedelta(days=1)).date())
    with program.reading(own, group, yesterday, *CATALOG) as reading:
        lines = reading.wait_for(len(published))

    read = {(line["topic"], line["key"], line["id"]): line["value"] for line in lines}
    assert len(lines) == len(published)
    assert all(abs(datetime.now(UTC) - datetime.fromisoformat(line["time"])) < AN_HOUR for line in lines)
    for example in published:
        assert read[example.topic, example.key, example.ce_id] == example.value
    assert committed(own, group) == ends(own)


def test_money_of_every_size_and_names_of_every_script_are_exact(
    program: Program, language: str, own: Stack
) -> None:
    topic, name = f"exact-{language}", 'Zoë "Ω" Müller <東京>'
    for value in encode(own, *(paid(amount=amount, payer_name=name) for amount in AMOUNTS)):
        write(own, topic, value, {0: ["2026-11-20T00:00:00Z"]})
    with program.reading(own, f"{language}-exact", "2026-11-20", topic) as reading:
        lines = reading.wait_for(len(AMOUNTS))
    assert [line["value"]["amount"] for line in lines] == AMOUNTS
    assert {line["value"]["payer_name"] for line in lines} == {name}


def test_a_group_goes_on_where_it_ended(program: Program, language: str, own: Stack, payment: bytes) -> None:
    group, topic = f"{language}-again", f"again-{language}"
    write(own, topic, payment, {0: ["2026-11-20T00:00:00Z"], 1: ["2026-11-20T00:00:01Z"]})
    with program.reading(own, group, "2026-11-20", topic) as reading:
        assert places(reading.wait_for(2)) == [(0, 0), (1, 0)]
    write(own, topic, payment, {1: ["2026-11-20T00:00:02Z"]})
    with program.reading(own, group, "2026-11-20", topic) as reading:
        (line,) = reading.wait_for(1)
    assert places([line]) == [(1, 1)]


def test_a_new_group_starts_with_a_day(program: Program, language: str, own: Stack, payment: bytes) -> None:
    topic, before, day = f"days-{language}", "2026-11-19T23:59:59.999Z", "2026-11-20T00:00:00Z"
    later, iowas_midnight = "2026-11-20T05:59:59.999Z", "2026-11-20T06:00:00Z"
    write(own, topic, payment, {0: [before], 1: [before, day, later, iowas_midnight]})
    with program.reading(own, f"{language}-utc", "2026-11-20", topic) as reading:
        assert places(reading.wait_for(3)) == [(1, 1), (1, 2), (1, 3)]
        write(own, topic, payment, {0: ["2026-11-20T07:00:00Z"]})
        assert places(reading.wait_for(4)) == [(0, 1), (1, 1), (1, 2), (1, 3)]
    with program.reading(own, f"{language}-iowa", "2026-11-20T00:00:00-06:00", topic) as reading:
        assert places(reading.wait_for(2)) == [(0, 1), (1, 3)]


def test_a_key_that_is_gone_has_the_value_null(program: Program, language: str, own: Stack) -> None:
    topic = f"gone-{language}"
    write(own, topic, None, {0: ["2026-11-20T00:00:00Z"]})
    with program.reading(own, f"{language}-gone", "2026-11-20", topic) as reading:
        (line,) = reading.wait_for(1)
    assert [line[name] for name in ("key", "value", "id", "time")] == ["acme/1", None, None, None]


def test_what_cannot_be_read_stops_it_and_stays_uncommitted(
    program: Program, language: str, own: Stack
) -> None:
    topic, group = f"foreign-{language}", f"{language}-foreign"
    write(own, topic, b"no Avro", {0: ["2026-11-20T00:00:00Z"]})
    said = program.refusal(own, group, "2026-11-20", topic)
    assert f"{topic}, partition 0, offset 0 cannot be read" in said
    client = {"bootstrap.servers": own.bootstrap}
    assert committed_offsets(client, group, [TopicPartition(topic, 0)])[0].offset <= 0


def write(own: Stack, topic: str, value: bytes | None, instants: dict[int, list[str]]) -> None:
    """Records of two partitions at the instants said; the broker's clock has no say on such a topic."""
    client = {"bootstrap.servers": own.bootstrap}
    admin = AdminClient(client)
    if topic not in admin.list_topics(timeout=10).topics:
        new = NewTopic(topic, 2, 1, config={"message.timestamp.type": "CreateTime"})
        admin.create_topics([new])[topic].result(10)
    producer = Producer(client)
    for partition, each in instants.items():
        for instant in each:
            at_ms = round(datetime.fromisoformat(instant).timestamp() * 1000)
            producer.produce(topic, value, "acme/1", partition=partition, timestamp=at_ms)
    assert producer.flush(10) == 0


def test_the_lock_file_names_the_versions_that_are_tested_here() -> None:
    lock = (CONSUMERS / "python" / "requirements.lock").read_text()
    for package in ("confluent-kafka", "fastavro"):
        assert f"\n{package}=={version(package)} " in lock


@pytest.mark.parametrize("lock", ["python/requirements.lock", "go/go.sum", "typescript/package-lock.json"])
def test_a_lock_file_has_checksums_and_no_address(lock: str) -> None:
    text = (CONSUMERS / lock).read_text()
    assert re.search(r"sha256:|h1:|sha512-", text)
    assert "://" not in re.sub(r'"url": "[^"]*"', "", text)  # where a package's authors take gifts


def test_the_guide_shows_a_record_of_the_examples() -> None:
    shown = json.loads(GUIDE.read_text().split("```json\n")[1].split("```")[0])
    assert shown["value"] in [each.value for each in examples("valid") if each.topic == shown["topic"]]


def places(lines: list[Line]) -> list[tuple[int, int]]:
    """Partition and offset of each line; partitions come in any order."""
    return sorted((line["partition"], line["offset"]) for line in lines)


def committed(own: Stack, group: str) -> dict[tuple[str, int], int]:
    """What the group has committed where there are records."""
    found = committed_offsets({"bootstrap.servers": own.bootstrap}, group, partitions())
    return {(p.topic, p.partition): p.offset for p in found if p.offset > 0}


def ends(own: Stack) -> dict[tuple[str, int], int]:
    admin = AdminClient({"bootstrap.servers": own.bootstrap})
    found = edge_offsets(admin, partitions(), OffsetSpec.latest())
    return {(p.topic, p.partition): end for p, end in found.items() if end}


def partitions() -> list[TopicPartition]:
    return [TopicPartition(topic, number) for topic in CATALOG for number in range(12)]
