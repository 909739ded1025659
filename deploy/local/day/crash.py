"""kill -9 of one service at a random moment, and its new start."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor
from dataclasses import dataclass
from random import Random

from deploy.local.installation import Installation
from deploy.local.processes import SERVICES

EARLIEST_S, LATEST_S = 0.5, 3.0
"""After the day's begin, and after the cut-off."""


@dataclass
class Crash:
    """What happens to some services, one after the other; `after_s` counts from the day's begin."""

    services: tuple[str, ...]
    after_s: float
    back_after_s: float = 0.0
    down: str = ""
    """The one that is killed and not back yet."""

    @classmethod
    def draw(cls, seed: int, day_s: float, kill: str | None = None) -> Crash:
        """Any of the five, the one named, or "all", at any moment of a day of `day_s` seconds; the same seed
        draws the same."""
        random = Random(f"crash {seed}")  # noqa: S311 - chance is the point, secrecy is not
        one = random.choice(SERVICES)
        after_s = random.uniform(EARLIEST_S, max(EARLIEST_S, day_s) + LATEST_S)
        if kill == "all":
            return cls(tuple(random.sample(SERVICES, len(SERVICES))), after_s / 4)
        return cls((kill or one,), after_s)

    async def happen(self, installation: Installation, crew: Executor) -> None:
        """Kills and starts again; returns when the last is ready. Raises LocalError when one is not.

        `crew` must outlive the installation: a process ends with the thread that started it.
        """
        await asyncio.sleep(self.after_s)
        loop, began = asyncio.get_running_loop(), time.monotonic()
        for service in self.services:
            self.down = service
            await loop.run_in_executor(crew, installation.kill, service)
            await loop.run_in_executor(crew, installation.start_service, service)
            self.down = ""
        self.back_after_s = time.monotonic() - began
