"""A page of docs/runbook: what of it is run, where that stands, and the same page with other output."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SECTIONS = (
    "How it shows",
    "What it means",
    "What to do",
    "How to know that it is over",
    "What not to do",
)
LEFT_OUT = "..."
_NOTE = re.compile(r"\s*<!-- (?P<kind>step|until): (?P<said>.+?) -->\s*$")
_EXIT = re.compile(r"\[exit (\d)(?: or (\d))?\]$")
_VARIABLE = re.compile(r"([A-Z_]+)=(\S+)")


@dataclass(frozen=True)
class Command:
    """A line after `$ ` with what the page shows of its output, in lines `begin` to `end` of the file.

    It has come to its end once `until` stands in its output, where the page says so. `ended` is what the
    page says of the exit code, `codes` those that it may have: two where it depends on more than this page.
    """

    text: str
    shown: tuple[str, ...]
    ended: str
    codes: tuple[int, ...]
    until: str
    begin: int
    end: int
    indent: str

    @property
    def variables(self) -> dict[str, str]:
        """What it sets, where it is nothing but that; else empty."""
        words = self.text.split()
        found = [_VARIABLE.fullmatch(word) for word in words]
        return {each[1]: each[2] for each in found if each} if all(found) else {}


@dataclass(frozen=True)
class Step:
    """What happens between two commands, by the name of the situation's method."""

    name: str


@dataclass(frozen=True)
class Page:
    """A page as it was read."""

    path: Path
    lines: tuple[str, ...]
    played: tuple[Command | Step, ...]

    @property
    def name(self) -> str:
        return self.path.stem

    @property
    def commands(self) -> list[Command]:
        return [each for each in self.played if isinstance(each, Command)]

    @property
    def sections(self) -> list[str]:
        return [line.removeprefix("## ") for line in self.lines if line.startswith("## ")]

    def with_output(self, printed: Mapping[int, Sequence[str]]) -> str:
        """The text, with these lines (first is the command's own) in place of a command that begins there."""
        made, at = list(self.lines), {command.begin: command for command in self.commands}
        for begin in sorted(printed, reverse=True):
            command = at[begin]
            made[begin : command.end] = [(command.indent + line).rstrip() for line in printed[begin]]
        return "\n".join(made) + "\n"


def read_page(path: Path) -> Page:
    """Raises ValueError, naming the line, for a block that does not begin with a command or does not end."""
    lines = path.read_text(encoding="utf-8").splitlines()
    played: list[Command | Step] = []
    at, until = 0, ""
    while at < len(lines):
        if (note := _NOTE.match(lines[at])) and note["kind"] == "step":
            played.append(Step(note["said"]))
        elif note:
            until = note["said"]
        elif lines[at].strip() == "```console":
            commands, at = _block(path, lines, at, until)
            played += commands
            until = ""
        at += 1
    return Page(path, tuple(lines), tuple(played))


def _block(path: Path, lines: Sequence[str], fence: int, until: str) -> tuple[list[Command], int]:
    """The commands of a block, and the line that ends it. `until` is the last command's."""
    indent = lines[fence][: lines[fence].index("`")]
    try:
        end = lines.index(f"{indent}```", fence + 1)
    except ValueError:
        raise ValueError(f"{path.name}:{fence + 1}: the block has no end") from None
    begins = [n for n in range(fence + 1, end) if lines[n].startswith(f"{indent}$ ")]
    if begins[:1] != [fence + 1]:
        raise ValueError(
            f"{path.name}:{fence + 2}: a block begins with a command, such as `$ billbus status`"
        )
    found = []
    for begin, stop in zip(begins, [*begins[1:], end], strict=True):
        said = [line.removeprefix(indent) for line in lines[begin:stop]]
        found.append(_command(said, begin, stop, indent, until if stop == end else ""))
    return found, end


def _command(said: list[str], begin: int, end: int, indent: str, until: str) -> Command:
    typed = 1
    while said[typed - 1].endswith("\\"):
        typed += 1
    text = " ".join(line.removesuffix("\\").strip() for line in said[:typed]).removeprefix("$ ")
    shown = said[typed:]
    ended = _EXIT.match(shown[-1]) if shown else None
    if ended:
        shown = shown[:-1]
    codes = tuple(int(code) for code in ended.groups() if code) if ended else (0,)
    return Command(text, tuple(shown), ended[0] if ended else "", codes, until, begin, end, indent)
