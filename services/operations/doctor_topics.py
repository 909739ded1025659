"""Checks of topics, subjects and the lanes' places: whether they are as the catalog says."""

from collections.abc import Callable, Iterator, Mapping

from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import OffsetSpec
from confluent_kafka.schema_registry.error import SchemaRegistryError

from services.bus import topics
from services.bus.catalog import REPLAY, Topic
from services.bus.connection import kafka_of
from services.bus.groups import NO_OFFSET, committed_offsets, edge_offsets
from services.bus.place import Place
from services.bus.settings import Settings
from services.operations.doctor_brokers import not_answered
from services.operations.doctor_finding import APPLY, Finding

EVOLVE = "docs/evolve.md says how a new version of a topic takes the old one's place."
HALTED = "docs/runbook/lost-offsets.md says how its place is set again."
WHY = {
    "cleanup.policy": "with another one facts are forgotten, or views never shrink",
    "retention.ms": "what is removed sooner cannot be replayed, reconciled or delivered",
    "message.timestamp.type": "business days are found by the broker's own stamps",
    "min.insync.replicas": "with less, an acknowledged event is lost with one disk; with more, none is taken",
    "unclean.leader.election.enable": "with it, acknowledged events can be lost",
}
"""What a setting is for, where its name does not say so."""
READ_ONLY = ("READONLY", "READONLY_OVERRIDE")


def check_topics(settings: Settings, catalog: Mapping[str, Topic]) -> list[Finding]:
    """Whether topics, subjects and first offsets are as the catalog says."""
    try:
        changes = topics.plan(
            kafka_of(settings), settings.registry, catalog, replication=settings.replication
        )
    except topics.Unreachable as error:
        advice = "Start it (`make up` on a laptop), or set BILLBUS_REGISTRY to where it is."
        return [Finding("registry", "unreachable", str(error), advice)]
    except SchemaRegistryError as error:
        advice = "Check that BILLBUS_REGISTRY is the registry's Confluent-compatible address; read its log."
        return [Finding("registry", "wrong", f"it said no: {error}", advice)]
    except KafkaException as error:
        return [not_answered("topics", settings, error)]
    if changes:
        return [_difference(change) for change in changes]
    what = f"{len(topics.wanted_topics(catalog, settings.replication))} topics, {len(catalog)} subjects "
    return [Finding("topics", "fine", f"{what}and the lanes' offsets are as the catalog says")]


def _difference(change: topics.Change) -> Finding:
    what = f"{change.name}: {change.detail}"
    if change.kind == "setting":
        why = WHY.get(change.detail.partition(":")[0])
        return Finding("setting", "wrong", what, f"{APPLY} ({why})" if why else APPLY)
    if change.possible:
        return Finding(change.kind, "wrong", what, APPLY)
    return Finding(change.kind, "wrong", what, HALTED if change.kind == "first offset" else EVOLVE)


def check_registry(settings: Settings) -> list[Finding]:
    """Whether the registry takes schemas; one that does not answer is told with the topics."""
    with Place(kafka_of(settings), settings.registry) as place:
        try:
            mode = place.ask_registry(place.registry.get_global_mode)
        except (topics.Unreachable, SchemaRegistryError):
            return []
    if mode in READ_ONLY:
        advice = "Set its mode to READWRITE, or set BILLBUS_REGISTRY to the one that is written to."
        return [Finding("registry", "wrong", "it is read-only: no new schema can be registered", advice)]
    return [Finding("registry", "fine", f"answers at {settings.registry}")]


def check_places(settings: Settings, catalog: Mapping[str, Topic]) -> list[Finding]:
    """Whether each lane's committed offsets are still on the log."""
    try:
        with Place(kafka_of(settings), settings.registry) as place:
            there = place.topics()
            read = {lane: list(_partitions(catalog[name], there)) for lane, name in topics.LANES.items()}
            every = list({(p.topic, p.partition): p for each in read.values() for p in each}.values())
            first = _edges(place, every, OffsetSpec.earliest)
            last = _edges(place, every, OffsetSpec.latest)
            found = [
                finding
                for lane, partitions in read.items()
                for finding in _off_the_log(place, topics.group_of(lane), partitions, first, last)
            ]
            return found or [Finding("place", "fine", f"{len(read)} lanes stand on their topics' logs")]
    except topics.Unreachable as error:
        return [Finding("place", "unreachable", str(error), "Run doctor again when Kafka is up.")]
    except KafkaException as error:
        return [not_answered("place", settings, error)]


def _partitions(topic: Topic, there: Mapping[str, int]) -> Iterator[TopicPartition]:
    for name in (topic.name, topic.name + REPLAY):
        for number in range(there.get(name, 0)):
            yield TopicPartition(name, number)


def _edges(
    place: Place, partitions: list[TopicPartition], spec: Callable[[], OffsetSpec]
) -> dict[tuple[str, int], int]:
    found = edge_offsets(place.admin, partitions, spec()) if partitions else {}
    return {(p.topic, p.partition): offset for p, offset in found.items()}


def _off_the_log(
    place: Place,
    group: str,
    partitions: list[TopicPartition],
    first: Mapping[tuple[str, int], int],
    last: Mapping[tuple[str, int], int],
) -> Iterator[Finding]:
    for p in committed_offsets(place.client, group, partitions) if partitions else []:
        where, at = (p.topic, p.partition), p.offset
        if at == NO_OFFSET or first[where] <= at <= last[where]:
            continue
        told = f"{group} stands at {at} of {p.topic} partition {p.partition}"
        if at > last[where]:
            what = f"{told}, which ends at {last[where]}: the topic was truncated or made anew"
            advice = f"Ask the partners again for what was not delivered: their retry is safe. {HALTED}"
        else:
            what = f"{told}, which begins at {first[where]}: {first[where] - at} were removed undelivered"
            advice = f"Ask the partners for the removed ones (`billbus reconcile` names them). {HALTED}"
        yield Finding("place", "wrong", what, advice)
