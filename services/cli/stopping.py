"""Ctrl-C in long work: it ends in good order."""

import signal
from collections.abc import Callable


def stopped_by_a_signal() -> Callable[[], bool]:
    """Whether Ctrl-C or SIGTERM came; a second one ends the process at once."""
    came: list[int] = []

    def stop_soon(number: int, _: object) -> None:
        came.append(number)
        signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop_soon)
    return lambda: bool(came)
