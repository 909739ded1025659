"""Wait for what must become true, never longer than said."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

STEP_S = 0.02


def until(holds: Callable[[], object], limit_s: float = 10, what: str = "it") -> None:
    """Returns as soon as `holds()` is true; fails the test after `limit_s` seconds."""
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come true within {limit_s} s"
        threading.Event().wait(STEP_S)
