"""What is wrong with an Avro schema by itself. fastavro's own check lets some of it pass."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import fastavro
from fastavro.schema import SchemaParseException, UnknownType

from services.bus.avro_schema import NAMED, Field, Node, Place, read_schema

NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)
PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "int": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "string": (str,),
    "bytes": (str,),
    "fixed": (str,),
    "enum": (str,),
    "array": (list,),
    "map": (dict,),
    "record": (dict,),
}
"""What JSON has for a default of each type."""


@dataclass(frozen=True)
class Defect:
    """`rule` is `not-avro`, or `wrong-default` for what the registry lets pass and readers do not."""

    rule: str
    place: Place
    what: str


def defects(stated: Any) -> list[Defect]:
    """All that is wrong; of defaults only when the rest is right, since they are judged by their types."""
    found = list(_shape(stated, ()))
    if found:
        return found
    try:
        fastavro.parse_schema(stated)
    except (SchemaParseException, UnknownType, KeyError, TypeError, ValueError, AttributeError) as error:
        return [Defect("not-avro", (), f"is no Avro schema: {type(error).__name__}: {error}")]
    return list(_defaults(read_schema(stated)))


def _shape(stated: Any, place: Place) -> Iterator[Defect]:
    if isinstance(stated, list):
        for i, each in enumerate(stated):
            if isinstance(each, list):
                yield Defect("not-avro", (*place, i), "has a union within a union")
            yield from _shape(each, (*place, i))
    elif isinstance(stated, Mapping):
        kind = stated.get("type")
        if isinstance(kind, str) and kind in NAMED:
            yield from _named(kind, stated, place)
        elif not isinstance(kind, str):
            yield from _shape(kind, (*place, "type"))
        for inner in ("items", "values"):
            if inner in stated:
                yield from _shape(stated[inner], (*place, inner))
    elif not isinstance(stated, str):
        yield Defect("not-avro", place, f"has {stated!r} where a type is expected")


def _named(kind: str, stated: Mapping[str, Any], place: Place) -> Iterator[Defect]:
    yield from _name(stated, place)
    if kind == "enum" and not stated.get("symbols"):
        yield Defect("not-avro", place, "has an enum without symbols")
    if kind != "record":
        return
    fields = stated.get("fields")
    if not isinstance(fields, list) or not all(isinstance(each, Mapping) for each in fields):
        yield Defect("not-avro", place, "has a record without a list of fields")
        return
    seen = set()
    for i, each in enumerate(fields):
        at = (*place, "fields", i)
        yield from _name(each, at)
        if each.get("name") in seen:
            yield Defect("not-avro", at, f"has two fields `{each['name']}`")
        seen.add(each.get("name"))
        yield from _shape(each.get("type"), (*at, "type"))


def _name(stated: Mapping[str, Any], place: Place) -> Iterator[Defect]:
    name = stated.get("name")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        yield Defect("not-avro", place, f"has {name!r} where a name is expected")


def _defaults(root: Node) -> Iterator[Defect]:
    for record in _records(root, set()):
        for field in record.fields.values():
            if field.has_default and not _fits(field.node, field.stated["default"], strict=True):
                passes = _fits(field.node, field.stated["default"], strict=False)
                what = f"has a default of `{field.name}` that does not fit {field.node}"
                yield Defect("wrong-default" if passes else "not-avro", field.place, what)


def _records(node: Node, seen: set[Node]) -> Iterator[Node]:
    if node in seen:
        return
    seen.add(node)
    if node.kind == "record":
        yield node
    for inner in [*node.parts, *(field.node for field in node.fields.values())]:
        yield from _records(inner, seen)


def _fits(node: Node, value: Any, *, strict: bool) -> bool:
    """Whether a default is of a type; strict as readers older than Avro 1.12, else as the registry."""
    if node.kind == "union":
        parts = node.parts[:1] if strict else node.parts
        return any(_fits(part, value, strict=strict) for part in parts)
    if type(value) not in PYTHON_TYPES[node.kind]:
        return False
    if node.kind == "enum":
        return not strict or value in node.stated["symbols"]
    if node.kind == "record":
        return all(_field_fits(field, value, strict) for field in node.fields.values())
    inside = value.values() if node.kind == "map" else value if node.kind == "array" else ()
    return all(_fits(node.parts[0], each, strict=strict) for each in inside)


def _field_fits(field: Field, value: Mapping[str, Any], strict: bool) -> bool:
    return _fits(field.node, value[field.name], strict=strict) if field.name in value else field.has_default
