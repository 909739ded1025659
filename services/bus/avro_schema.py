"""An Avro schema as a graph whose parts know where in the JSON they stand."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Place = tuple[str | int, ...]
"""Keys and indexes from the schema's root to one of its parts."""

NAMED = frozenset({"record", "enum", "fixed"})


@dataclass(eq=False, slots=True)
class Node:
    """One type. `kind` is a primitive's name, record, enum, fixed, array, map or union.

    `parts` are a union's branches, or the items of an array, or the values of a map.
    """

    kind: str
    place: Place
    stated: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    aliases: frozenset[str] = frozenset()
    fields: "dict[str, Field]" = field(default_factory=dict)
    parts: "list[Node]" = field(default_factory=list)

    @property
    def simple_name(self) -> str:
        """The name without its namespace."""
        return self.name.rpartition(".")[2]

    @property
    def meaning(self) -> str:
        """What a value is beyond its bytes, such as `decimal(12,2)`; empty without a logical type."""
        logical = str(self.stated.get("logicalType", ""))
        if logical != "decimal":
            return logical
        return f"decimal({self.stated.get('precision')},{self.stated.get('scale', 0)})"

    def __str__(self) -> str:
        if self.kind == "union":
            return " or ".join(map(str, self.parts))
        if self.kind in ("array", "map"):
            return f"{self.kind} of {self.parts[0]}"
        return self.meaning or (f"{self.kind} {self.name}" if self.name else self.kind)


@dataclass(eq=False, slots=True)
class Field:
    """A field of a record."""

    name: str
    place: Place
    node: Node
    stated: Mapping[str, Any]

    @property
    def has_default(self) -> bool:
        """Whether a reader can do without it in the data."""
        return "default" in self.stated


def read_schema(stated: Any) -> Node:
    """The graph of a schema that Avro accepts (see `fastavro.parse_schema`)."""
    return _Reader().node(stated, (), "")


class _Reader:
    """Keeps the named types seen so far, so that a name leads to the type that it names."""

    def __init__(self) -> None:
        self._named: dict[str, Node] = {}

    def node(self, stated: Any, place: Place, namespace: str) -> Node:
        if isinstance(stated, list):
            parts = [self.node(each, (*place, i), namespace) for i, each in enumerate(stated)]
            return Node("union", place, parts=parts)
        if isinstance(stated, str):
            return self._named.get(_full(stated, namespace)) or Node(stated, place)
        kind = stated["type"]
        if not isinstance(kind, str):
            return self.node(kind, (*place, "type"), namespace)
        if kind in NAMED:
            return self._define(stated, place, namespace)
        if kind in ("array", "map"):
            inner = "items" if kind == "array" else "values"
            return Node(kind, place, stated, parts=[self.node(stated[inner], (*place, inner), namespace)])
        return self._named.get(_full(kind, namespace)) or Node(kind, place, stated)

    def _define(self, stated: Mapping[str, Any], place: Place, namespace: str) -> Node:
        name = _full(stated["name"], stated.get("namespace", namespace))
        inside = name.rpartition(".")[0]
        aliases = frozenset(_full(alias, inside) for alias in stated.get("aliases", ()))
        node = self._named[name] = Node(stated["type"], place, stated, name, aliases)
        for i, each in enumerate(stated.get("fields", ())):
            at = (*place, "fields", i)
            node.fields[each["name"]] = Field(
                each["name"], (*at, "name"), self.node(each["type"], (*at, "type"), inside), each
            )
        return node


def _full(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"
