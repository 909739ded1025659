"""Writes docs/configuration.md from the settings and the biller's model: run by `make generate`."""

import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from zoneinfo import ZoneInfo

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from services.bus.biller import Biller
from services.bus.settings import PORTS, ROOT, Settings, variable
from services.bus.support import SECTIONS, SupportMatrix

TARGET = ROOT / "docs" / "configuration.md"
HEAD = """# Configuration

Made by `make generate` from `services/bus/settings.py` and `services/bus/biller.py`; change those, not this.

A process reads its settings from the environment, its secrets from a folder or the environment, and one
YAML file a biller. All of it is checked at start; whatever is wrong is said in one message that names the
variable, or file and field, never a value. `billbus doctor` checks the same, and what it points to.
"""
SECRETS = """
## Secrets

A biller's file holds the *names* of secrets. A secret is looked for in the file of that name in the folder
`BILLBUS_SECRETS`, then in the environment variable `BILLBUS_SECRET_<NAME>`, upper case with `_` for `-`:
`acme-imt-token` is `BILLBUS_SECRET_ACME_IMT_TOKEN`. White space around a value is dropped, an empty one is
missing. A file that changes is read again at the next use, so a key is rotated without a restart.
"""
BILLERS = """
## A biller's file

`<slug>.yaml` in the folder `BILLBUS_BILLERS`; examples are in `deploy/local/billers/`. `${NAME}` in a text is
replaced by the environment variable, `${NAME:-text}` by `text` where it is not set. A field that is not
named here is refused. What is marked assumed is not public knowledge about a partner: change it here.
"""
SWITCHES = """
### Switches

`data`, `products`, `features` and `equipment` switch rows of the support table by slug. A row that is not
supported, switched on, stops the service with the row's sentence. Of the supported ones those below are off
until they are switched on; the others belong to every biller and cannot be switched off.
"""


def render() -> str:
    """The whole page."""
    parts = [HEAD, "\n## Environment\n\n", table(_settings(), "variable"), _ports(), SECRETS, BILLERS]
    parts += ["\n", *_models(Biller, ""), SWITCHES, "\n", _switches()]
    return "".join(parts)


def table(rows: Iterator[tuple[str, str, str]], first: str) -> str:
    lines = [f"| {first} | default | what it is |", "|---|---|---|"]
    lines += [f"| `{name}` | {default} | {text} |" for name, default, text in rows]
    return "\n".join(lines) + "\n"


def _settings() -> Iterator[tuple[str, str, str]]:
    for name, field in Settings.model_fields.items():
        if name != "service":
            yield variable(name), _default(field), _text(field)


def _ports() -> str:
    listed = ", ".join(f"{name} {port}" for name, port in PORTS.items())
    return f"\nDefault ports: {listed}.\n"


def _models(model: type[BaseModel], prefix: str) -> Iterator[str]:
    """A table for the model, then one for each model within it."""
    inner: dict[str, type[BaseModel]] = {}
    rows = []
    for name, field in model.model_fields.items():
        nested = _nested(field.annotation)
        if nested is not None:
            inner[f"{prefix}{name}"] = nested
        rows.append((f"{prefix}{name}", _default(field), _text(field)))
    if prefix:
        yield f"\n### `{prefix.rstrip('.')}`\n\n{model.__doc__}\n\n"
    yield table(iter(rows), "field")
    seen: set[type[BaseModel]] = set()
    for path, nested in inner.items():
        if nested not in seen:
            seen.add(nested)
            yield from _models(nested, f"{path}.")


def _nested(annotation: Any) -> type[BaseModel] | None:
    if get_origin(annotation) in (Union, types.UnionType, Annotated):
        return next((found for item in get_args(annotation) if (found := _nested(item))), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None or value is PydanticUndefined or value in ("", {}):
        return "none"
    if isinstance(value, BaseModel):
        return "see below"
    if isinstance(value, Path):
        return f"`{value.relative_to(ROOT) if value.is_absolute() else value}`"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`".replace("|", "\\|")


def _text(field: FieldInfo) -> str:
    text = field.description or ""
    choices = _choices(field.annotation)
    if choices:
        text += " One of " + ", ".join(f"`{choice}`" for choice in choices) + "."
    if field.annotation is ZoneInfo:
        text += " Such as `America/Chicago`."
    return text.replace("|", "\\|")


def _choices(annotation: Any) -> list[str]:
    return [str(choice) for choice in get_args(annotation)] if get_origin(annotation) is Literal else []


def _switches() -> str:
    matrix = SupportMatrix.load(ROOT / "schemas" / "partners" / "support.yaml")
    rows = [row for row in matrix.rows if row.optional]
    lines = ["| switch | row | what it does |", "|---|---|---|"]
    lines += [f"| `{SECTIONS[row.kind]}.{row.slug}` | {row.name} | {row.sentence} |" for row in rows]
    return "\n".join(lines) + "\n"
