"""The topics as `schemas/<topic>/` describes them; everything about a topic is derived from here."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

REPLAY, DLQ = ".replay", ".dlq"
REPLAY_DAYS = 7
DAY_MS = 86_400_000


@dataclass(frozen=True, kw_only=True)
class Consumer:
    """Who reads a topic, and whom to tell before it changes. `fields` is None where it reads whole events."""

    name: str
    contact: str
    fields: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Deprecation:
    """Since when a topic is not to be used, what replaces it, and the day from which nothing is written."""

    since: str
    replaced_by: str
    ends: str


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One topic. `retention_days` is -1 where records are kept for ever (compacted topics).

    `versions` are its schemas, oldest first; all of them stay readable.
    """

    name: str
    title: str
    description: str
    owner: str
    stability: str
    since: str
    deprecated: Deprecation | None
    key: Literal["biller/account", "biller"]
    partitions: int
    cleanup: Literal["delete", "compact"]
    retention_days: int
    pii: bool
    producers: tuple[str, ...]
    consumers: tuple[Consumer, ...]
    replay: bool
    dlq: bool
    versions: tuple[dict[str, Any], ...] = field(repr=False)

    @property
    def subject(self) -> str:
        """The registry's subject of the topic's values."""
        return f"{self.name}-value"

    def kept_s(self) -> dict[str, float]:
        """How long the topic and its `.replay` keep a record, in seconds by name, where not for ever."""
        days = {self.name: self.retention_days, self.name + REPLAY: REPLAY_DAYS}
        return {name: kept * DAY_MS / 1000 for name, kept in days.items() if kept > 0}

    @property
    def schema(self) -> dict[str, Any]:
        """The newest schema: what we write with."""
        return self.versions[-1]

    @property
    def short(self) -> str:
        """The name people use: `payment.received` of `billing.payment.received.v1`, `.v2` kept."""
        return self.name.removeprefix("billing.").removesuffix(".v1")


def load_catalog(schemas: Path) -> dict[str, Topic]:
    """All topics by name. Raises ValueError naming the file that does not fit."""
    catalog = {}
    for path in sorted(schemas.glob("*/topic.yaml")):
        catalog[path.parent.name] = read_topic(path)
    if not catalog:
        raise ValueError(f"{schemas}: no topic.yaml in any folder")
    return catalog


def read_topic(path: Path) -> Topic:
    """One topic from its topic.yaml and the schemas beside it."""
    try:
        stated: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        stated["producers"] = tuple(stated["producers"])
        stated["consumers"] = _consumers(stated)
        if stated["deprecated"] is not None:
            stated["deprecated"] = Deprecation(**stated["deprecated"])
        versions = tuple(json.loads(file.read_text(encoding="utf-8")) for file in version_files(path.parent))
        if not versions:
            raise ValueError("no v1.avsc beside it")
        return Topic(name=path.parent.name, versions=versions, **stated)
    except (yaml.YAMLError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: {error}") from None


def version_files(folder: Path) -> list[Path]:
    """The schemas of a topic's folder, oldest first."""
    found = [file for file in folder.glob("v*.avsc") if file.stem[1:].isdecimal()]
    return sorted(found, key=lambda file: int(file.stem[1:]))


def read_consumers(path: Path) -> tuple[Consumer, ...]:
    """Who reads a topic, from its topic.yaml alone: also where a schema beside it does not read."""
    try:
        return _consumers(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: {error}") from None


def _consumers(stated: Mapping[str, Any]) -> tuple[Consumer, ...]:
    return tuple(
        Consumer(name=each["name"], contact=each["contact"], fields=_tuple(each.get("fields")))
        for each in stated["consumers"]
    )


def _tuple(stated: Iterable[str] | None) -> tuple[str, ...] | None:
    return None if stated is None else tuple(stated)


def find_topic(catalog: Mapping[str, Topic], name: str) -> Topic | None:
    """The topic by its full or its short name."""
    return catalog.get(name) or next((topic for topic in catalog.values() if topic.short == name), None)
