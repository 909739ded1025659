"""What every command of `billbus` has: two examples that can be typed, --json, help that fits a screen."""

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer
from typer.main import get_command

from services.cli.app import cli
from services.cli.completion import OFFERS

WITHOUT_JSON = {"run": "a service logs JSON lines on stderr, and prints nothing"}
COLUMNS = 80


def commands(found: Any, *path: str) -> Iterator[tuple[str, Any]]:
    """Every command by what is typed for it; a group only where it does something by itself."""
    inside = getattr(found, "commands", {})
    if path and (not inside or found.invoke_without_command):
        yield " ".join(path), found
    for name, each in inside.items():
        yield from commands(each, *path, name)


BILLBUS: Any = get_command(cli)
COMMANDS = dict(commands(BILLBUS))


@pytest.fixture(params=COMMANDS)
def name(request: pytest.FixtureRequest) -> str:
    assert isinstance(request.param, str)
    return request.param


def test_its_help_has_two_examples_that_it_understands(name: str) -> None:
    told = COMMANDS[name].epilog or ""
    lines = [line.strip() for line in told.splitlines() if re.match(r"\s+(\w+=\S+ )*billbus ", line)]
    assert len(lines) == 2, f"billbus {name}: two examples in its epilog, as in services/cli/tail.py"
    options = {text for parameter in COMMANDS[name].params for text in parameter.opts}
    for line in lines:
        words = shlex.split(line[line.index("billbus") :])
        assert words[: len(name.split()) + 1] == ["billbus", *name.split()], line
        assert {word for word in words if word.startswith("--")} <= options, line


def test_it_speaks_json(name: str) -> None:
    has = any("--json" in parameter.opts for parameter in COMMANDS[name].params)
    assert has is not (name in WITHOUT_JSON)


def test_its_help_fits_a_screen(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(COLUMNS))
    assert BILLBUS.main([*name.split(), "--help"], prog_name="billbus", standalone_mode=False) == 0
    shown = capsys.readouterr().out
    assert "Two examples:" in shown
    assert [line for line in shown.splitlines() if len(line) > COLUMNS] == []
    assert "…" not in re.sub(r"\S*=…", "", shown), "a name or a help text is cut"


@pytest.mark.parametrize(
    ("parameter", "typed", "offered"),
    [
        ("topic", "payment.", ["payment.outcome", "payment.received"]),
        ("topic", "billing.bill", ["billing.bill.linked.v1"]),
        ("biller", "", ["acme", "birch", "cedar"]),
        ("lane", "bal", ["balances.refresh"]),
        ("user", "op", ["operations"]),
    ],
)
def test_a_shell_is_offered_what_begins_so(parameter: str, typed: str, offered: list[str]) -> None:
    assert OFFERS[parameter](typed) == offered


def test_a_shell_is_offered_nothing_where_the_settings_are_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BILLBUS_SCHEMAS", "/nowhere")
    assert (OFFERS["topic"]("p"), OFFERS["biller"]("a")) == ([], [])


def test_every_named_biller_and_topic_is_completed() -> None:
    for name, command in COMMANDS.items():
        for parameter in command.params:
            if parameter.name in OFFERS:
                context = typer.Context(command, info_name=name)
                assert parameter._custom_shell_complete is not None, (name, parameter.name)
                assert isinstance(parameter.shell_complete(context, ""), list)
