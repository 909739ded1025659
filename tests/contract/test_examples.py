"""Examples are the contract in action: valid ones survive the wire, invalid ones are refused by field."""

import io
from datetime import datetime
from typing import Any

import fastavro
import pytest
from fastavro.validation import ValidationError, validate

from services.bus.catalog import Topic, load_catalog
from services.bus.identity import event_id, key
from services.events import BY_TOPIC
from tests.contract.examples import SCHEMAS, Example, examples, typed

CATALOG = load_catalog(SCHEMAS)
VALID, INVALID = examples("valid"), examples("invalid")


def wire(topic: Topic, record: dict[str, Any]) -> dict[str, Any]:
    """The record written and read again by the schema alone."""
    schema = fastavro.parse_schema(topic.schema)
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, record, strict=True)
    out.seek(0)
    read = fastavro.schemaless_reader(out, schema, schema)
    assert isinstance(read, dict)
    return read


@pytest.mark.parametrize("topic", CATALOG)
def test_every_topic_has_examples_of_both_kinds(topic: str) -> None:
    assert {example.topic for example in VALID} >= {topic}
    assert {example.topic for example in INVALID} >= {topic}


@pytest.mark.parametrize("example", VALID, ids=lambda e: e.id)
def test_a_valid_example_survives_the_wire_as_event(example: Example) -> None:
    topic, kind = CATALOG[example.topic], BY_TOPIC[example.topic]
    event = kind.from_record(typed(topic.schema, example.value))

    assert kind.from_record(wire(topic, event.as_record())) == event


@pytest.mark.parametrize("example", VALID, ids=lambda e: e.id)
def test_key_and_id_of_a_valid_example_never_change(example: Example) -> None:
    topic = CATALOG[example.topic]
    event = BY_TOPIC[example.topic].from_record(typed(topic.schema, example.value))

    assert key(event) == example.key
    assert str(event_id(event)) == example.ce_id


@pytest.mark.parametrize("example", VALID, ids=lambda e: e.id)
def test_the_key_follows_the_topics_rule(example: Example) -> None:
    assert example.key is not None
    account = example.value.get("account")
    if CATALOG[example.topic].key == "biller/account":
        assert example.key == f"{example.value['biller']}/{account}"
    else:
        assert account is None
        assert example.key == (example.value["biller"] or "-")


@pytest.mark.parametrize("example", INVALID, ids=lambda e: e.id)
def test_an_invalid_example_is_refused_for_the_field_it_names(example: Example) -> None:
    topic = CATALOG[example.topic]
    kinds = {field["name"]: field["type"] for field in topic.schema["fields"]}
    record = typed(topic.schema, example.value)
    wrong = [name for name, kind in kinds.items() if not fits(name, kind, record)]

    assert wrong == [example.invalid]


def fits(name: str, kind: Any, record: dict[str, Any]) -> bool:
    """Whether one field of a record is there and can be written by its type."""
    if name not in record or (isinstance(record[name], datetime) and record[name].tzinfo is None):
        return False
    alone = {"type": "record", "name": "Alone", "fields": [{"name": name, "type": kind}]}
    value = {name: record[name]}
    try:
        validate(value, alone, strict=True)
        fastavro.schemaless_writer(io.BytesIO(), fastavro.parse_schema(alone), value)
    except (ValidationError, ValueError, TypeError, AttributeError):
        return False
    return True
