"""`billbus replay` as an operator runs it beside the running services."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deploy.local.processes import Processes

LIMIT_S = 300
REASON = "IMT restored last night's backup"


def command(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("billbus")), "replay", *arguments]


def begin(processes: Processes, *arguments: str) -> subprocess.Popen[str]:
    """Starts it for real, with a reason."""
    return subprocess.Popen(
        command(*arguments, "--yes", "--reason", REASON, "--json"),
        env=processes.environment("payments"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(running: subprocess.Popen[str], code: int = 0) -> dict[str, Any]:
    """Its report, once it has ended with this exit code."""
    out, errors = running.communicate(timeout=LIMIT_S)
    assert running.returncode == code, out + errors
    report: dict[str, Any] = json.loads(out)
    return report


def replay(processes: Processes, *arguments: str, code: int = 0) -> dict[str, Any]:
    """Does it, and returns the report."""
    return ended(begin(processes, *arguments), code)


def dry_run(processes: Processes, *arguments: str) -> dict[str, Any]:
    """What it would do."""
    done = subprocess.run(
        command(*arguments, "--json"),
        env=processes.environment("payments"),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def states(survey: dict[str, Any]) -> dict[str, int]:
    """Records by what has become of them."""
    return {row["state"]: row["records"] for row in survey["rows"]}


def adds_up(report: dict[str, Any]) -> dict[str, int]:
    """The sums of a report, which is whole."""
    names = ("selected", "skipped", "delivered", "refused", "parked", "open")
    sums = {name: sum(row[name] for row in report["rows"]) for name in names}
    assert sums["selected"] == sum(sums[name] for name in names[1:]), report
    return sums


def now() -> str:
    """This instant, as an option."""
    return datetime.now(UTC).isoformat()
