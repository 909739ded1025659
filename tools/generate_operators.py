"""Writes the list of commands in docs/operators/README.md, between its markers: run by `make generate`."""

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from services.bus.settings import ROOT
from services.cli.app import cli

TARGET = ROOT / "docs" / "operators" / "README.md"
BEGIN = "<!-- commands: made by `make generate` from services/cli; change those, not this -->"
END = "<!-- /commands -->"


def render() -> str:
    """The page with its list made anew; SystemExit where a marker is missing or stands twice."""
    page = TARGET.read_text(encoding="utf-8")
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise SystemExit(f"{TARGET.name} needs these two lines once, in this order:\n{BEGIN}\n{END}")
    before, rest = page.split(BEGIN)
    found = sorted(_found(get_command(cli), "billbus"))
    rows = [f"| {_linked(name)} | {what} |" for name, what in found]
    lines = ["| command | what it does |", "|---|---|", *rows]
    return f"{before}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{rest.split(END)[1]}"


def _found(command: Any, name: str) -> Iterator[tuple[str, str]]:
    """Each command with the first paragraph of its help; a group only where it does something by itself."""
    inside = getattr(command, "commands", {})
    if name != "billbus" and (not inside or command.invoke_without_command):
        what = " ".join((command.help or "").split("\n\n")[0].split()).replace("|", "\\|")
        yield name, what
    for word, each in inside.items():
        yield from _found(each, f"{name} {word}")


def _linked(name: str) -> str:
    """The command, leading to its own page where there is one."""
    page = f"{name.split()[1]}.md"
    return f"[`{name}`]({page})" if (TARGET.parent / page).exists() else f"`{name}`"
