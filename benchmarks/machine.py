"""This machine: how fast it is just now, and what a process has used of it."""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.managed import CHILD

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Usage:
    """CPU seconds (user and system) so far, and megabytes of memory now and at the most."""

    cpu_s: float = 0.0
    rss_mb: float = 0.0
    peak_mb: float = 0.0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.cpu_s + other.cpu_s, self.rss_mb + other.rss_mb, self.peak_mb + other.peak_mb)


def ending_with_us(command: Sequence[str]) -> list[str]:
    """The command as a process that ends when this one does, whatever ends this one."""
    return [sys.executable, "-I", "-S", str(CHILD), str(os.getpid()), *command]


def usage(*pids: int) -> Usage:
    """What these processes and their children have used; one that is gone counts nothing."""
    return sum((_one(pid) for each in pids for pid in _descendants(each)), Usage())


def _one(pid: int) -> Usage:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return Usage()
    cpu_s = sum(map(int, stat[11:15])) / CLOCK_TICKS
    return Usage(cpu_s, _megabytes(status, "VmRSS:"), _megabytes(status, "VmHWM:"))


def _megabytes(status: str, name: str) -> float:
    _, _, found = status.partition(name)
    return int(found.split()[0]) / 1024 if found else 0.0


def _descendants(pid: int) -> list[int]:
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def yardstick() -> float:
    """Seconds of a fixed loop in plain Python, the best of three: how fast this machine is just now."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        total = 0
        for number in range(2_000_000):
            total += number * number % 7
        times.append(time.perf_counter() - began)
    return min(times)
