"""What a reader of one schema meets in data of another: Avro's rules of resolution, and ours beyond them.

Avro's part gives the registry's own answer (FULL_TRANSITIVE in both directions; a test compares the two).
Ours is stricter where the registry lets a change pass that readers would not survive: it looks at bytes
alone, not at what they stand for.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from services.bus.avro_schema import Field, Node, Place

PROMOTIONS = {
    "long": {"int"},
    "float": {"int", "long"},
    "double": {"int", "long", "float"},
    "bytes": {"string"},
    "string": {"bytes"},
}
"""What Avro lets a reader of a type read besides it."""

OURS = frozenset({"meaning", "text-or-bytes", "full-name", "personal-data", "raw-default", "wrong-default"})
"""The rules that the registry does not have."""


@dataclass(frozen=True, slots=True)
class Clash:
    """One reason why a reader cannot read, or reads wrongly.

    `where` is the field, dotted (`totals.amount`), empty for the whole event; `reader` and `writer` are its
    places in the two schemas. `what` has the reader as its subject: "finds no `tender`, ...".
    """

    rule: str
    where: str
    reader: Place
    writer: Place
    what: str

    @property
    def ours(self) -> bool:
        """Whether the registry lets it pass."""
        return self.rule in OURS


def clashes(reader: Node, writer: Node) -> list[Clash]:
    """All that stands between a reader and data of the writer's schema."""
    return _Comparison().compare(reader, writer, "")


class _Comparison:
    """Compares each pair of types once, so that a type within itself comes to an end."""

    def __init__(self) -> None:
        self._known: dict[tuple[Node, Node], list[Clash]] = {}

    def compare(self, reader: Node, writer: Node, where: str) -> list[Clash]:
        pair = (reader, writer)
        if pair not in self._known:
            self._known[pair] = []
            self._known[pair] = list(self._found(reader, writer, where))
        return self._known[pair]

    def _found(self, reader: Node, writer: Node, where: str) -> Iterator[Clash]:
        if writer.kind == "union":
            for part in writer.parts:
                yield from self.compare(reader, part, where)
        elif reader.kind == "union":
            yield from self._within_union(reader, writer, where)
        elif reader.kind == writer.kind:
            yield from self._same_kind(reader, writer, where)
        elif writer.kind in PROMOTIONS.get(reader.kind, ()):
            yield from _promoted(reader, writer, where)
        else:
            yield _clash("type", reader, writer, where, f"expects {reader} {_at(where)} and finds {writer}")

    def _within_union(self, reader: Node, writer: Node, where: str) -> Iterator[Clash]:
        tried = [self.compare(part, writer, where) for part in reader.parts]
        readable = [found for found in tried if all(clash.ours for clash in found)]
        if readable:
            yield from min(readable, key=len)
        else:
            yield _clash("union", reader, writer, where, f"expects {reader} {_at(where)} and finds {writer}")

    def _same_kind(self, reader: Node, writer: Node, where: str) -> Iterator[Clash]:
        if reader.meaning != writer.meaning:
            yield _other_meaning(reader, writer, where)
        if reader.name:
            yield from _names(reader, writer, where)
        if reader.kind == "record":
            yield from self._fields(reader, writer, where)
        elif reader.kind == "enum":
            yield from _symbols(reader, writer, where)
        elif reader.kind == "fixed" and reader.stated["size"] != writer.stated["size"]:
            sizes = f"expects {reader.stated['size']} bytes {_at(where)} and finds {writer.stated['size']}"
            yield _clash("size", reader, writer, where, sizes)
        for ours, theirs in zip(reader.parts, writer.parts, strict=True):
            yield from self.compare(ours, theirs, where)

    def _fields(self, reader: Node, writer: Node, where: str) -> Iterator[Clash]:
        for field in reader.fields.values():
            inside = f"{where}.{field.name}" if where else field.name
            source = source_of(field, writer)
            if source is None:
                yield from _absent(field, writer, inside)
                continue
            yield from self.compare(field.node, source.node, inside)
            if field.stated.get("pii") and not source.stated.get("pii"):
                what = f"no longer knows that `{inside}` is personal data, and shows or exports it"
                yield Clash("personal-data", inside, field.place, source.place, what)


def source_of(field: Field, writer: Node) -> Field | None:
    """The writer's field that a reader takes for its own: of the same name, else of an alias."""
    names = (field.name, *field.stated.get("aliases", ()))
    return next((writer.fields[name] for name in names if name in writer.fields), None)


def _absent(field: Field, writer: Node, where: str) -> Iterator[Clash]:
    place = (*writer.place, "fields")  # the field itself is nowhere
    if not field.has_default:
        what = f"finds no `{where}`, and has no default for it"
        yield Clash("default", where, field.place, place, what)
    elif field.stated["default"] is not None and _has_meaning(field.node):
        what = f"gets the raw default of `{where}`: not all readers make a {field.node} of it"
        yield Clash("raw-default", where, field.place, place, what)


def _has_meaning(node: Node) -> bool:
    parts = node.parts if node.kind == "union" else [node]
    return any(part.meaning for part in parts)


def _names(reader: Node, writer: Node, where: str) -> Iterator[Clash]:
    said = f"expects {reader.name} {_at(where)} and finds {writer.name}"
    if reader.simple_name != writer.simple_name and writer.name not in reader.aliases:
        yield _clash("name", reader, writer, where, said)
    elif reader.name != writer.name:
        what = f"{said}: the registry compares names without their namespace, readers may not"
        yield _clash("full-name", reader, writer, where, what)


def _symbols(reader: Node, writer: Node, where: str) -> Iterator[Clash]:
    unknown = [symbol for symbol in writer.stated["symbols"] if symbol not in reader.stated["symbols"]]
    if unknown and "default" not in reader.stated:
        what = f"does not know {', '.join(unknown)} {_at(where)}, and has no default symbol"
        yield _clash("symbols", reader, writer, where, what)


def _promoted(reader: Node, writer: Node, where: str) -> Iterator[Clash]:
    if {reader.kind, writer.kind} == {"string", "bytes"}:
        what = f"takes {writer} for {reader} {_at(where)}: bytes that are not UTF-8 stop it"
        yield _clash("text-or-bytes", reader, writer, where, what)
    if reader.meaning != writer.meaning:
        yield _other_meaning(reader, writer, where)


def _other_meaning(reader: Node, writer: Node, where: str) -> Clash:
    told = f"takes {writer.meaning or writer.kind} for {reader.meaning or reader.kind} {_at(where)}"
    return _clash("meaning", reader, writer, where, f"{told}: every value is read wrongly, without an error")


def _clash(rule: str, reader: Node, writer: Node, where: str, what: str) -> Clash:
    return Clash(rule, where, reader.place, writer.place, what)


def _at(where: str) -> str:
    return f"in `{where}`" if where else "as the event"
