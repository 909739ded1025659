"""Writes the topics and users that Strimzi makes, for deploy/k8s: run by `make generate`."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from services.bus.catalog import load_catalog
from services.bus.rights import Right, rights_of
from services.bus.settings import ROOT
from services.bus.topics import wanted_topics

FOLDER = ROOT / "deploy" / "k8s" / "components" / "kafka-strimzi"
TOPICS, USERS = FOLDER / "topics.yaml", FOLDER / "users.yaml"
API, CLUSTER = "kafka.strimzi.io/v1", "billbus"
COPIES = 3
HEAD = "# Made by `make generate` from schemas/ and services/bus/; change those, not this.\n"


def render_topics() -> str:
    """A KafkaTopic for each topic of the catalog, its `.replay` and its `.dlq`."""
    return _document(
        _resource(
            "KafkaTopic",
            topic.name,
            {"partitions": topic.partitions, "replicas": COPIES, "config": topic.settings},
        )
        for topic in wanted_topics(load_catalog(ROOT / "schemas"), COPIES).values()
    )


def render_users() -> str:
    """A KafkaUser for each service, for `operations` and for each consuming team, with its rights."""
    return _document(
        _resource(
            "KafkaUser",
            user,
            {
                "authentication": {"type": "scram-sha-512"},
                "authorization": {"type": "simple", "acls": list(_acls(rights))},
            },
        )
        for user, rights in rights_of(load_catalog(ROOT / "schemas")).items()
    )


def _acls(rights: Iterable[Right]) -> Iterator[dict[str, Any]]:
    operations = defaultdict(list)
    for right in rights:
        operations[right.resource, right.name, right.prefixed].append(right.operation)
    for (resource, name, prefixed), allowed in operations.items():
        named = {"name": name, "patternType": "prefix" if prefixed else "literal"}
        what = {"type": resource} if resource == "cluster" else {"type": resource, **named}
        yield {"resource": what, "operations": [str(each) for each in allowed]}


def _resource(kind: str, name: str, spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name, "labels": {"strimzi.io/cluster": CLUSTER}}
    return {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec}


def _document(resources: Iterable[dict[str, Any]]) -> str:
    return HEAD + yaml.safe_dump_all(resources, sort_keys=False, explicit_start=True)
