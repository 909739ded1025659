"""Programs of examples/consumers at work: built in an empty folder, started as docs/subscribe.md says."""

from __future__ import annotations

import itertools
import json
import os
import shutil
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
READ_LIMIT_S, STOP_LIMIT_S = 60, 20

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

    @contextmanager
    def reading(self, stack: Stack, group: str, since: str, *topics: str) -> Iterator[Reading]:
        """Runs it as one member of a group, and has it end by itself on SIGTERM."""
        reading = self._start(stack, group, since, *topics)
        try:
            yield reading
        finally:
            ended = reading.stop()
        assert ended == 0, reading.printed()

    def refusal(self, stack: Stack, group: str, since: str, *topics: str) -> str:
        """What it says last before it ends by itself, as it must."""
        reading = self._start(stack, group, since, *topics)
        try:
            until(lambda: not reading.alive, READ_LIMIT_S, "the end")
        finally:
            ended = reading.stop()
        assert ended not in (0, None)
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


BUILDERS: dict[str, Callable[[Path], Program]] = {"python": build_python}


def _copy(language: str, folder: Path) -> None:
    shutil.copytree(CONSUMERS / language, folder, dirs_exist_ok=True)
