"""The page of a topic, made from its folder in schemas/ and nothing else."""

import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from services.bus.catalog import DLQ, REPLAY, REPLAY_DAYS, Consumer, Topic
from services.bus.topics import DLQ_DAYS
from tools.site.fields import Field, fields_of
from tools.site.history import history
from tools.site.subscribing import commands

FIRST_FOUND = "---\nsearch:\n  boost: 4\n---\n"
"""Front matter: who searches for a topic's name finds its page before those that speak of it."""
WHEN = {
    "current": "Whenever the state of a key changes; the newest record of each key stays.",
    "outcome": "Whenever a delivery is settled or parked: another state or attempt is another record.",
    "fact": "When it happened, once a fact; one that is told again has the same `ce_id`.",
}
"""By the last word of a topic's name; any other word than the first two is a fact."""


def topic_page(topic: Topic, folder: Path, services: Collection[str]) -> str:
    """Markdown. `services` are ours, which have a page of their flow."""
    parts = [
        f"{FIRST_FOUND}# {topic.title}\n\n`{topic.name}`{{ .topic-name }}\n",
        _deprecated(topic),
        f"{topic.description}\n",
        f"## At a glance\n\n{_glance(topic, services)}",
        f"## Who reads it\n\n{_readers(topic.consumers, services)}",
        f"## Fields\n\n{_fields(list(fields_of(topic.schema)))}",
        f"## Examples\n\n{''.join(_examples(folder))}",
        "## Subscribe\n\nIn an empty folder, with `BILLBUS` and `DAY` set as in "
        f"[Subscribe in five minutes](../subscribe.md):\n\n{commands(topic.name)}",
        f"## History of the schema\n\nReleased versions never change, and all of them stay readable "
        f"([how a topic changes](../evolve.md)).\n\n{history(topic, folder)}",
    ]
    return "\n".join(part for part in parts if part)


def _deprecated(topic: Topic) -> str:
    if topic.deprecated is None:
        return ""
    after = topic.deprecated.replaced_by
    text = f"Since {topic.deprecated.since}; nothing is written from {topic.deprecated.ends} on."
    return f'!!! warning "Deprecated"\n\n    {text} Use [`{after}`]({after}.md) instead.\n'


def _service(name: str, services: Collection[str]) -> str:
    return f"[{name}](../flows/{name}.md)" if name in services else name


def _glance(topic: Topic, services: Collection[str]) -> str:
    beside = [
        f"`{topic.name}{suffix}` ({what}, {days} days)"
        for suffix, there, what, days in (
            (REPLAY, topic.replay, "records told again for reprocessing", REPLAY_DAYS),
            (DLQ, topic.dlq, "records that could not be decoded", DLQ_DAYS),
        )
        if there
    ]
    compact = topic.cleanup == "compact"
    rows = {
        "When": WHEN.get(topic.name.split(".")[-2], WHEN["fact"]),
        "Who writes": ", ".join(_service(name, services) for name in topic.producers),
        "Owner": topic.owner,
        "Stability": f"{topic.stability}, since {topic.since}",
        "Key": f"`{topic.key}`, UTF-8; all records of a key are in one partition, in order",
        "Partitions": str(topic.partitions),
        "Kept": "the newest record of each key, for ever (compacted)"
        if compact
        else f"{topic.retention_days} days",
        "Personal data": "yes, in the fields marked below" if topic.pii else "no",
        "Subject": f"`{topic.subject}`, record `{topic.schema['namespace']}.{topic.schema['name']}`",
        "Beside it": "<br>".join(beside) or "nothing",
    }
    lines = "".join(f"| **{name}** | {text} |\n" for name, text in rows.items())
    return f'<div class="glance" markdown>\n\n| what | how |\n|---|---|\n{lines}\n</div>\n'


def _readers(consumers: Collection[Consumer], services: Collection[str]) -> str:
    if not consumers:
        return "Nobody yet.\n"
    lines = "".join(
        f"| {_service(each.name, services)} | [{each.contact}](mailto:{each.contact}) | {_read(each)} |\n"
        for each in consumers
    )
    return f"| reader | contact | reads |\n|---|---|---|\n{lines}"


def _read(consumer: Consumer) -> str:
    return "whole events" if consumer.fields is None else ", ".join(f"`{name}`" for name in consumer.fields)


def _fields(fields: Collection[Field]) -> str:
    note = "Origin: a row of the support table, or `ours` where billbus makes the value.\n"
    head = "| field | type and unit | meaning | origin |\n|---|---|---|---|\n"
    return f'{note}\n<div class="fields" markdown>\n\n{head}{"".join(map(_field, fields))}\n</div>\n'


def _field(field: Field) -> str:
    personal = ' <br><span class="pii">personal data</span>' if field.pii else ""
    kind = " <br>".join(filter(None, (field.type, field.unit and f"<em>{field.unit}</em>", _default(field))))
    cells = [f"`{field.name}`{personal}", kind, field.meaning, field.origin]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _default(field: Field) -> str:
    return f"default `{field.default}`" if field.default else ""


def _examples(folder: Path) -> Iterator[str]:
    valid = [_stated(path) for path in sorted((folder / "examples").glob("valid-*.json"))]
    first, *others = sorted(
        valid, key=lambda stated: "/?" in stated.get("key", "")
    )  # of a known account first
    yield f"{first['about']}\n\n{_example(first)}\n"
    for stated in others:
        yield _folded("example", stated["about"], _example(stated))
    for path in sorted((folder / "examples").glob("invalid-*.json")):
        stated = _stated(path)
        yield _folded(
            "failure", f"Refused for `{stated['invalid']}`: {stated['about']}", _json(stated["value"])
        )


def _stated(path: Path) -> dict[str, Any]:
    stated: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return stated


def _example(stated: Mapping[str, Any]) -> str:
    beside = [
        f"{word} `{stated[name]}`"
        for name, word in (("key", "Key"), ("ce_id", "`ce_id`"))
        if stated.get(name)
    ]
    return f"{', '.join(beside)}\n\n{_json(stated['value'])}\n"


def _folded(kind: str, title: str, body: str) -> str:
    """A part that opens without JavaScript."""
    inner = "".join(f"    {line}".rstrip() + "\n" for line in body.splitlines())
    return f'??? {kind} "{title.replace(chr(34), chr(39))}"\n\n{inner}\n'


def _json(value: object) -> str:
    return f"```json\n{json.dumps(value, indent=2, ensure_ascii=False)}\n```"
