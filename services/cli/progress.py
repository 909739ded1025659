"""How far long work has come, on stderr, for people alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

Told = Callable[[int, int | None], None]
"""Told how much is done, of how much in all (None while nobody knows)."""


@contextmanager
def progress(what: str) -> Iterator[Told]:
    """A bar that vanishes at the end; nothing is written where stderr is no terminal."""
    with _bar() as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, size: bar.update(task, completed=done, total=size)


@contextmanager
def steps() -> Iterator[Callable[[str, int, int], None]]:
    """The same for work of several steps: it is told the step, how much of it is done, and of how much."""
    with _bar() as bar:
        task = bar.add_task("", total=None)
        yield lambda step, done, size: bar.update(task, description=step, completed=done, total=size)


def _bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
