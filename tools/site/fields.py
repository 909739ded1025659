"""The fields of an Avro schema as people read them: type, unit, meaning, origin, personal data."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

ORIGIN = re.compile(r" \((?P<origin>ours|seed: [^()]+)\)\.$")
"""How the doc of every field ends; tests/contract/test_schemas.py holds it."""
COUNTED = r"\b(payments?|attempts|rows?|refusals|line|partition|offset|notifications)\b"
"""What a plain number can count or point to; a doc that names none of it gives no unit."""
UNITS = {"decimal": "USD", "timestamp-millis": "UTC, to the millisecond", "date": "day"}


@dataclass(frozen=True)
class Field:
    """One field; `name` says the way to it, as in `totals[].amount`."""

    name: str
    type: str
    unit: str
    meaning: str
    origin: str
    default: str
    pii: bool


def fields_of(schema: Mapping[str, Any], prefix: str = "") -> Iterator[Field]:
    """All fields of a record in its order, those of records within it after the field that holds them."""
    for each in schema["fields"]:
        origin = ORIGIN.search(each["doc"])
        yield Field(
            name=prefix + each["name"],
            type=_named(each["type"]),
            unit=_unit(each["type"], each["doc"]),
            meaning=ORIGIN.sub(".", each["doc"]),
            origin=origin["origin"].removeprefix("seed: ") if origin else "",
            default=json.dumps(each["default"], ensure_ascii=False) if "default" in each else "",
            pii=bool(each.get("pii")),
        )
        for inner, way in _records(each["type"], prefix + each["name"]):
            yield from fields_of(inner, f"{way}.")


def _kinds(avro: Any) -> list[Any]:
    return avro if isinstance(avro, list) else [avro]


def _records(avro: Any, way: str) -> Iterator[tuple[dict[str, Any], str]]:
    for kind in _kinds(avro):
        if isinstance(kind, dict) and kind["type"] == "record":
            yield kind, way
        elif isinstance(kind, dict) and kind["type"] == "array":
            yield from _records(kind["items"], f"{way}[]")


def _named(avro: Any) -> str:
    return " or ".join(_one(kind) for kind in _kinds(avro) if kind != "null") + (
        " or null" if "null" in _kinds(avro) else ""
    )


def _one(kind: Any) -> str:
    if isinstance(kind, str):
        return kind
    if kind.get("logicalType") == "decimal":
        return f"decimal({kind['precision']},{kind['scale']})"
    if "logicalType" in kind:
        return str(kind["logicalType"])
    if kind["type"] == "array":
        return f"array of {_named(kind['items'])}"
    if kind["type"] == "enum":
        return f"enum: {', '.join(kind['symbols'])}"
    return str(kind.get("name", kind["type"]))


def _unit(avro: Any, doc: str) -> str:
    for kind in _kinds(avro):
        if isinstance(kind, dict) and "logicalType" in kind:
            return UNITS[kind["logicalType"]]
        counted = re.search(COUNTED, doc.lower())
        if kind in ("int", "long") and counted:
            return counted[0]
    return ""
