"""Records of topics on the command line: what names them, and how their values are written."""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, tzinfo
from decimal import Decimal
from difflib import get_close_matches
from typing import Annotated, Any

import typer

from services.bus.catalog import DLQ, REPLAY, Topic, find_topic
from services.bus.settings import Settings, variable
from services.cli.output import WRONG_USE, stop

ShowPersonalData = Annotated[
    bool, typer.Option("--pii", help=f"Show personal data, where {variable('personal_data')} allows it.")
]


def named_topic(catalog: Mapping[str, Topic], name: str) -> Topic:
    """The topic by its full or short name; ends the command with the nearest names where there is none."""
    topic = find_topic(catalog, name)
    if topic is None:
        short = sorted(each.short for each in catalog.values())
        near = get_close_matches(name.removeprefix("billing.").removesuffix(".v1"), short, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(short)}."
        stop(WRONG_USE, f"There is no topic {name!r}; {hint}")
    return topic


def named_stream(catalog: Mapping[str, Topic], name: str) -> tuple[Topic, str]:
    """The same for a topic, its `.replay` or its `.dlq`: the topic and the suffix, '' for itself."""
    suffix = next((each for each in (REPLAY, DLQ) if name.endswith(each)), "")
    topic = named_topic(catalog, name.removesuffix(suffix))
    if (suffix == REPLAY and not topic.replay) or (suffix == DLQ and not topic.dlq):
        there = [
            each.short + suffix
            for each in catalog.values()
            if (each.replay if suffix == REPLAY else each.dlq)
        ]
        stop(WRONG_USE, f"{topic.short} has no {suffix}; there are {', '.join(sorted(there))}.")
    return topic, suffix


def refuse_personal_data(settings: Settings, *, asked_for: bool) -> None:
    """Ends the command where personal data is asked for and not allowed."""
    if asked_for and not settings.personal_data:
        name = variable("personal_data")
        stop(WRONG_USE, f"Personal data is not shown here: {name}=true allows --pii to those who may see it.")


def instant_of(text: str, zone: tzinfo) -> datetime:
    """A day (its midnight in `zone`) or an instant with its offset. Raises ValueError for anything else."""
    try:
        return datetime.combine(date.fromisoformat(text), time(), zone)
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise ValueError(
            f"{text!r} is neither a day (2026-11-20) nor an instant with its offset "
            "(2026-11-20T09:05:00-06:00)"
        )
    return at


def as_text(value: Any, zone: tzinfo = UTC) -> str:
    """For json.dumps: money with its cents, a day, an instant in `zone` with its milliseconds and offset."""
    if isinstance(value, datetime):
        return value.astimezone(zone).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, date | Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no text")


def readable(value: Any, zone: tzinfo) -> str:
    """A value on a terminal: JSON, and nothing in it that a terminal would obey."""
    if isinstance(value, datetime | date | Decimal):
        return as_text(value, zone)
    text = json.dumps(value, default=lambda each: as_text(each, zone), ensure_ascii=False)
    return text if text.isprintable() else json.dumps(value, default=lambda each: as_text(each, zone))


def plain(text: str) -> str:
    """A text on a terminal as it is, but nothing in it that a terminal would obey."""
    return text if text.isprintable() else json.dumps(text)[1:-1]
