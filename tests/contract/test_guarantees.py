"""The page on the guarantees names tests, metrics and log events: each must be there."""

import re
from pathlib import Path

from services.bus.settings import ROOT

PAGE = (ROOT / "docs" / "guarantees.md").read_text()
PYTHON = "\n".join(path.read_text() for path in sorted((ROOT / "services").rglob("*.py")))


def test_every_test_that_it_names_is_there() -> None:
    files = set(re.findall(r"tests/[\w/]+\.py", PAGE))
    assert len(files) > 20
    assert [name for name in files if not (ROOT / name).exists()] == []
    written = "\n".join(path.read_text() for path in sorted(Path(ROOT / "tests").rglob("test_*.py")))
    named = set(re.findall(r"(?:::|`)(test_\w+)`", PAGE))
    assert [name for name in named if f"def {name}(" not in written] == []


def test_every_metric_and_log_event_that_it_names_is_there() -> None:
    metrics = set(re.findall(r"`(billbus_\w+)`", PAGE))
    assert len(metrics) > 10
    assert [name for name in metrics if f'"{name}"' not in PYTHON] == []
    events = set(re.findall(r"`([a-z]+[._][a-z_]+)`", PAGE)) - {"in_doubt", "looked_up"}
    known = [name for name in events if f'"{name}"' in PYTHON]
    assert {"partition_halted", "lane_not_well", "part_failed", "dead_letter", "commit_failed"} <= set(known)
