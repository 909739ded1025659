"""Reads schemas/<topic>/examples: JSON as people write it, turned into what Avro's Python types expect."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).resolve().parents[2] / "schemas"


@dataclass(frozen=True)
class Example:
    """One example; `invalid` names the field for which it must be refused, None where it is valid."""

    topic: str
    name: str
    about: str
    value: dict[str, Any]
    key: str | None
    ce_id: str | None
    invalid: str | None

    @property
    def id(self) -> str:
        return f"{self.topic}/{self.name}"


def examples(prefix: str) -> list[Example]:
    """The examples of all topics whose file name begins so: valid or invalid."""
    return list(_read(prefix))


def _read(prefix: str) -> Iterator[Example]:
    for path in sorted(SCHEMAS.glob(f"*/examples/{prefix}-*.json")):
        stated = json.loads(path.read_text(encoding="utf-8"))
        optional = {name: stated.get(name) for name in ("key", "ce_id", "invalid")}
        topic = path.parents[1].name
        yield Example(topic, path.stem, stated["about"], stated["value"], **optional)


def typed(avro: Any, value: Any) -> Any:
    """A JSON value as the type that an Avro type stands for; what does not fit stays as it is."""
    if isinstance(avro, list):
        return None if value is None else typed(next(kind for kind in avro if kind != "null"), value)
    if not isinstance(avro, dict):
        return value
    if avro["type"] == "record" and isinstance(value, dict):
        kinds = {field["name"]: field["type"] for field in avro["fields"]}
        return {name: typed(kinds.get(name), item) for name, item in value.items()}
    if avro["type"] == "array" and isinstance(value, list):
        return [typed(avro["items"], item) for item in value]
    return _logical(avro.get("logicalType"), value) if isinstance(value, str) else value


def _logical(kind: str | None, text: str) -> Any:
    readers: dict[str | None, Callable[[str], Any]] = {
        "decimal": Decimal,
        "timestamp-millis": datetime.fromisoformat,
        "date": date.fromisoformat,
    }
    try:
        return readers[kind](text) if kind in readers else text
    except ValueError:
        return text
