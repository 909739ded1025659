"""Plays a page: its commands in their order, each held against what the page shows of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from tests.e2e.runbook.likeness import missing, renewed
from tests.e2e.runbook.page import Command, Page
from tests.e2e.runbook.situation import Situation
from tests.e2e.runbook.terminal import Ran, Terminal

SEEN_WITHIN_S = 15
"""An effect on its way: so long a command that changes nothing is typed again."""
AGAIN_S = 0.3


@dataclass
class Played:
    """`problems` is what differs, a sentence each; `printed` what stands now where a command begins."""

    problems: list[str] = field(default_factory=list)
    printed: dict[int, list[str]] = field(default_factory=dict)


def play(page: Page, situation: Situation, terminal: Terminal, *, writing: bool) -> Played:
    """Plants the situation and types the page's commands. `writing`: what is shown may be out of date."""
    played = Played()
    try:
        variables = situation.plant()
        for each in page.played:
            if not isinstance(each, Command):
                situation.step(each.name)
            elif each.variables:
                _state(page, each, variables, played, terminal)
            else:
                ran = _typed(each, variables, terminal, writing=writing)
                _judge(page, each, ran, played)
    finally:
        situation.clear()
    return played


def _state(
    page: Page, command: Command, variables: dict[str, str], played: Played, terminal: Terminal
) -> None:
    """The line that says what the variables are here."""
    if command.variables.keys() != variables.keys():
        told = ", ".join(variables) or "none"
        played.problems.append(f"{page.name}:{command.begin + 1}: the situation gives {told}")
    stated = " ".join(f"{name}={variables.get(name, value)}" for name, value in command.variables.items())
    played.printed[command.begin] = [f"$ {terminal.masked(stated)}"]


def _typed(command: Command, variables: dict[str, str], terminal: Terminal, *, writing: bool) -> Ran:
    """The command's end; one that only looks is typed until it sees what the page shows."""
    deadline = time.monotonic() + SEEN_WITHIN_S
    while True:
        ran = terminal.run(command.text, variables)
        seen = writing or (ran.code in command.codes and not missing(command.shown, ran.lines))
        if (seen and command.until in ran.text) or "--yes" in command.text or time.monotonic() > deadline:
            return ran
        time.sleep(AGAIN_S)


def _judge(page: Page, command: Command, ran: Ran, played: Played) -> None:
    where = f"{page.name}:{command.begin + 1}: {command.text}"
    if command.until not in ran.text:
        played.problems.append(f"{where}\n  never says {command.until!r}:\n{_told(ran)}")
    if ran.code not in command.codes:
        told = command.ended or "[exit 0]"
        played.problems.append(f"{where}\n  ended with {ran.code}, the page says {told}:\n{_told(ran)}")
    if lacking := missing(command.shown, ran.lines):
        played.problems.append(
            f"{where}\n  does not print, or not in this order:\n{_listed(lacking)}\n  but:\n{_told(ran)}"
        )
    kept_end = command.ended if ran.code in command.codes else f"[exit {ran.code}]" if ran.code else ""
    ended = [kept_end] if kept_end else []
    typed = page.lines[command.begin : command.end - len(command.shown) - bool(command.ended)]
    kept = [line.removeprefix(command.indent) for line in typed]
    played.printed[command.begin] = [*kept, *renewed(command.shown, ran.lines), *ended]


def _told(ran: Ran) -> str:
    return _listed(ran.lines)


def _listed(lines: list[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)
