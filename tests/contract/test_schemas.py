"""Rules that every topic and schema keeps, so that other teams can rely on them."""

import json
import re
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from services.bus.catalog import Topic, load_catalog
from services.bus.support import SupportMatrix
from tests.contract.examples import SCHEMAS
from tools.site.fields import COUNTED, ORIGIN

CATALOG = load_catalog(SCHEMAS)
PERSONAL = {"customer_name", "payer_name", "address1", "address2", "city", "phone", "email", "postal_code"}
PERSONAL |= {"account", "account_as_sent", "normalised", "policies", "candidates", "scope", "bill_link"}
SERVICES = {"invoices", "balances", "payments", "settings", "bills", "operations"}
SEED = {row.name for row in SupportMatrix.load(SCHEMAS / "partners" / "support.yaml").rows}


def all_fields(avro: Any) -> list[dict[str, Any]]:
    """The fields of a record and of the records within it."""
    if isinstance(avro, list):
        return [field for kind in avro for field in all_fields(kind)]
    if not isinstance(avro, dict):
        return []
    inner = [field for kind in (avro.get("items"), avro.get("type")) for field in all_fields(kind)]
    own = list(avro.get("fields", []))
    return inner + own + [field for each in own for field in all_fields(each["type"])]


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*/topic.yaml")), ids=lambda p: p.parent.name)
def test_a_topic_yaml_says_all_and_only_what_it_should(path: Any) -> None:
    rules = json.loads((SCHEMAS / "topic.schema.json").read_text())
    problems = Draft202012Validator(rules).iter_errors(yaml.safe_load(path.read_text()))
    assert [problem.message for problem in problems] == []


@pytest.mark.parametrize("topic", CATALOG.values(), ids=lambda t: t.name)
def test_a_topics_name_is_made_by_the_rule(topic: Topic) -> None:
    prefix, noun, word, version = topic.name.split(".")
    assert prefix == "billing"
    assert re.fullmatch(r"v[1-9]\d*", version)
    assert noun.isalpha()
    assert (word == "current") == (topic.cleanup == "compact")
    suffix = "" if version == "v1" else version.upper()
    assert topic.schema["name"] == f"{noun.title()}{word.title()}{suffix}"


@pytest.mark.parametrize("topic", CATALOG.values(), ids=lambda t: t.name)
def test_consumers_are_named_once_and_read_fields_that_exist(topic: Topic) -> None:
    names = [consumer.name for consumer in topic.consumers]
    assert len(names) == len(set(names))
    present = {field["name"] for field in topic.schema["fields"]}
    for consumer in topic.consumers:
        assert (consumer.fields is None) == (consumer.name in SERVICES), consumer.name
        assert set(consumer.fields or ()) <= present, consumer.name


def test_a_consumer_has_one_contact_wherever_it_reads() -> None:
    told = {(consumer.name, consumer.contact) for topic in CATALOG.values() for consumer in topic.consumers}
    assert len(told) == len({name for name, _ in told})
    assert len({name for name, _ in told} - SERVICES) >= 2


def test_a_deprecated_topic_names_a_topic_that_replaces_it() -> None:
    replaced = [topic.deprecated.replaced_by for topic in CATALOG.values() if topic.deprecated]
    assert set(replaced) <= CATALOG.keys()


@pytest.mark.parametrize("topic", CATALOG.values(), ids=lambda t: t.name)
def test_every_field_says_where_it_comes_from(topic: Topic) -> None:
    for field in all_fields(topic.schema):
        found = ORIGIN.search(field["doc"])
        assert found, f"{field['name']}: end the doc with (seed: <row of the support table>) or (ours)"
        origin = found["origin"].removeprefix("seed: ")
        assert origin == "ours" or origin in SEED, f"{field['name']}: the seed has no {origin}"


@pytest.mark.parametrize("topic", CATALOG.values(), ids=lambda t: t.name)
def test_every_number_and_time_says_its_unit(topic: Topic) -> None:
    wanted = {"decimal": r"\bUSD\b", "timestamp-millis": r"\(UTC\)", "date": r"\b(biller's|printed on)\b"}
    for field in all_fields(topic.schema):
        for kind in field["type"] if isinstance(field["type"], list) else [field["type"]]:
            if kind in ("int", "long"):
                assert re.search(COUNTED, field["doc"].lower()), field["name"]
            elif isinstance(kind, dict) and "logicalType" in kind:
                assert re.search(wanted[kind["logicalType"]], field["doc"]), field["name"]


@pytest.mark.parametrize("topic", CATALOG.values(), ids=lambda t: t.name)
def test_every_field_is_documented_and_optional_ones_have_a_default(topic: Topic) -> None:
    for field in all_fields(topic.schema):
        assert field.get("doc"), f"{field['name']} has no doc"
        if isinstance(field["type"], list):
            assert field["type"][0] == "null", field["name"]
            assert field["default"] is None, f"{field['name']}: a null union needs a null default"


@pytest.mark.parametrize("topic", CATALOG.values(), ids=lambda t: t.name)
def test_money_and_time_have_one_form(topic: Topic) -> None:
    for field in all_fields(topic.schema):
        kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
        for kind in (kind for kind in kinds if kind != "null"):
            assert kind not in ("double", "float"), f"{field['name']} is no exact number"
            logical = kind.get("logicalType") if isinstance(kind, dict) else None
            if logical == "decimal":
                assert (kind["precision"], kind["scale"]) == (12, 2), field["name"]
            if field["name"].endswith(("_at", "as_of")):
                assert logical == "timestamp-millis", field["name"]
            if field["name"].endswith(("_date", "_day")):
                assert logical == "date", field["name"]


@pytest.mark.parametrize("topic", CATALOG.values(), ids=lambda t: t.name)
def test_personal_data_is_marked_in_the_schema_and_on_the_topic(topic: Topic) -> None:
    marked = {field["name"] for field in all_fields(topic.schema) if field.get("pii")}
    present = {field["name"] for field in all_fields(topic.schema)}
    assert present & PERSONAL <= marked
    assert bool(marked) <= topic.pii


@pytest.mark.parametrize("topic", CATALOG.values(), ids=lambda t: t.name)
def test_accounts_are_in_the_key_where_events_concern_one(topic: Topic) -> None:
    names = [field["name"] for field in topic.schema["fields"]]
    assert "biller" in names
    assert ("account" in names) == (topic.key == "biller/account")
