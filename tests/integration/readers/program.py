"""Programs of examples/consumers at work: built in an empty folder, started as docs/subscribe.md says."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local import Stack
from deploy.local.managed import Managed
from deploy.local.processes import ROOT
from tests.deadline import until

CONSUMERS = ROOT / "examples" / "consumers"
BUILD_LIMIT_S, READ_LIMIT_S, STOP_LIMIT_S = 300, 60, 20
NODE = (
    24  # runs TypeScript as it is; the npm package of that name brings it where the machine has an older one
)

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
            environment=os.environ | {"KAFKA": stack.bootstrap, "REGISTRY": stack.registry, "GROUP": group},
            cwd=self.folder,
        )
        process.start()
        return Reading(process)


def build_python(folder: Path) -> Program:
    """With the packages of our own environment; -I keeps everything else of ours away."""
    _copy("python", folder)
    return Program([sys.executable, "-I", "consume.py"], folder)


def build_python_by_lock(folder: Path) -> Program:
    """With the packages of its lock file alone."""
    _copy("python", folder)
    _run(folder, sys.executable, "-m", "venv", ".venv")
    _run(folder, ".venv/bin/pip", "install", "--require-hashes", "-r", "requirements.lock")
    return Program([".venv/bin/python", "consume.py"], folder)


def build_go(folder: Path) -> Program:
    _copy("go", folder)
    _run(folder, "go", "build")
    return Program(["./consume"], folder)


def build_java(folder: Path) -> Program:
    _copy("java", folder)
    _run(folder, "mvn", "-q", "-B", "dependency:copy-dependencies")
    return Program(["java", "-cp", "lib/*", "Consume.java"], folder, stopped=128 + signal.SIGTERM)


def build_typescript(folder: Path) -> Program:
    _copy("typescript", folder)
    _run(folder, "npm", "ci")
    return Program([_node(folder), "consume.ts"], folder)


BUILDERS: dict[str, Callable[[Path], Program]] = {
    "python": build_python,
    "python-by-lock": build_python_by_lock,
    "go": build_go,
    "java": build_java,
    "typescript": build_typescript,
}


def _node(folder: Path) -> str:
    """A Node that is new enough: the machine's, or one that is installed beside the program."""
    if int(_run(folder, "node", "--version").removeprefix("v").split(".")[0]) >= NODE:
        return "node"
    _run(folder, "npm", "install", "--prefix", "newer", f"node@{NODE}")
    return "newer/node_modules/node/bin/node"


def _copy(language: str, folder: Path) -> None:
    shutil.copytree(CONSUMERS / language, folder, dirs_exist_ok=True)


def _run(folder: Path, tool: str, *arguments: str) -> str:
    """What it printed; fails the test where the tool is not there or does not do its work."""
    assert shutil.which(tool) or (folder / tool).exists(), f"{tool} is not here, and this test needs it"
    command = [tool, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=BUILD_LIMIT_S)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout
