"""Who may do what on the broker: derived from the catalog, the lanes and the tables, and nothing beyond.

Reading or writing includes describing, as Kafka has it; an idempotent producer needs no right of its own
since Kafka 2.8, and nobody here has a transactional id.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from services.bus.catalog import DLQ, REPLAY, Topic
from services.bus.settings import PORTS
from services.bus.topics import LANES, TABLES, group_of

OPERATIONS = "operations"
"""Who looks after the bus: reads every topic, dead letters too, writes what is audited, and replays."""
READER_GROUP = "billbus.reader"
"""The group of who reads without one, since the client wants a name; none is ever joined."""
REPLAY_GROUPS = "billbus.operations.replay."
"""Begin of the groups, one a topic, in which a replay shows that it is alone."""
SERVICES = tuple(name for name in PORTS if name != "sandbox")

Operation = Literal["Read", "Write", "Describe", "DescribeConfigs"]
Resource = Literal["topic", "group", "cluster"]
CLUSTER = "kafka-cluster"


@dataclass(frozen=True, order=True)
class Right:
    """What a user may do with one topic, group or the cluster; `prefixed`: with all whose names begin so."""

    resource: Resource
    name: str
    operation: Operation
    prefixed: bool = False

    def __str__(self) -> str:
        every = "every " if self.prefixed else ""
        return f"{self.operation} on {every}{self.resource} {self.name}{'*' if self.prefixed else ''}"


def rights_of(catalog: Mapping[str, Topic]) -> dict[str, list[Right]]:
    """The rights of each service, of `operations` and of each consuming team, by user, in one order."""
    found = {name: sorted(set(_of_service(catalog, name))) for name in SERVICES}
    found[OPERATIONS] = sorted(set(_of_operations(catalog)))
    return found | {team: sorted(set(_of_team(catalog, team))) for team in _teams(catalog)}


def _of_service(catalog: Mapping[str, Topic], service: str) -> Iterator[Right]:
    yield from _declared(catalog, service)
    for reader, name in _readers(service).items():
        yield Right("group", group_of(reader), "Read")
        if catalog[name].dlq:
            yield Right("topic", name + DLQ, "Write")
        if reader in LANES:
            yield Right("group", f"{group_of(reader)}.", "Read", prefixed=True)  # of its cursors
            if catalog[name].replay:
                yield Right("topic", name + REPLAY, "Read")


def _readers(service: str) -> dict[str, str]:
    """The lanes and tables of a service, and the topic that each reads."""
    return {name: topic for name, topic in (LANES | TABLES).items() if name.partition(".")[0] == service}


def _of_operations(catalog: Mapping[str, Topic]) -> Iterator[Right]:
    yield from _declared(catalog, OPERATIONS)
    for topic in catalog.values():
        for name in (topic.name, *_beside(topic)):
            yield Right("topic", name, "Read")
            yield Right("topic", name, "DescribeConfigs")
        if topic.replay:
            yield Right("topic", topic.name + REPLAY, "Write")
    for reader in LANES | TABLES:
        yield Right("group", group_of(reader), "Describe")
        if reader in LANES:
            yield Right("group", f"{group_of(reader)}.", "Describe", prefixed=True)  # of its cursors
    for team in _teams(catalog):
        yield from _groups_of(team)  # Kafka lets nobody set a group's offsets who may not read in it
    yield Right("group", REPLAY_GROUPS, "Read", prefixed=True)
    yield Right("group", READER_GROUP, "Describe")
    yield Right("cluster", CLUSTER, "DescribeConfigs")


def _of_team(catalog: Mapping[str, Topic], team: str) -> Iterator[Right]:
    yield from _declared(catalog, team)
    yield from _groups_of(team)


def _groups_of(team: str) -> Iterator[Right]:
    yield Right("group", team, "Read")
    yield Right("group", f"{team}.", "Read", prefixed=True)  # another group reads a day again


def _teams(catalog: Mapping[str, Topic]) -> list[str]:
    named = {each.name for topic in catalog.values() for each in topic.consumers}
    return sorted(named - {*SERVICES, OPERATIONS})


def _declared(catalog: Mapping[str, Topic], user: str) -> Iterator[Right]:
    for topic in catalog.values():
        if user in topic.producers:
            yield Right("topic", topic.name, "Write")
        if user in {consumer.name for consumer in topic.consumers}:
            yield Right("topic", topic.name, "Read")


def _beside(topic: Topic) -> list[str]:
    return [topic.name + suffix for suffix, there in ((REPLAY, topic.replay), (DLQ, topic.dlq)) if there]
