"""The corpus: changes of a schema, each with what becomes of it. Held by test_changes (offline) and by
tests/integration/test_registry_agrees (the real registry).

`rule` is the one by which the gate refuses, None where the change is allowed. The registry's answer follows
from it: it lets pass what is allowed and what only our own rules refuse (`compatibility.OURS`, `GATE`); for
those `why` says what would break all the same. Nowhere does the registry refuse what the gate allows.
The types are in changes_types, the rest in changes_nested.
"""

from dataclasses import dataclass
from typing import Any

from services.bus.compatibility import OURS

GATE = frozenset({"still-read"})
"""Rules of ours that look at the catalog and not at the schemas alone."""

Schema = dict[str, Any]
MONEY = {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}
INSTANT = {"type": "long", "logicalType": "timestamp-millis"}
DAY = {"type": "int", "logicalType": "date"}


@dataclass(frozen=True)
class Change:
    """Released versions, oldest first, the new one, and by which rule it is refused.

    `reads` is the one field that the invented team reads. `taken_for` is the number of the released version
    that the registry takes the new one for (it leaves docs and null defaults out of its comparison): it then
    answers with that version and judges nothing, so the gate alone stands between.
    """

    name: str
    released: tuple[Schema, ...]
    new: Schema
    rule: str | None = None
    why: str = ""
    reads: str = "amount"
    taken_for: int = 0

    @property
    def passes_the_registry(self) -> bool:
        """Whether the registry registers it, or takes it for one that it has."""
        return self.rule is None or self.rule in OURS | GATE or self.taken_for > 0


def field(name: str, avro: Any, **more: Any) -> Schema:
    return {"name": name, "type": avro, **more}


def event(*fields: Schema, **more: Any) -> Schema:
    """An event with an amount and these fields."""
    return {"type": "record", "name": "Paid", "namespace": "billing", "fields": [AMOUNT, *fields], **more}


def optional(name: str, avro: Any = "string", **more: Any) -> Schema:
    return field(name, ["null", avro], default=None, **more)


def enum(*symbols: str, **more: Any) -> Schema:
    return {"type": "enum", "name": "Kind", "symbols": list(symbols), **more}


def fixed(size: int) -> Schema:
    return {"type": "fixed", "name": "Digest", "size": size}


def line(*fields: Schema, **more: Any) -> Schema:
    """A record within the event."""
    return {"type": "record", "name": "Line", "fields": list(fields), **more}


def items(avro: Any) -> Schema:
    return {"type": "array", "items": avro}


def mapped(avro: Any) -> Schema:
    return {"type": "map", "values": avro}


def decimal(precision: int, scale: int) -> Schema:
    return {"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale}


def retyped(name: str, before: Any, after: Any, rule: str | None = None, why: str = "") -> Change:
    """One field `x` that has another type."""
    return Change(name, (event(field("x", before)),), event(field("x", after)), rule, why)


AMOUNT = field("amount", MONEY)
PLAIN = (event(),)
WITH_OPTIONAL = (event(optional("x")),)
WITH_REQUIRED = (event(field("x", "string")),)

FIELDS = [
    Change("nothing at all", PLAIN, event()),
    Change("optional field added", PLAIN, event(optional("x"))),
    Change("field with a default added", PLAIN, event(field("x", "string", default=""))),
    Change("number with a default added", PLAIN, event(field("x", "int", default=1))),
    Change("list with an empty default added", PLAIN, event(field("x", items("string"), default=[]))),
    Change("map with an empty default added", PLAIN, event(field("x", mapped("string"), default={}))),
    Change("enum with a default added", PLAIN, event(field("x", enum("a", "b"), default="a"))),
    Change("optional money added", PLAIN, event(optional("x", MONEY))),
    Change("optional record added", PLAIN, event(optional("x", line(field("a", "int"))))),
    Change("added first", PLAIN, {**event(), "fields": [optional("x"), AMOUNT]}),
    Change("two added at once", PLAIN, event(optional("x"), optional("y", "long"))),
    Change("field added without a default", PLAIN, event(field("x", "string")), "default"),
    Change("optional type without a default added", PLAIN, event(field("x", ["null", "string"])), "default"),
    Change(
        "enum whose default is its own, not the field's, added",
        PLAIN,
        event(field("x", enum("a", "b", default="a"))),
        "default",
    ),
    Change("list without a default added", PLAIN, event(field("x", items("string"))), "default"),
    Change(
        "money with a default of bytes added",
        PLAIN,
        event(field("x", MONEY, default="\u0000")),
        "raw-default",
        "fastavro hands out the text of the default where a Decimal is meant",
    ),
    Change(
        "day with a default of 0 added",
        PLAIN,
        event(field("x", DAY, default=0)),
        "raw-default",
        "fastavro hands out 0 where a date is meant",
    ),
    Change("optional field removed", WITH_OPTIONAL, event()),
    Change("field with a default removed", (event(field("x", "int", default=1)),), event()),
    Change("required field removed", WITH_REQUIRED, event(), "default"),
    Change(
        "optional field removed that somebody reads",
        WITH_OPTIONAL,
        event(),
        "still-read",
        "the reader takes the default for what was said, and nothing fails",
        reads="x",
    ),
    Change("required field renamed", WITH_REQUIRED, event(field("y", "string")), "default"),
    Change(
        "required field renamed with an alias",
        WITH_REQUIRED,
        event(field("y", "string", aliases=["x"])),
        "default",
    ),
    Change(
        "required field renamed, new name with a default",
        WITH_REQUIRED,
        event(field("y", "string", default="")),
        "default",
    ),
    Change(
        "required field renamed with an alias and a default",
        WITH_REQUIRED,
        event(field("y", "string", default="", aliases=["x"])),
        "default",
    ),
    Change("optional field renamed", WITH_OPTIONAL, event(optional("y"))),
    Change("optional field renamed with an alias", WITH_OPTIONAL, event(optional("y", aliases=["x"]))),
    Change(
        "optional field renamed that somebody reads",
        WITH_OPTIONAL,
        event(optional("y")),
        "still-read",
        "who reads the old name gets its default from then on",
        reads="x",
    ),
    Change("alias added to a field", WITH_REQUIRED, event(field("x", "string", aliases=["y"]))),
    Change("new name beside the old one", WITH_REQUIRED, event(field("x", "string"), optional("y"))),
    Change(
        "order of fields",
        (event(field("x", "int"), field("y", "string")),),
        event(field("y", "string"), field("x", "int")),
    ),
    Change("other default", (event(field("x", "int", default=1)),), event(field("x", "int", default=2))),
    Change("default added", WITH_REQUIRED, event(field("x", "string", default="-"))),
    Change("default taken away", (event(field("x", "string", default="")),), event(field("x", "string"))),
    Change("doc of a field", WITH_REQUIRED, event(field("x", "string", doc="Said otherwise."))),
    Change("doc of the event", PLAIN, event(doc="Said otherwise.")),
    Change("property of our own", WITH_REQUIRED, event(field("x", "string", unit="day"))),
    Change("sort order of a field", WITH_REQUIRED, event(field("x", "string", order="ignore"))),
    Change("personal data marked", WITH_REQUIRED, event(field("x", "string", pii=True))),
    Change(
        "personal data no longer marked",
        (event(field("x", "string", pii=True)),),
        event(field("x", "string")),
        "personal-data",
        "what masks and exports by the mark would show it",
    ),
]
