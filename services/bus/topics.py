"""Makes broker and registry agree with the catalog: topics, their settings, subjects, first offsets.

Safe to run again, and from two places at once: whatever another one did meanwhile counts as done.
"""

import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
)
from confluent_kafka.schema_registry import Schema
from confluent_kafka.schema_registry.error import SchemaRegistryError

from services.bus.catalog import DAY_MS, DLQ, REPLAY, REPLAY_DAYS, Topic
from services.bus.connection import Brokers
from services.bus.groups import commit_offsets, edge_offsets, has_members, without_offset
from services.bus.place import Place, Unreachable
from services.bus.progress import fresh_metadata

__all__ = ["LANES", "TABLES", "Change", "Place", "Unreachable", "apply", "group_of", "plan", "wanted_topics"]

LANES = {
    "payments.post": "billing.payment.received.v1",
    "invoices.upload": "billing.invoice.issued.v1",
    "settings.apply": "billing.setting.changed.v1",
    "balances.refresh": "billing.payment.outcome.v1",
    "bills.check": "billing.invoice.issued.v1",
}
"""The lanes and the topic that each reads, with its `.replay` where there is one."""
TABLES = {
    "invoices.tables": "billing.invoice.issued.v1",
    "balances.tables": "billing.balance.changed.v1",
    "settings.tables": "billing.setting.outcome.v1",
}
"""The groups in which services keep tables, and the topic that each folds."""

COMPATIBILITY = "FULL_TRANSITIVE"
DLQ_DAYS = 90
RECORD_BYTES, ORIGIN_BYTES = 1_048_588, 65_536
"""The broker's own limit of a record, and what a copy of the largest one may have more in its headers."""
DEADLINE_S = 30.0


@dataclass(frozen=True)
class Change:
    """One difference between the catalog and what is there. What is not `possible` waits for a person."""

    kind: Literal["topic", "partitions", "setting", "compatibility", "subject", "first offset", "schema"]
    name: str
    detail: str
    possible: bool = True


@dataclass(frozen=True)
class Wanted:
    """A topic as it should be on the broker."""

    name: str
    partitions: int
    settings: dict[str, str]


Step = tuple[list[Change], Callable[[], None]]


def group_of(lane: str) -> str:
    """The consumer group of a lane, or of a service's tables."""
    return f"billbus.{lane}"


def wanted_topics(catalog: Mapping[str, Topic], replication: int) -> dict[str, Wanted]:
    """Every topic with its `.replay` and `.dlq`, by name."""
    wanted = {}
    for topic in catalog.values():
        kept = {"": topic.retention_days}
        if topic.replay:
            kept[REPLAY] = REPLAY_DAYS
        if topic.dlq:
            kept[DLQ] = DLQ_DAYS
        for suffix, days in kept.items():
            compacted = topic.cleanup == "compact" and not suffix
            settings = {**_common(replication), **(_compacted() if compacted else _kept(days))}
            if suffix:
                settings["max.message.bytes"] = str(RECORD_BYTES + ORIGIN_BYTES)
            wanted[topic.name + suffix] = Wanted(topic.name + suffix, topic.partitions, settings)
    return wanted


def _common(replication: int) -> dict[str, str]:
    return {
        "message.timestamp.type": "LogAppendTime",
        "min.insync.replicas": str(2 if replication > 2 else 1),
        "unclean.leader.election.enable": "false",
    }


def _kept(days: int) -> dict[str, str]:
    # small segments let a short retention end near its day
    segment = DAY_MS if days <= DLQ_DAYS else 7 * DAY_MS
    return {
        "cleanup.policy": "delete",
        "retention.ms": str(days * DAY_MS if days > 0 else -1),
        "segment.ms": str(segment),
    }


def _compacted() -> dict[str, str]:
    return {
        "cleanup.policy": "compact",
        "retention.ms": "-1",
        "segment.bytes": str(64 * 1024 * 1024),
        "segment.ms": str(DAY_MS),
        "min.cleanable.dirty.ratio": "0.2",
        # a view that reads while the cleaner works still sees every key in order
        "min.compaction.lag.ms": str(60_000),
        "max.compaction.lag.ms": str(7 * DAY_MS),
        # a reader that was away for days still sees that a key was removed
        "delete.retention.ms": str(7 * DAY_MS),
    }


def apply(
    bootstrap: Brokers,
    registry: str,
    catalog: Mapping[str, Topic],
    *,
    replication: int = 1,
    begin: Collection[str] = (),
) -> list[Change]:
    """Makes it so, and says what was changed; what is not possible is listed and left alone.

    `begin` names lanes that may begin a topic that already has records: only for a lane that never ran,
    since everything in the topic then counts as never attempted.

    Raises Unreachable, or KafkaException and SchemaRegistryError for what they refuse.
    """
    place = Place(bootstrap, registry)
    with place.registry:
        return _run(place, catalog, replication, begin, act=True)


def plan(
    bootstrap: Brokers,
    registry: str,
    catalog: Mapping[str, Topic],
    *,
    replication: int = 1,
    begin: Collection[str] = (),
) -> list[Change]:
    """What `apply` would do; changes nothing."""
    place = Place(bootstrap, registry)
    with place.registry:
        return _run(place, catalog, replication, begin, act=False)


def _run(
    place: Place, catalog: Mapping[str, Topic], replication: int, begin: Collection[str], *, act: bool
) -> list[Change]:
    wanted = wanted_topics(catalog, replication)
    stages: list[Callable[[], Iterator[Step]]] = [
        lambda: _create(place, wanted, replication),
        lambda: _alter(place, wanted),
        lambda: _register(place, catalog),
        lambda: _first_offsets(place, catalog, begin),
    ]
    changes: list[Change] = []
    for stage in stages:
        for found, make in stage():
            changes += found
            if act and any(change.possible for change in found):
                make()
    return changes


def _create(place: Place, wanted: Mapping[str, Wanted], replication: int) -> Iterator[Step]:
    there = place.topics()
    missing = [topic for name, topic in wanted.items() if name not in there]

    def create() -> None:
        new = [NewTopic(t.name, t.partitions, replication, config=t.settings) for t in missing]
        futures = place.admin.create_topics(new, operation_timeout=DEADLINE_S, request_timeout=DEADLINE_S)
        for future in futures.values():
            _settle(future, KafkaError.TOPIC_ALREADY_EXISTS)
        _await_topics(place, {topic.name for topic in missing})

    if missing:
        yield [Change("topic", t.name, f"create with {t.partitions} partitions") for t in missing], create
    for name, topic in wanted.items():
        if name in there and there[name] != topic.partitions:
            detail = (
                f"has {there[name]} partitions instead of {topic.partitions}; keys would move, so nobody "
                "changes that on a live topic: make a new version of the topic"
            )
            yield [Change("partitions", name, detail, possible=False)], _nothing


def _alter(place: Place, wanted: Mapping[str, Wanted]) -> Iterator[Step]:
    there = place.topics()
    for name, found in place.settings([name for name in wanted if name in there]).items():
        differing = {k: v for k, v in wanted[name].settings.items() if found.get(k) != v}
        if not differing:
            continue
        changes = [Change("setting", name, f"{k}: {found.get(k)} -> {v}") for k, v in differing.items()]

        def alter(name: str = name, differing: Mapping[str, str] = differing) -> None:
            entries = [
                ConfigEntry(k, v, incremental_operation=AlterConfigOpType.SET) for k, v in differing.items()
            ]
            resource = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=entries)
            for future in place.admin.incremental_alter_configs([resource]).values():
                future.result(DEADLINE_S)

        yield changes, alter


def _register(place: Place, catalog: Mapping[str, Topic]) -> Iterator[Step]:
    client, ask = place.registry, place.ask_registry
    for topic in catalog.values():
        subject = topic.subject

        def restricted(subject: str = subject) -> bool:
            return bool(ask(client.get_compatibility, subject) == COMPATIBILITY)

        if not restricted():
            change = Change("compatibility", subject, f"set to {COMPATIBILITY}")
            restrict = partial(ask, client.set_compatibility, subject, COMPATIBILITY)
            yield [change], partial(_or_another, restrict, restricted)
        # all versions, oldest first: a new registry too refuses what breaks an old one
        for number, version in enumerate(topic.versions, 1):
            schema = Schema(json.dumps(version), "AVRO")

            def registered(subject: str = subject, schema: Schema = schema) -> bool:
                return ask(client.lookup_schema, subject, schema) is not None

            if not registered():
                change = Change("subject", subject, f"register version {number} of the schema")
                register = partial(ask, client.register_schema, subject, schema)
                yield [change], partial(_or_another, register, registered)


def _or_another(act: Callable[[], Any], done: Callable[[], bool]) -> None:
    """Acts, or sees that another one has just done the same, which the registry answers with an error."""
    try:
        act()
    except SchemaRegistryError:
        if not done():
            raise


def _first_offsets(place: Place, catalog: Mapping[str, Topic], begin: Collection[str]) -> Iterator[Step]:
    there = place.topics()
    for lane, name in LANES.items():
        if name not in catalog:
            continue
        topic = catalog[name]
        read = [name, name + REPLAY] if topic.replay else [name]
        partitions = [TopicPartition(t, p) for t in read if t in there for p in range(there[t])]
        for absent in (t for t in read if t not in there):
            yield [Change("first offset", group_of(lane), f"the beginning of {absent}")], _nothing
        yield from _begin_group(place, lane, partitions, begin)


def _begin_group(
    place: Place, lane: str, partitions: list[TopicPartition], begin: Collection[str]
) -> Iterator[Step]:
    group = group_of(lane)
    missing = without_offset(place.client, group, partitions)
    if not missing:
        return
    first = edge_offsets(place.admin, missing, OffsetSpec.earliest())
    last = edge_offsets(place.admin, missing, OffsetSpec.latest())
    # A partition that never held a record is surely new to the group. Elsewhere a missing offset may be a
    # lost one, and beginning again would deliver everything as if it had never been tried.
    fresh = [p for p in missing if last[p] == 0 or lane in begin]
    for topic in sorted({p.topic for p in missing if p not in fresh}):
        detail = (
            f"has no offset on {topic}, which has records: lost, or a lane that never ran. Only for one that "
            f"never ran: billbus topics apply --begin {lane}"
        )
        yield [Change("first offset", group, detail, possible=False)], _nothing
    if not fresh:
        return
    if has_members(place.admin, group):
        detail = "has members, so its offsets cannot be set; stop its service and apply again"
        yield [Change("first offset", group, detail, possible=False)], _nothing
        return
    topics = sorted({p.topic for p in fresh})
    changes = [Change("first offset", group, f"the beginning of {topic}") for topic in topics]
    text = fresh_metadata()
    offsets = [TopicPartition(p.topic, p.partition, first[p], text) for p in fresh]
    yield changes, partial(commit_offsets, place.admin, group, offsets)


def _settle(future: Any, accepted: int) -> None:
    try:
        future.result(DEADLINE_S)
    except KafkaException as error:
        if error.args[0].code() != accepted:
            raise


def _await_topics(place: Place, names: Collection[str]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not set(names) <= set(place.topics()):
        if time.monotonic() > deadline:
            raise Unreachable(f"Kafka took the new topics but does not show them after {DEADLINE_S:g} s")
        time.sleep(0.05)


def _nothing() -> None:
    """For what only a person can change."""
