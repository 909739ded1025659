"""The topics as `schemas/<topic>/` describes them; everything about a topic is derived from here."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

REPLAY, DLQ = ".replay", ".dlq"
REPLAY_DAYS = 7
DAY_MS = 86_400_000


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One topic. `retention_days` is -1 where records are kept for ever (compacted topics)."""

    name: str
    title: str
    description: str
    owner: str
    stability: str
    since: str
    key: Literal["biller/account", "biller"]
    partitions: int
    cleanup: Literal["delete", "compact"]
    retention_days: int
    pii: bool
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    replay: bool
    dlq: bool
    schema: dict[str, Any] = field(repr=False)

    @property
    def subject(self) -> str:
        """The registry's subject of the topic's values."""
        return f"{self.name}-value"

    def kept_s(self) -> dict[str, float]:
        """How long the topic and its `.replay` keep a record, in seconds by name, where not for ever."""
        days = {self.name: self.retention_days, self.name + REPLAY: REPLAY_DAYS}
        return {name: kept * DAY_MS / 1000 for name, kept in days.items() if kept > 0}

    @property
    def schema_text(self) -> str:
        """The newest schema as it is registered."""
        return json.dumps(self.schema)

    @property
    def short(self) -> str:
        """The name people use: `payment.received` of `billing.payment.received.v1`."""
        return ".".join(self.name.split(".")[1:-1])


def load_catalog(schemas: Path) -> dict[str, Topic]:
    """All topics by name. Raises ValueError naming the file that does not fit."""
    catalog = {}
    for path in sorted(schemas.glob("*/topic.yaml")):
        catalog[path.parent.name] = read_topic(path)
    if not catalog:
        raise ValueError(f"{schemas}: no topic.yaml in any folder")
    return catalog


def read_topic(path: Path) -> Topic:
    """One topic from its topic.yaml and the newest schema beside it."""
    try:
        stated: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        newest = max(path.parent.glob("v*.avsc"), key=lambda file: int(file.stem[1:]))
        for several in ("producers", "consumers"):
            stated[several] = tuple(stated[several])
        return Topic(name=path.parent.name, schema=json.loads(newest.read_text()), **stated)
    except (yaml.YAMLError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: {error}") from None


def find_topic(catalog: Mapping[str, Topic], name: str) -> Topic | None:
    """The topic by its full or its short name."""
    return catalog.get(name) or next((topic for topic in catalog.values() if topic.short == name), None)
