"""Rules that every topic and schema keeps, so that other teams can rely on them."""

import json
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from services.bus.catalog import Topic, load_catalog
from tests.contract.examples import SCHEMAS
from tools import generate_events

CATALOG = load_catalog(SCHEMAS)
PERSONAL = {"customer_name", "payer_name", "address1", "address2", "city", "phone", "email", "postal_code"}


def all_fields(avro: Any) -> list[dict[str, Any]]:
    """The fields of a record and of the records within it."""
    if isinstance(avro, list):
        return [field for kind in avro for field in all_fields(kind)]
    if not isinstance(avro, dict):
        return []
    inner = [field for kind in (avro.get("items"), avro.get("type")) for field in all_fields(kind)]
    own = list(avro.get("fields", []))
    return inner + own + [field for each in own for field in all_fields(each["type"])]


def test_the_python_types_are_made_from_the_schemas_as_they_are() -> None:
    assert generate_events.TARGET.read_text() == generate_events.render(), "run `make generate`"


@pytest.mark.parametrize("path", sorted(SCHEMAS.glob("*/topic.yaml")), ids=lambda p: p.parent.name)
def test_a_topic_yaml_says_all_and_only_what_it_should(path: Any) -> None:
    rules = json.loads((SCHEMAS / "topic.schema.json").read_text())
    problems = Draft202012Validator(rules).iter_errors(yaml.safe_load(path.read_text()))
    assert [problem.message for problem in problems] == []


@pytest.mark.parametrize("topic", CATALOG.values(), ids=lambda t: t.name)
def test_a_topics_name_is_made_by_the_rule(topic: Topic) -> None:
    prefix, noun, word, version = topic.name.split(".")
    assert (prefix, version) == ("billing", "v1")
    assert noun.isalpha()
    assert (word == "current") == (topic.cleanup == "compact")
    assert topic.schema["name"] == f"{noun.title()}{word.title()}"


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
