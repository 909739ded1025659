"""A biller's file as it is written: in its fields' order, each with what it is; names of secrets only."""

from collections.abc import Iterator, Mapping
from textwrap import wrap
from typing import Any

import yaml
from pydantic import BaseModel

from services.bus.biller import Biller
from services.operations.onboard_questions import part_of

WIDTH = 100
HEAD = (
    "Written by `billbus onboard`. `billbus doctor` checks this file, docs/configuration.md explains it. "
    "It holds the names of secrets, never a secret."
)


def as_yaml(stated: Mapping[str, Any]) -> str:
    """The whole file; fields that nobody knows are kept at its end, so that checking names them."""
    lines = [*_comment(HEAD, ""), *_section(Biller, stated, "")]
    unknown = {name: value for name, value in stated.items() if name not in Biller.model_fields}
    if unknown:
        lines += yaml.safe_dump(unknown, sort_keys=False).splitlines()
    return "\n".join(lines) + "\n"


def _section(model: type[BaseModel], stated: Mapping[str, Any], indent: str) -> Iterator[str]:
    for name, info in model.model_fields.items():
        if name not in stated:
            continue
        value, part = stated[name], part_of(info)
        if not indent:
            yield ""
        yield from _comment(info.description or "", indent)
        if part is not None and isinstance(value, Mapping):
            yield f"{indent}{name}:"
            yield from _section(part, value, f"{indent}  ")
            unknown = {each: value[each] for each in value if each not in part.model_fields}
            yield from (f"{indent}  {line}" for line in _dumped(unknown))
        else:
            yield from (f"{indent}{line}" for line in _dumped({name: value}))


def _dumped(stated: Mapping[str, Any]) -> list[str]:
    return yaml.safe_dump(dict(stated), sort_keys=False, width=WIDTH * 2).splitlines() if stated else []


def _comment(text: str, indent: str) -> Iterator[str]:
    for line in wrap(text, WIDTH - len(indent) - len("# ")):
        yield f"{indent}# {line}"
