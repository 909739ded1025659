"""The generated readers and writers say what fastavro says, for every event and whatever it holds."""

import io
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from fastavro import parse_schema, schemaless_reader, schemaless_writer
from hypothesis import given, settings
from hypothesis import strategies as st

from services.bus.catalog import load_catalog
from services.bus.settings import ROOT
from services.events import BY_TOPIC, PaymentReceived
from services.events.binary import fingerprint
from services.events.wire import MADE_FROM, READ, WRITE
from tests.unit.payments_sample import a_payment
from tools import generate_wire

CATALOG = load_catalog(ROOT / "schemas")
INSTANTS = st.integers(-(10**12), 10**13).map(
    lambda ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)
)


def values(kind: Any) -> st.SearchStrategy[Any]:
    """What a field of that type can hold."""
    if isinstance(kind, list):
        return st.none() | values(kind[1])
    word = generate_wire.plain(kind)
    if word == "enum":
        return st.sampled_from(kind["symbols"])
    if word == "array":
        items = kind["items"]
        return st.lists(st.text(max_size=9) if items == "string" else records(items), max_size=3)
    return {
        "string": st.text(max_size=100),
        "boolean": st.booleans(),
        "long": st.integers(-(2**31), 2**31 - 1),
        "decimal": st.integers(-(10**12) + 1, 10**12 - 1).map(lambda cents: Decimal(cents).scaleb(-2)),
        "timestamp-millis": INSTANTS,
        "date": st.dates(date(1900, 1, 1)),
    }[word]


def records(schema: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({field["name"]: values(field["type"]) for field in schema["fields"]})


def by_fastavro(schema: dict[str, Any], record: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    schemaless_writer(out, parse_schema(schema), record)
    return out.getvalue()


def test_the_code_is_made_from_the_schemas_as_they_are() -> None:
    assert {topic: fingerprint(found.schema) for topic, found in CATALOG.items()} == MADE_FROM, (
        "make generate"
    )


@pytest.mark.parametrize("topic", sorted(BY_TOPIC))
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_same_bytes_and_the_same_event_as_fastavro(topic: str, data: st.DataObject) -> None:
    schema = CATALOG[topic].schema
    event = BY_TOPIC[topic].from_record(data.draw(records(schema)))
    written = WRITE[topic](event)
    assert written == by_fastavro(schema, event.as_record())
    parsed = parse_schema(schema)
    read = schemaless_reader(io.BytesIO(written), parsed, parsed)
    assert isinstance(read, dict)
    assert READ[topic](written, 0) == (BY_TOPIC[topic].from_record(read), len(written))


@pytest.mark.parametrize("topic", sorted(BY_TOPIC))
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_damaged_bytes_end_in_an_error_or_in_an_event_never_elsewhere(
    topic: str, data: st.DataObject
) -> None:
    event = BY_TOPIC[topic].from_record(data.draw(records(CATALOG[topic].schema)))
    body = bytearray(WRITE[topic](event))
    for _ in range(data.draw(st.integers(1, 3))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(body[: data.draw(st.integers(0, len(body)))])
    try:
        _, end = READ[topic](cut, 0)
    except (ValueError, IndexError, OverflowError):
        return
    assert end > 0


@pytest.mark.parametrize(
    ("field", "wrong", "error"),
    [
        ("amount", Decimal("1.001"), ValueError),
        ("amount", Decimal("12345678901.00"), ValueError),
        ("amount", Decimal("NaN"), ValueError),
        ("amount", "1.00", AttributeError),
        ("resolution", "guessed", ValueError),
        ("paid_at", datetime(2026, 11, 20), ValueError),
        ("tender", None, AttributeError),
    ],
)
def test_what_the_schema_cannot_hold_is_refused(field: str, wrong: object, error: type[Exception]) -> None:
    record = a_payment().as_record() | {field: wrong}
    with pytest.raises(error):
        WRITE[PaymentReceived.TOPIC](PaymentReceived.from_record(record))
