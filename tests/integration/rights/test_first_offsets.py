"""The user of the Job `topics-apply`, with the rights of its manifest, can do what the Job is for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.local.processes import ROOT
from services.bus import topics
from services.bus.catalog import load_catalog
from services.bus.place import Place
from services.bus.rights import Right
from services.bus.topics import group_of
from services.operations.access import make_access
from tests.contract.test_strimzi import rights
from tests.integration.rights.secured import Secured

USER = "topics-apply"
LANE = "settings.apply"
FILE = ROOT / "deploy" / "k8s" / "components" / "kafka-strimzi" / "topics-apply-user.yaml"
CATALOG = load_catalog(ROOT / "schemas")
LIMIT_S = 30.0


@pytest.fixture(scope="module")
def user(secured: Secured) -> Iterator[Secured]:
    stated: list[Right] = sorted(rights(yaml.safe_load(FILE.read_text(encoding="utf-8"))))
    secured.add_users([USER])
    with Place(secured.kafka(), secured.registry) as place:
        make_access(place, {USER: stated}, act=True, revoke=False)
    yield secured
    with Place(secured.kafka(), secured.registry) as place:
        make_access(place, {USER: []}, act=True, revoke=True)


def test_it_sees_that_all_is_as_the_catalog_says(user: Secured) -> None:
    assert topics.plan(user.kafka(USER), user.registry, CATALOG) == []


def test_it_sets_the_first_offsets_of_a_lane_that_has_none(user: Secured) -> None:
    admin = AdminClient(user.client())
    for gone in admin.delete_consumer_groups([group_of(LANE)]).values():
        gone.result(LIMIT_S)
    done = topics.apply(user.kafka(USER), user.registry, CATALOG, begin=[LANE])
    assert {(change.kind, change.name, change.possible) for change in done} == {
        ("first offset", group_of(LANE), True)
    }
    assert topics.plan(user.kafka(USER), user.registry, CATALOG) == []


def test_it_makes_no_topic(user: Secured) -> None:
    admin = AdminClient(user.client(USER))
    [made] = admin.create_topics([NewTopic("billing.not.ours.v1", 1, 1)]).values()
    with pytest.raises(KafkaException) as refused:
        made.result(LIMIT_S)
    assert refused.value.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
