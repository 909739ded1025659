"""What a shell offers for the values of options and arguments: topics, billers, lanes; no broker is asked.

A value is offered by its parameter's name, so that a new command needs no word for it.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_type_hints

import typer
from typer.models import ParameterInfo

from services.bus.settings import PORTS, load_settings
from services.bus.topics import LANES

Offer = Callable[[str], list[str]]


def offer_values(cli: typer.Typer) -> None:
    """Lets every command of the application offer the values that are known here."""
    for name, info in _parameters(cli):
        if info.autocompletion is None and name in OFFERS:
            info.autocompletion = OFFERS[name]


def _parameters(cli: typer.Typer) -> Iterator[tuple[str, ParameterInfo]]:
    callbacks: list[Any] = [command.callback for command in cli.registered_commands]
    for callback in (each for each in callbacks if each is not None):
        # a module that postpones its annotations makes them anew at every look
        callback.__annotations__ = get_type_hints(callback, include_extras=True)
        for name, hint in callback.__annotations__.items():
            yield from ((name, m) for m in getattr(hint, "__metadata__", ()) if isinstance(m, ParameterInfo))
    for group in cli.registered_groups:
        if group.typer_instance is not None:
            yield from _parameters(group.typer_instance)


def _offered(known: Callable[[], Iterable[str]]) -> Offer:
    """What begins as typed. Nothing where it cannot be known: a shell's prompt is no place for an error."""

    def offer(incomplete: str) -> list[str]:
        try:
            return sorted(each for each in known() if each.startswith(incomplete))
        except Exception:  # whatever is wrong, the command itself says it better
            return []

    return offer


def _topics() -> list[str]:
    """Their short names, and in full for who types `billing.`"""
    full = [path.parent.name for path in load_settings().schemas.glob("*/topic.yaml")]
    return full + [name.removeprefix("billing.").removesuffix(".v1") for name in full]


def _billers() -> list[str]:
    return [path.stem for path in load_settings().billers.glob("*.yaml")]


OFFERS: dict[str, Offer] = {
    "topic": _offered(_topics),
    "biller": _offered(_billers),
    "lane": _offered(lambda: LANES),
    "begin": _offered(lambda: LANES),
    "user": _offered(lambda: [*(name for name in PORTS if name != "sandbox"), "operations"]),
    "kind": _offered(lambda: ("data", "product", "feature", "equipment")),
}
"""By the name of the parameter."""
