"""Programs of examples/consumers at work."""

from __future__ import annotations

import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.local import Stack
from deploy.local.managed import Managed
from deploy.local.processes import ROOT
from tests.deadline import until

GUIDE = ROOT / "docs" / "subscribe.md"
CONSUMERS = ROOT / "examples" / "consumers"
BUILD_LIMIT_S, READ_LIMIT_S, STOP_LIMIT_S = 300, 60, 20
NODE = 24
"""Runs TypeScript as it is; npm brings it where the machine has an older one."""
STOPPED = {"Java": 128 + signal.SIGTERM}  # what a program returns after SIGTERM; the others 0

NUMBERS = itertools.count()

Line = dict[str, Any]


class Reading:
    """A program that runs."""

    def __init__(self, process: Managed) -> None:
        self._process = process

    @property
    def alive(self) -> bool:
        return self._process.alive

    def printed(self) -> str:
        """All of its output so far, errors too."""
        return self._process.log.read_text()

    def lines(self) -> list[Line]:
        """The records that it has printed; anything else fails the test that asks."""
        *whole, _ = self.printed().split("\n")
        return [json.loads(line) for line in whole]

    def wait_for(self, count: int) -> list[Line]:
        """The records, once there are so many."""
        until(lambda: not self.alive or len(self.lines()) >= count, READ_LIMIT_S, f"record {count}")
        assert self.alive, self.printed()
        return self.lines()

    def stop(self) -> int | None:
        """Ends it with SIGTERM, if it still runs; what it returned."""
        process = self._process.process
        self._process.stop(STOP_LIMIT_S)
        return process.returncode if process else None


@dataclass(frozen=True)
class Program:
    """A program that was built in `folder`."""

    command: list[str]
    folder: Path
    stopped: int = 0
    """What it returns after SIGTERM."""
    login: Mapping[str, str] = field(default_factory=dict)
    """How it gets in, where the brokers ask who comes."""

    @contextmanager
    def reading(self, stack: Stack, group: str, since: str, *topics: str) -> Iterator[Reading]:
        """Runs it as one member of a group, and has it end by itself on SIGTERM."""
        reading = self._start(stack, group, since, *topics)
        try:
            yield reading
        finally:
            ended = reading.stop()
        assert ended == self.stopped, reading.printed()

    def refusal(self, stack: Stack, group: str, since: str, *topics: str) -> str:
        """What it says last before it ends by itself, as it must."""
        reading = self._start(stack, group, since, *topics)
        try:
            until(lambda: not reading.alive, READ_LIMIT_S, "the end")
        finally:
            ended = reading.stop()
        assert ended not in (0, None), reading.printed()
        return reading.printed()

    def _start(self, stack: Stack, group: str, since: str, *topics: str) -> Reading:
        process = Managed(
            name=f"{group}-{next(NUMBERS)}",
            command=[*self.command, since, *topics],
            folder=self.folder,
            environment=os.environ
            | {"KAFKA": stack.bootstrap, "REGISTRY": stack.registry, "GROUP": group}
            | dict(self.login),
            cwd=self.folder,
        )
        process.start()
        return Reading(process)


def build(language: str, folder: Path) -> Program:
    """The program of a language, built and started in an empty folder as docs/subscribe.md says.

    "here" is Python's, with the packages of our own environment; -I keeps everything else of ours away.
    """
    if language == "here":
        return Program([sys.executable, "-I", str(CONSUMERS / "python" / "consume.py")], folder)
    *building, start = _commands(language)
    for command in building:
        _run(folder, command)
    tool, *arguments = shlex.split(start[: start.index(" $DAY")])
    return Program([_node(folder) if tool == "node" else tool, *arguments], folder, STOPPED.get(language, 0))


def _commands(language: str) -> list[str]:
    """What docs/subscribe.md has a person type for a language."""
    section = GUIDE.read_text().split(f"\n## {language}\n")[1]
    return section.split("```sh\n")[1].split("```")[0].splitlines()


def _node(folder: Path) -> str:
    """A Node that is new enough: the machine's, or one that is installed beside the program."""
    if int(_run(folder, "node --version").removeprefix("v").split(".")[0]) >= NODE:
        return "node"
    _run(folder, f"npm install --prefix newer node@{NODE}")
    return "newer/node_modules/node/bin/node"


def _run(folder: Path, command: str) -> str:
    """What it printed; fails the test where the tool is not there or does not do its work."""
    tool = command.split()[0]
    assert shutil.which(tool) or (folder / tool).exists(), f"{tool} is not here, and this test needs it"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=folder,
        env=os.environ | {"BILLBUS": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=BUILD_LIMIT_S,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout
