"""Whatever ends a program also ends what it started."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM and a closed terminal are raised as KeyboardInterrupt, so that `finally` runs as for Ctrl-C.

    Only in the main thread. A second signal while cleaning up is not heard: the clean-up is bounded.
    """

    def interrupt(number: int, _frame: FrameType | None) -> None:
        for ending in (*ENDING, signal.SIGINT):
            signal.signal(ending, signal.SIG_IGN)
        raise KeyboardInterrupt(signal.Signals(number).name)

    before = {number: signal.signal(number, interrupt) for number in (*ENDING, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
