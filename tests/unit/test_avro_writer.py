"""Our writer of Avro and fastavro's write the same bytes, and what does not fit is refused."""

import io
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local.processes import ROOT
from services.bus.avro_writer import record_writer
from services.bus.catalog import load_catalog
from services.events import BY_TOPIC

CATALOG = load_catalog(ROOT / "schemas")
LONG = st.integers(-(2**63), 2**63 - 1)
INSTANTS = st.datetimes(
    min_value=datetime(1900, 1, 1),
    max_value=datetime(2200, 1, 1),
    timezones=st.sampled_from([UTC, timezone(timedelta(hours=-6))]),
)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a type of our schemas."""
    match kind:
        case [first, second]:
            return st.one_of(values(first), values(second))
        case "null":
            return st.none()
        case "string":
            return st.text(max_size=6) | st.integers(505, 515).map(lambda count: "ü" * count)
        case "boolean":
            return st.booleans()
        case "int":
            return st.integers(-(2**31), 2**31 - 1)
        case "long":
            return LONG
        case {"logicalType": "decimal", "precision": precision, "scale": scale}:
            most = Decimal(10**precision - 1).scaleb(-scale)
            return st.decimals(-most, most, places=scale)
        case {"logicalType": "timestamp-millis"}:
            return INSTANTS
        case {"logicalType": "date"}:
            return st.dates(date(1900, 1, 1), date(2200, 1, 1))
        case {"type": "enum", "symbols": symbols}:
            return st.sampled_from(symbols)
        case {"type": "array", "items": items}:
            return st.lists(values(items), max_size=3).map(tuple)
        case {"type": "record", "fields": fields}:
            return st.fixed_dictionaries({field["name"]: values(field["type"]) for field in fields})
        case {"type": plain}:
            return values(plain)
    raise AssertionError(kind)


@pytest.mark.parametrize("topic", CATALOG)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_event_is_written_as_fastavro_writes_it(topic: str, data: st.DataObject) -> None:
    schema = CATALOG[topic].schema
    record = data.draw(values(schema))
    out = io.BytesIO()
    schemaless_writer(out, parse_schema(schema), record)
    assert record_writer(schema)(BY_TOPIC[topic].from_record(record)) == out.getvalue()


def field(kind: Any) -> dict[str, Any]:
    return {"type": "record", "name": "One", "fields": [{"name": "it", "type": kind}]}


CENTS = {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}
INSTANT = {"type": "long", "logicalType": "timestamp-millis"}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("string", None),
        ("string", 7),
        ("string", "\ud800"),
        ("long", 2**63),
        ("long", "7"),
        (CENTS, Decimal("0.001")),
        (CENTS, Decimal("10000000000.00")),
        (CENTS, Decimal("-Infinity")),
        (CENTS, Decimal("NaN")),
        (CENTS, Decimal("1E+30")),
        (INSTANT, datetime(2026, 11, 1)),
        (field("string"), None),
        ({"type": "enum", "name": "Word", "symbols": ["yes"]}, "no"),
        ({"type": "array", "items": "string"}, [None]),
    ],
)
def test_a_value_that_does_not_fit_is_refused(kind: Any, value: object) -> None:
    with pytest.raises((ValueError, TypeError, AttributeError, KeyError)):
        record_writer(field(kind))(SimpleNamespace(it=value))


@pytest.mark.parametrize(
    "kind",
    [
        "double",
        ["string", "long"],
        ["null"],
        {"type": "map", "values": "string"},
        {"type": "long", "logicalType": "x"},
    ],
)
def test_a_schema_of_another_shape_gets_no_writer(kind: Any) -> None:
    with pytest.raises(ValueError, match="no writer"):
        record_writer(field(kind))


def test_a_named_type_may_be_used_again_and_null_may_stand_last() -> None:
    word = {"type": "enum", "name": "Word", "symbols": ["a", "b"]}
    schema = {
        "type": "record",
        "name": "Two",
        "fields": [{"name": "one", "type": word}, {"name": "two", "type": ["Word", "null"]}],
    }
    for record in ({"one": "b", "two": "a"}, {"one": "a", "two": None}):
        out = io.BytesIO(record_writer(schema)(SimpleNamespace(**record)))
        assert schemaless_reader(out, parse_schema(schema), None) == record
