"""What is so when somebody opens a page: planted, led on between the commands, and cleared away."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import ClassVar

from deploy.local.processes import ROOT
from services.bus.biller import Biller
from services.bus.billers import read_biller
from services.bus.business_day import business_day
from services.bus.secrets import Secrets
from services.bus.support import SupportMatrix
from tests.e2e.both_sides import BothSides
from tests.e2e.runbook.terminal import Terminal


@dataclass
class Situation:
    """A page's own; its steps are methods, named as in the page's comments.

    `biller` is one that no other page has, so that what a day adds up to is this page's alone.
    """

    page: ClassVar[str]
    biller: ClassVar[str]
    sides: BothSides
    terminal: Terminal

    def plant(self) -> dict[str, str]:
        """Makes it so; returns the variables that the page's commands use."""
        return {}

    def clear(self) -> None:
        """Undoes what the page's own steps have not."""

    def step(self, name: str) -> None:
        """Raises AttributeError for one that the situation does not have."""
        getattr(self, name)()

    @property
    def day(self) -> str:
        """The biller's business day now."""
        return business_day(self.known_biller(), datetime.now(UTC)).isoformat()

    def known_biller(self) -> Biller:
        """The biller as its file says it."""
        support = SupportMatrix.load(ROOT / "schemas" / "partners" / "support.yaml")
        found, problems = read_biller(
            self.sides.processes.billers / f"{self.biller}.yaml", Secrets(), support
        )
        assert found is not None, problems
        return found
