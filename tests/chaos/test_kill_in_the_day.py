"""kill -9 of each of the five services during the demo's business day: nothing lost, nothing doubled.

The judge reads only what the partners were answered, their ledgers and what is parked; it ends with 1 when
anything does not add up.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from deploy.local.ports import free_ports, variable
from deploy.local.processes import ROOT

LIMIT_S = 420


def test_each_of_the_five_is_killed_and_the_day_adds_up(tmp_path: Path) -> None:
    ports = {variable(name): str(port) for name, port in free_ports().items()}
    day = subprocess.run(
        [sys.executable, "-m", "deploy.local.demo", "--kill", "all", "--data", str(tmp_path / "day")],
        cwd=ROOT,
        env={**environment(), **ports},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert day.returncode == 0, day.stdout + day.stderr


def environment() -> dict[str, str]:
    """Our own, without what would move the day's parts elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith("BILLBUS_")}
