"""The topics and users for Strimzi fit its own resource definitions, and say what the catalog says."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.bus.catalog import load_catalog
from services.bus.rights import Right, rights_of
from services.bus.settings import ROOT
from services.bus.topics import wanted_topics
from tests.contract.definitions import rules
from tools.generate_strimzi import TOPICS, USERS

CATALOG = load_catalog(ROOT / "schemas")
Manifest = dict[str, Any]


def manifests(path: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


ALL = [*manifests(TOPICS), *manifests(USERS)]


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
