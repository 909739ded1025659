"""What each folder of tests took against its budget, and what was left out, at the end of a run."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import pytest

BUDGETS_S = {
    "unit": 75,
    "contract": 60,
    "simulation": 120,
    "integration": 600,
    "e2e": 360,
    "chaos": 240,
}
TESTS = Path(__file__).parent


class Summary:
    """Adds up each folder's seconds (set-up included) and the tests that the selection left out."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.tests: Counter[str] = Counter()
        self.left_out = 0

    @pytest.hookimpl
    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self.left_out += sum(item.get_closest_marker("extra") is not None for item in items)

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        parts = Path(report.nodeid.partition("::")[0]).parts
        folder = parts[1] if parts[0] == "tests" and len(parts) > 2 else "other"
        self.seconds[folder] += report.duration
        self.tests[folder] += report.when == "call"

    @pytest.hookimpl
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        nothing_there = exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED
        if nothing_there and session.config.option.markexpr == "extra":
            session.exitstatus = pytest.ExitCode.OK  # no test needs more than Python: nothing failed

    @pytest.hookimpl
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.tests:
            return
        terminalreporter.section("time by folder")
        for folder, seconds in sorted(self.seconds.items()):
            budget = BUDGETS_S.get(folder)
            over = "  OVER BUDGET" if budget and seconds > budget else ""
            of_budget = f" of {budget} s" if budget else ""
            count = self.tests[folder]
            terminalreporter.line(f"{folder:12} {count:5} tests {seconds:7.1f} s{of_budget}{over}")
        if self.left_out:
            terminalreporter.line(
                f"Left out: {self.left_out} tests that need more than Python; `make test-extra` runs them."
            )
