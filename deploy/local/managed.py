"""One process of the stack: started, watched until it is ready, stopped or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.errors import LocalError

CHILD = Path(__file__).with_name("child.py")
POLL_S = 0.05


@dataclass
class Managed:
    """A process with a log and a pid file under `folder`.

    An attached process dies with the one who started it, whatever ends that; a detached one stays
    until `stop_recorded` is told its folder.
    """

    name: str
    command: Sequence[str]
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    detached: bool = False
    cwd: Path | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "logs" / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """The process id; raises LocalError when it does not run."""
        if self.process is None or self.process.poll() is not None:
            raise LocalError(f"{self.name} is not running; read {self.log}.")
        return self.process.pid

    @property
    def alive(self) -> bool:
        process = self.process  # another thread may end it meanwhile
        return process is not None and process.poll() is None

    def start(self) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        wrapped = [sys.executable, "-I", "-S", str(CHILD), str(os.getpid()), *self.command]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(self.command) if self.detached else wrapped,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.cwd,
                env=dict(self.environment),
                start_new_session=True,
            )
        record = _record(self.folder, self.name)
        record.parent.mkdir(parents=True, exist_ok=True)
        record.write_text(f"{self.process.pid} {_born(self.process.pid)}\n")

    def wait_until(self, ready: Callable[[], bool], limit_s: float) -> None:
        """Returns once `ready` answers true; raises LocalError when it ends or `limit_s` seconds pass."""
        deadline = time.monotonic() + limit_s
        while not ready():
            if not self.alive:
                raise LocalError(
                    f"{self.name} ended while it was starting: {self.last_line()} (see {self.log})."
                )
            if time.monotonic() > deadline:
                raise LocalError(f"{self.name} was not ready after {limit_s:.0f} s; read {self.log}.")
            time.sleep(POLL_S)

    def last_line(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1][:300] if lines else "it wrote nothing"

    def terminate(self) -> None:
        """SIGTERM, without waiting."""
        self._signal(signal.SIGTERM)

    def stop(self, grace_s: float = 30) -> None:
        """Ends it: SIGTERM, and SIGKILL after `grace_s` seconds."""
        if self.process is None:
            return
        self._signal(signal.SIGTERM)
        try:
            self.process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self.process.wait()
        self._forget()

    def kill(self) -> None:
        """kill -9, as a crash would; returns when it is gone."""
        if self.process is None:
            return
        self._signal(signal.SIGKILL)
        self.process.wait()
        self._forget()

    def _signal(self, number: int) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, number)

    def _forget(self) -> None:
        _record(self.folder, self.name).unlink(missing_ok=True)
        self.process = None


def recorded(folder: Path) -> dict[str, int]:
    """The processes recorded under `folder` that still live, by name, newest first."""
    found: list[tuple[float, str, int]] = []
    for path in (folder / "pids").glob("*.pid"):
        try:
            pid, born = path.read_text().split()
        except (OSError, ValueError):
            continue
        if born and _born(int(pid)) == born:
            found.append((path.stat().st_mtime, path.stem, int(pid)))
    return {name: pid for _, name, pid in sorted(found, reverse=True)}


def stop_recorded(folder: Path, grace_s: float = 30) -> list[str]:
    """Ends every process recorded under `folder`, the last started first; returns their names."""
    stopped = []
    for name, pid in recorded(folder).items():
        born = _born(pid)
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + grace_s
        while _born(pid) == born:
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
            time.sleep(POLL_S)
        stopped.append(name)
    for path in (folder / "pids").glob("*.pid"):
        path.unlink(missing_ok=True)
    return stopped


def _record(folder: Path, name: str) -> Path:
    return folder / "pids" / f"{name}.pid"


def _born(pid: int) -> str:
    """When a process began, in the kernel's ticks: with the pid it names one process for ever.

    Empty when it is gone (a zombie counts as gone).
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]
