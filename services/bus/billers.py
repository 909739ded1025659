"""The billers' files, checked whole before anything starts."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from services.bus.biller import Biller
from services.bus.secrets import Secrets
from services.bus.settings import ConfigurationError
from services.bus.support import SECTIONS, SupportMatrix

__all__ = ["Biller", "Billers", "expand", "load_billers", "read_biller"]

REFERENCE = re.compile(r"\$\{([A-Z][A-Z0-9_]*)(?::-([^}]*))?\}")


class Billers(Mapping[str, Biller]):
    """The billers by slug."""

    def __init__(self, billers: Mapping[str, Biller]) -> None:
        self._billers = dict(billers)

    def __getitem__(self, slug: str) -> Biller:
        return self._billers[slug]

    def __iter__(self) -> Iterator[str]:
        return iter(self._billers)

    def __len__(self) -> int:
        return len(self._billers)


def load_billers(folder: Path, secrets: Secrets, support: SupportMatrix) -> Billers:
    """All billers of a folder.

    Raises ConfigurationError with everything that is wrong in all files, one line each, naming file and
    field; a switch that is not supported is refused with its row's sentence.
    """
    billers: dict[str, Biller] = {}
    problems: list[str] = []
    paths = sorted(folder.glob("*.yaml"))
    for path in paths:
        biller, found = read_biller(path, secrets, support)
        problems += [f"{path}: {problem}" for problem in found]
        if biller is not None:
            billers[biller.slug] = biller
    if not paths:
        problems.append(f"{folder}: no biller's file (*.yaml) here")
    if problems:
        raise ConfigurationError(problems)
    return Billers(billers)


def read_biller(path: Path, secrets: Secrets, support: SupportMatrix) -> tuple[Biller | None, list[str]]:
    """One biller's file, and what is wrong with it. The biller is None where it cannot be read at all."""
    try:
        stated = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        return None, [f"cannot be read: {' '.join(str(error).split())}"]
    if not isinstance(stated, dict):
        return None, ["is not a mapping of fields"]
    problems: list[str] = []
    stated = expand(stated, "", problems)
    problems += _unsupported(stated, support)
    try:
        biller = Biller.model_validate(stated)
    except ValidationError as error:
        seen = {problem.split(":")[0] for problem in problems}
        problems += [text for field, text in _readable(error) if field not in seen]
        return None, problems
    if biller.slug != path.stem:
        problems.append(f"slug: {biller.slug} does not match the file's name")
    if not biller.intake.bearer and not (biller.intake.user and biller.intake.password):
        problems.append("intake: needs a bearer, or a user and a password")
    return biller, problems + _missing_secrets(biller, secrets)


def expand(stated: Any, field: str, problems: list[str]) -> Any:
    """Replaces ${NAME} and ${NAME:-default} by the environment; unset without default is a problem."""
    if isinstance(stated, dict):
        return {name: expand(item, f"{field}.{name}".strip("."), problems) for name, item in stated.items()}
    if isinstance(stated, list):
        return [expand(item, f"{field}.{number}", problems) for number, item in enumerate(stated)]
    if not isinstance(stated, str):
        return stated

    def value(match: re.Match[str]) -> str:
        name, default = match.groups()
        found = os.environ.get(name, default)
        if found is None:
            problems.append(f"{field}: {name} is not set in the environment")
        return found if found is not None else match.group(0)

    return REFERENCE.sub(value, stated)


def _unsupported(stated: dict[str, Any], support: SupportMatrix) -> list[str]:
    problems = []
    for kind, section in SECTIONS.items():
        switched = stated.get(section)
        if isinstance(switched, dict):
            on_off = {str(slug): on for slug, on in switched.items() if isinstance(on, bool)}
            problems += support.switches(kind, on_off)
    for field in ("billing", "bill_images"):
        row = support.asked("biller_field", f"{field}={stated[field]}") if field in stated else None
        if row is not None and not row.supported:
            problems.append(f"{field}: {row.title}. {row.sentence}")
    features = stated.get("features")
    if not isinstance(features, dict) or "balance_forward" not in features:
        row = support.row("balance_forward")
        problems.append(f"features.balance_forward: required; write `true`. {row.detail}.")
    return problems


def _readable(error: ValidationError) -> Iterator[tuple[str, str]]:
    for item in error.errors():
        field = ".".join(str(part) for part in item["loc"])
        yield field, f"{field}: {item['msg'].removeprefix('Value error, ')}"


def _missing_secrets(biller: Biller, secrets: Secrets) -> list[str]:
    problems = []
    for field, name in biller.secret_names().items():
        try:
            secrets.get(name)
        except ConfigurationError as error:
            problems += [f"{field}: {problem}" for problem in error.problems]
    return problems
