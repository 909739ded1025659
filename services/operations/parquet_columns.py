"""A topic's Avro schema as columns of Parquet: decimals, days and instants keep their exact types."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

PLACE = (
    pa.field("kafka_partition", pa.int32(), nullable=False),
    pa.field("kafka_offset", pa.int64(), nullable=False),
    pa.field("stored_at", pa.timestamp("ms", tz="UTC"), nullable=False),
    pa.field("ce_id", pa.string()),
)
"""Where a row comes from, in front of the event's own fields."""

SIMPLE = {
    "string": pa.string(),
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "enum": pa.string(),
}
LOGICAL = {
    ("int", "date"): pa.date32(),
    ("long", "timestamp-millis"): pa.timestamp("ms", tz="UTC"),
}


def columns(avro: Mapping[str, Any], *, personal_data: bool) -> pa.Schema:
    """The columns of a topic's files; `biller` stands in the path instead.

    Fields marked `pii`, also those of records inside, are there only with `personal_data`. Raises ValueError
    for a type without an exact counterpart.
    """
    own = [field for field in _fields(avro, personal_data) if field.name != "biller"]
    return pa.schema([*PLACE, *own])


def _fields(record: Mapping[str, Any], personal_data: bool) -> list[pa.Field]:
    return [
        _field(field, personal_data) for field in record["fields"] if personal_data or not field.get("pii")
    ]


def _field(field: Mapping[str, Any], personal_data: bool) -> pa.Field:
    avro, nullable = field["type"], False
    if isinstance(avro, list):
        (avro,) = (kind for kind in avro if kind != "null")
        nullable = True
    doc = {"doc": field["doc"]} if "doc" in field else None
    return pa.field(field["name"], _type(avro, personal_data), nullable=nullable, metadata=doc)


def _type(avro: Any, personal_data: bool) -> pa.DataType:
    stated: Mapping[str, Any] = {"type": avro} if isinstance(avro, str) else avro
    kind, logical = stated["type"], stated.get("logicalType")
    if kind == "record":
        return pa.struct(_fields(stated, personal_data))
    if kind == "array":
        return pa.list_(_type(stated["items"], personal_data))
    if (kind, logical) == ("bytes", "decimal"):
        return pa.decimal128(stated["precision"], stated["scale"])
    found = SIMPLE.get(kind) if logical is None else LOGICAL.get((kind, logical))
    if found is None:
        raise ValueError(f"no column for Avro's {kind}{f' as {logical}' if logical else ''}")
    return found
