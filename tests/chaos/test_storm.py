"""A storm of about a minute: faults one after another over real processes, judged from outside.

`make chaos` is the long one. The seed is printed, and BILLBUS_CHAOS_SEED draws the same storm again.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from rich.console import Console

from tests.chaos.judge import judge
from tests.chaos.report import show
from tests.chaos.run import Settings, run

EVENTS, LENGTH_S, BRISK = 6_000, 70.0, 0.45
FAULTS = ("kill -9", "SIGSTOP", "apply then hang", "500", "reset", "duplicates", "poison")


def test_a_short_storm_loses_doubles_and_disorders_nothing(tmp_path: Path) -> None:
    seed = int(os.environ.get("BILLBUS_CHAOS_SEED") or time.time_ns() // 1_000_000 % 10**8)
    console = Console(width=150)
    console.print(f"BILLBUS_CHAOS_SEED={seed}")
    settings = Settings(seed, EVENTS, LENGTH_S, FAULTS, brisk=BRISK)
    verdict = judge(asyncio.run(run(settings, tmp_path, console.print)))
    show(console, verdict)
    # how long accounts stand still is for `make chaos` to judge: here it would time all else the machine does
    assert not verdict.problems, f"seed {seed}: " + "\n".join(verdict.problems[:20])
    assert {line.fault for line in verdict.lines} >= set(FAULTS)
