"""Before a schema is released: would anybody who reads the topic break? Asks no registry and no broker."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.bus.avro_defects import Defect, defects
from services.bus.avro_schema import Node, Place, read_schema
from services.bus.catalog import Consumer, Topic, read_consumers, read_topic, version_files
from services.bus.compatibility import Clash, clashes, source_of
from services.bus.json_lines import line_of
from services.operations.schema_advice import advice

CHECKSUMS = "released.sha256"
"""Beside the topics' folders, in the form of sha256sum: which versions are released, and as what bytes."""

BOTH_WAYS = frozenset({"raw-default"})
"""The rules of ours that also matter to who reads old data with the new schema."""


class NotReleasable(Exception):
    """Something is refused, so nothing was released."""

    def __init__(self, refusals: "list[Refusal]") -> None:
        super().__init__(f"{len(refusals)} refused")
        self.refusals = refusals


@dataclass(frozen=True)
class Broken:
    """A consumer that a change would break, and how."""

    name: str
    contact: str
    how: str


@dataclass(frozen=True)
class Refusal:
    """One reason against a schema. `against` is the released version that it clashes with, if it is one."""

    file: str
    line: int
    rule: str
    against: str
    what: str
    breaks: tuple[Broken, ...]
    instead: str


@dataclass(frozen=True)
class Version:
    """One schema of a topic as a file."""

    path: Path
    text: str
    released: bool

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def label(self) -> str:
        """How the checksums and the refusals name it: `<topic>/v1.avsc`."""
        return label_of(self.path)


def check_schemas(schemas: Path) -> tuple[int, list[Refusal]]:
    """How many schemas are new against the released ones, and what is refused of all of them.

    Raises ValueError naming the file for a topic.yaml or a list of checksums that does not read.
    """
    released = read_checksums(schemas)
    refusals = list(_immutable(schemas, released))
    new = 0
    for folder in topic_folders(schemas):
        versions = [
            Version(file, file.read_text(encoding="utf-8"), label_of(file) in released)
            for file in version_files(folder)
        ]
        new += sum(not version.released for version in versions)
        found = list(_misnumbered(versions)) + [each for v in versions for each in _no_avro(v)]
        refusals += found or _clashing(read_topic(folder / "topic.yaml"), versions)
    return new, refusals


def release_schemas(schemas: Path) -> list[str]:
    """Writes the checksums of all that is not released yet, and names it; from then on it never changes.

    Raises NotReleasable, or ValueError as `check_schemas`.
    """
    _, refusals = check_schemas(schemas)
    if refusals:
        raise NotReleasable(refusals)
    released = read_checksums(schemas)
    found = checksums_now(schemas)
    lines = [f"{digest}  {name}\n" for name, digest in sorted(found.items())]
    (schemas / CHECKSUMS).write_text("".join(lines), encoding="utf-8")
    return sorted(found.keys() - released.keys())


def not_as_released(schemas: Path) -> list[str]:
    """Names each schema that is not released, or no longer as it was; such a one must reach no registry.

    Raises ValueError for a list of checksums that does not read.
    """
    released = read_checksums(schemas)
    return [name for name, digest in checksums_now(schemas).items() if released.get(name) != digest]


def topic_folders(schemas: Path) -> list[Path]:
    """Every folder that describes a topic."""
    return sorted(path.parent for path in schemas.glob("*/topic.yaml"))


def label_of(schema: Path) -> str:
    """How the checksums and the refusals name a schema's file."""
    return f"{schema.parent.name}/{schema.name}"


def read_checksums(schemas: Path) -> dict[str, str]:
    """The released files and their SHA-256 (hex); empty where nothing was released yet."""
    path = schemas / CHECKSUMS
    if not path.exists():
        return {}
    pairs = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(f"{path}: expected lines of a checksum and a file name")
    return {name: digest for digest, name in pairs}


def checksum(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def checksums_now(schemas: Path) -> dict[str, str]:
    """Every schema's file as it is, and its SHA-256 (hex)."""
    files = [file for folder in topic_folders(schemas) for file in version_files(folder)]
    return {label_of(file): checksum(file) for file in files}


def _immutable(schemas: Path, released: Mapping[str, str]) -> Iterator[Refusal]:
    for name, digest in sorted(released.items()):
        path = schemas / name
        if path.exists() and checksum(path) == digest:
            continue
        state = "is no longer as it was released" if path.exists() else "was released and is gone"
        what = f"{path.stem} {state}; what was written with it stays in the topic and must stay readable"
        how = f"reads records written with the {path.stem} of the registry, which this file no longer is"
        instead = advice("immutable", "", False, path.parent.name)
        yield Refusal(name, 1, "immutable", path.stem, what, _everybody(path.parent, how), instead)


def _everybody(folder: Path, how: str) -> tuple[Broken, ...]:
    stated = folder / "topic.yaml"
    consumers = read_consumers(stated) if stated.exists() else ()
    return tuple(Broken(each.name, each.contact, how) for each in consumers)


def _misnumbered(versions: list[Version]) -> Iterator[Refusal]:
    for number, version in enumerate(versions, 1):
        if version.name != f"v{number}":
            what = f"is {version.name}, though v{number} is the next one"
            yield Refusal(version.label, 1, "numbering", "", what, (), f"Name it v{number}.avsc.")
            return


def _no_avro(version: Version) -> Iterator[Refusal]:
    try:
        found = defects(json.loads(version.text))
    except json.JSONDecodeError as error:
        told = Defect("not-avro", (), f"is no JSON: {error.msg}")
        yield _defective(version, error.lineno, told)
        return
    for each in found:
        yield _defective(version, line_of(version.text, each.place), each)


def _defective(version: Version, line: int, defect: Defect) -> Refusal:
    breaks = _everybody(
        version.path.parent, f"stops at the first record of {version.name}, which {defect.what}"
    )
    return Refusal(
        version.label, line, defect.rule, "", defect.what, breaks, advice(defect.rule, "", False, "")
    )


def _clashing(topic: Topic, versions: list[Version]) -> Iterator[Refusal]:
    """The refusals of each version that is not released, against all that come before it."""
    graphs = [read_schema(stated) for stated in topic.versions]
    for i, version in enumerate(versions):
        if version.released:
            continue
        told: set[tuple[str, str, bool]] = set()
        for earlier in reversed(range(i)):
            pair = _Pair(topic, version, graphs[i], versions[earlier].name, graphs[earlier])
            for clash, old_reader in pair.clashes():
                if (clash.rule, clash.where, old_reader) not in told:
                    told.add((clash.rule, clash.where, old_reader))
                    yield pair.refusal(clash, old_reader)


@dataclass(frozen=True)
class _Pair:
    """A new version of a topic's schema, and an earlier one."""

    topic: Topic
    version: Version
    new: Node
    earlier_name: str
    earlier: Node

    def clashes(self) -> Iterator[tuple[Clash, bool]]:
        """Each clash once, and whether it is one of readers who still have the earlier version."""
        forward = clashes(self.earlier, self.new)
        yield from ((clash, True) for clash in forward)
        yield from ((clash, True) for clash in self._still_read())
        for clash in clashes(self.new, self.earlier):
            if not clash.ours or clash.rule in BOTH_WAYS:
                yield clash, False

    def _still_read(self) -> Iterator[Clash]:
        """Fields that may go by Avro's rules, but that a consumer says it reads."""
        for field in self.earlier.fields.values():
            if field.has_default and source_of(field, self.new) is None and self._readers(field.name):
                what = f"would get its default in place of `{field.name}`, without an error"
                yield Clash("still-read", field.name, field.place, ("fields",), what)

    def _readers(self, field: str) -> list[Consumer]:
        return [each for each in self.topic.consumers if field in (each.fields or ())]

    def refusal(self, clash: Clash, old_reader: bool) -> Refusal:
        place: Place = clash.writer if old_reader else clash.reader
        line = line_of(self.version.text, place)
        breaks = tuple(self._broken(clash, old_reader))
        instead = advice(clash.rule, clash.where, old_reader, self.topic.name)
        reader = f"a reader with {self.earlier_name if old_reader else self.version.name}"
        return Refusal(
            self.version.label, line, clash.rule, self.earlier_name, f"{reader} {clash.what}", breaks, instead
        )

    def _broken(self, clash: Clash, old_reader: bool) -> Iterator[Broken]:
        top = clash.where.split(".")[0]
        who = self._readers(top) if clash.rule == "still-read" else self.topic.consumers
        for each in who:
            if old_reader:
                when = f"reads with {self.earlier_name} until it takes the new one, and {clash.what}"
            else:
                kept = "for ever" if self.topic.retention_days < 0 else f"{self.topic.retention_days} days"
                when = f"once it takes {self.version.name}, {clash.what} in what {self.earlier_name} wrote"
                when += f" (kept {kept})"
            used = f"; it uses `{top}`" if each.fields and top in each.fields else ""
            yield Broken(each.name, each.contact, when + used)


def as_json(refusal: Refusal) -> dict[str, Any]:
    """A refusal for programs."""
    return {
        "file": refusal.file,
        "line": refusal.line,
        "rule": refusal.rule,
        "against": refusal.against or None,
        "what": refusal.what,
        "breaks": [vars(each) for each in refusal.breaks],
        "instead": refusal.instead,
    }
