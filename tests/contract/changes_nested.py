"""The rest of the corpus: enums, unions, records within records, names, and histories of several versions."""

from tests.contract.changes import (
    AMOUNT,
    FIELDS,
    PLAIN,
    Change,
    decimal,
    enum,
    event,
    field,
    items,
    line,
    mapped,
    optional,
    retyped,
)
from tests.contract.changes_types import MEANINGS, TYPES

A, B = field("a", "int"), field("b", "string")
SAME = "the registry answers that it has it already; a reader without the default stops at old records"
TREE = line(A, optional("next", "Line"))

ENUMS = [
    retyped("symbol added", enum("a", "b"), enum("a", "b", "c"), "symbols"),
    retyped("symbol removed", enum("a", "b"), enum("a"), "symbols"),
    retyped("symbol renamed", enum("a", "b"), enum("a", "c"), "symbols"),
    retyped("order of symbols", enum("a", "b"), enum("b", "a")),
    retyped(
        "symbol added, the released enum with a default",
        enum("a", "b", default="a"),
        enum("a", "b", "c", default="a"),
    ),
    retyped("symbol removed, both with a default", enum("a", "b", default="a"), enum("a", default="a")),
    retyped(
        "symbol added together with the default", enum("a", "b"), enum("a", "b", "c", default="a"), "symbols"
    ),
    retyped("default of an enum added", enum("a", "b"), enum("a", "b", default="a")),
    retyped("enum of another name", enum("a"), {**enum("a"), "name": "Other"}, "name"),
    retyped(
        "enum of another name with an alias",
        enum("a"),
        {**enum("a"), "name": "Other", "aliases": ["Kind"]},
        "name",
    ),
    retyped("doc of an enum", enum("a"), enum("a", doc="Said otherwise.")),
]

UNIONS = [
    retyped("made optional", "string", ["null", "string"], "type"),
    retyped("no longer optional", ["null", "string"], "string", "type"),
    retyped("order within a union", ["null", "string"], ["string", "null"]),
    retyped("type added to a union", ["null", "string"], ["null", "string", "int"], "union"),
    retyped("type removed from a union", ["null", "string", "int"], ["null", "string"], "union"),
    retyped("int in a union to long", ["null", "int"], ["null", "long"], "union"),
    retyped("union of one to that one", ["string"], "string"),
    retyped("that one to a union of one", "string", ["string"]),
    retyped(
        "text in a union to bytes",
        ["null", "string"],
        ["null", "bytes"],
        "text-or-bytes",
        "Avro reads either as the other, until bytes come that are no UTF-8",
    ),
    Change(
        "default null of a union taken away", (event(optional("x")),), event(field("x", ["null", "string"]))
    ),
]

RECORDS = [
    retyped("optional field within a record", line(A), line(A, optional("b"))),
    retyped("field without a default within a record", line(A), line(A, B), "default"),
    retyped("required field taken out of a record", line(A, B), line(A), "default"),
    retyped("type within a record", line(A), line(field("a", "string")), "type"),
    retyped("optional field within the records of a list", items(line(A)), items(line(A, optional("b")))),
    retyped(
        "field without a default within the records of a list", items(line(A)), items(line(A, B)), "default"
    ),
    retyped("type within a list", items("int"), items("string"), "type"),
    retyped("type within a map", mapped("int"), mapped("string"), "type"),
    retyped("promotion within a list", items("int"), items("long"), "type"),
    retyped(
        "field without a default two levels down",
        items(line(field("in", {**line(A), "name": "Inner"}))),
        items(line(field("in", {**line(A, B), "name": "Inner"}))),
        "default",
    ),
    retyped("optional field in a record within itself", TREE, line(*TREE["fields"], optional("b"))),
    retyped("type in a record within itself", TREE, line(field("a", "string"), TREE["fields"][1]), "type"),
    retyped("record within of another name", line(A), line(A) | {"name": "Row"}, "name"),
    retyped(
        "record within of another name with an alias",
        line(A),
        line(A) | {"name": "Row", "aliases": ["Line"]},
        "name",
    ),
    retyped(
        "scale within a record",
        line(field("a", decimal(12, 2))),
        line(field("a", decimal(12, 3))),
        "meaning",
        "the registry compares bytes, within records too",
    ),
]

NAMES = [
    Change("event of another name", PLAIN, event() | {"name": "Settled"}, "name"),
    Change(
        "event of another name with an alias",
        PLAIN,
        event() | {"name": "Settled", "aliases": ["Paid"]},
        "name",
    ),
    Change(
        "other namespace",
        PLAIN,
        event() | {"namespace": "billing.v2"},
        "full-name",
        "the registry compares simple names; our codec and readers of typed classes compare full ones",
    ),
    Change("namespace in the name", PLAIN, event() | {"name": "billing.Paid"}),
    Change(
        "no namespace",
        PLAIN,
        {k: v for k, v in event().items() if k != "namespace"},
        "full-name",
        "the registry compares simple names; our codec and readers of typed classes compare full ones",
    ),
    Change("alias added to the event", PLAIN, event(aliases=["Posted"])),
    Change("no record at all", PLAIN, {"type": "string"}, "type"),
]

HISTORIES = [
    Change("optional field back with its type", (event(optional("x")), event()), event(optional("x"))),
    Change(
        "optional field back with another type",
        (event(optional("x")), event()),
        event(optional("x", "int")),
        "union",
    ),
    Change(
        "optional field back without a default",
        (event(optional("x")), event()),
        event(field("x", ["null", "string"])),
        "default",
        SAME,
        taken_for=1,
    ),
    Change(
        "what the newest has a default for, the oldest has not",
        (event(field("x", "string")), event(field("x", "string", default=""))),
        event(),
        "default",
    ),
    Change(
        "default gone that only the one between needs",
        (event(), event(optional("x"))),
        event(field("x", ["null", "string"])),
        "default",
        SAME,
        taken_for=2,
    ),
    Change(
        "third addition in a row",
        (event(), event(optional("x")), event(optional("x"), optional("y"))),
        event(optional("x"), optional("y"), optional("z")),
    ),
    Change(
        "symbol added once the default was released",
        (event(field("x", enum("a"))), event(field("x", enum("a", default="a")))),
        event(field("x", enum("a", "b", default="a"))),
        "symbols",
    ),
    Change(
        "amount in cents beside the amount",
        (event(), event(optional("cents", "long"))),
        event(optional("cents", "long"), optional("currency")),
    ),
]

INVALID = [
    Change("unknown type", PLAIN, event(field("x", "money")), "not-avro"),
    Change("default of another type", PLAIN, event(field("x", "int", default="one")), "not-avro"),
    Change(
        "null default of what is never null", PLAIN, event(field("x", "string", default=None)), "not-avro"
    ),
    Change(
        "null default of a union that begins otherwise",
        PLAIN,
        event(field("x", ["string", "null"], default=None)),
        "wrong-default",
        "Avro takes it since 1.12 only; readers with an older one cannot parse the schema",
    ),
    Change(
        "default that is no symbol",
        PLAIN,
        event(field("x", enum("a"), default="b")),
        "wrong-default",
        "the registry does not look; a reader gets a word that its type does not have",
    ),
    Change(
        "default with an item of another type",
        PLAIN,
        event(field("x", items("int"), default=["a"])),
        "not-avro",
    ),
    Change(
        "default of a record that lacks a field", PLAIN, event(field("x", line(A), default={})), "not-avro"
    ),
    Change("two fields of one name", PLAIN, event(AMOUNT), "not-avro"),
    Change("union within a union", PLAIN, event(field("x", ["null", ["string"]], default=None)), "not-avro"),
    Change(
        "record without fields", PLAIN, {"type": "record", "name": "Paid", "namespace": "billing"}, "not-avro"
    ),
    Change(
        "enum without symbols",
        PLAIN,
        event(field("x", {"type": "enum", "name": "Kind"}, default="a")),
        "not-avro",
    ),
    Change("name that Avro does not allow", PLAIN, event(optional("first-name")), "not-avro"),
]

CHANGES = [*FIELDS, *TYPES, *MEANINGS, *ENUMS, *UNIONS, *RECORDS, *NAMES, *HISTORIES, *INVALID]
