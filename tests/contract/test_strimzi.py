"""The topics and users for Strimzi fit its own resource definitions, and say what the catalog says."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from services.bus.catalog import load_catalog
from services.bus.rights import Right, rights_of
from services.bus.settings import ROOT
from services.bus.topics import wanted_topics
from tools.generate_strimzi import TOPICS, USERS

CATALOG = load_catalog(ROOT / "schemas")
DEFINITIONS = Path(__file__).with_name("crds")
NAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
Manifest = dict[str, Any]


def manifests(path: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


ALL = [*manifests(TOPICS), *manifests(USERS)]


def rules(manifest: Manifest) -> Draft7Validator:
    """The schema by which an API server judges a manifest; a field that it does not know is refused."""
    kind, version = manifest["kind"], manifest["apiVersion"].rpartition("/")[2]
    definition = yaml.safe_load((DEFINITIONS / f"strimzi-{kind.lower()}.yaml").read_text(encoding="utf-8"))
    [schema] = [
        each["schema"]["openAPIV3Schema"]
        for each in definition["spec"]["versions"]
        if each["name"] == version and each["served"]
    ]
    schema["properties"]["metadata"] = {
        "type": "object",
        "properties": {"name": {"type": "string", "pattern": f"^{NAME}$", "maxLength": 253}},
        "x-kubernetes-preserve-unknown-fields": True,
    }
    return Draft7Validator(closed(schema))


def closed(schema: Any) -> Any:
    """The same schema, refusing unknown fields as a strict API server does."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closer = {name: closed(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closer["additionalProperties"] = False
    return closer


@pytest.mark.parametrize("manifest", ALL, ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_each_fits_its_definition(manifest: Manifest) -> None:
    assert [error.message for error in rules(manifest).iter_errors(manifest)] == []


def test_what_does_not_fit_is_refused() -> None:
    topic, user = manifests(TOPICS)[0], manifests(USERS)[0]
    planted = [deepcopy(topic), deepcopy(topic), deepcopy(topic), deepcopy(user), deepcopy(user)]
    planted[0]["spec"]["partitoins"] = 12
    planted[1]["spec"]["partitions"] = "12"
    planted[2]["metadata"]["name"] = "Billing.Invoice"
    planted[3]["spec"]["authorization"]["acls"][0]["operations"] = ["Delete everything"]
    del planted[4]["spec"]["authorization"]["acls"][0]["resource"]
    assert all(list(rules(each).iter_errors(each)) for each in planted)


def test_every_topic_is_as_topics_apply_makes_it_in_production() -> None:
    found = {
        each["metadata"]["name"]: (each["spec"]["partitions"], each["spec"]["config"])
        for each in manifests(TOPICS)
    }
    assert found == {
        name: (topic.partitions, topic.settings)
        for name, topic in wanted_topics(CATALOG, replication=3).items()
    }
    assert {each["spec"]["replicas"] for each in manifests(TOPICS)} == {3}


def test_every_user_has_its_rights_and_no_other() -> None:
    found = {each["metadata"]["name"]: rights(each) for each in manifests(USERS)}
    assert found == {user: set(all_of) for user, all_of in rights_of(CATALOG).items()}


def rights(user: Manifest) -> set[Right]:
    assert user["spec"]["authorization"]["type"] == "simple"
    return {
        Right(
            acl["resource"]["type"],
            acl["resource"].get("name", "kafka-cluster"),
            operation,
            acl["resource"].get("patternType") == "prefix",
        )
        for acl in user["spec"]["authorization"]["acls"]
        for operation in acl["operations"]
        if acl.get("type", "allow") == "allow"
    }
