"""`billbus status`: how everything is now, on one screen, and what of it needs a person."""

import asyncio
import json
import logging
import signal
import sys
import termios
import tty
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from services.bus.catalog import load_catalog
from services.bus.clock import Clock
from services.bus.settings import load_settings
from services.cli.output import FINE, FOUND, UNREACHABLE, AsJson, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from services.operations.status import Status
    from services.operations.status_needs import Need

    Look: TypeAlias = tuple[Status, list[Need]]

EXAMPLES = """Two examples:

  billbus status --watch

  billbus status --json | jq -r '.needs[] | .what'"""
EVERY_S = 2.0
PIPED_WIDTH = 160


def show_status(
    watch: Annotated[
        bool, typer.Option("--watch", help="Look again every 2 s; q or Ctrl-C ends it.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show services, lanes, billers, pauses and dead letters, and first of all what needs a person.

    With --watch --json one object a line. Exit code 0: all is well; 1: something needs a person; 2: wrong
    use; 3: the broker or the registry does not answer.
    """
    from services.operations.status import look
    from services.operations.status_needs import needs_of
    from services.operations.status_parked import count_parked

    settings = load_settings()
    catalog = load_catalog(settings.schemas)
    # what the broker's client logs stands on the screen already, as a sentence
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL + 1)

    async def ask() -> "Look":
        clock = Clock()
        status = await look(settings, catalog, clock, partial(count_parked, settings, catalog, clock))
        return status, needs_of(status)

    if not watch:
        status, needs = asyncio.run(ask())
        _print(status, needs, as_json)
        raise SystemExit(_code(status, needs))
    raise SystemExit(asyncio.run(_watch(ask, as_json)))


def _code(status: "Status", needs: "list[Need]") -> int:
    if status.away:
        return UNREACHABLE
    return FOUND if needs else FINE


def _print(status: "Status", needs: "list[Need]", as_json: bool) -> None:
    from services.cli.status_screen import as_object, screen

    if as_json:
        print_json(as_object(status, needs))
        return
    console = _console()
    console.print(screen(status, needs, console.width))


def _console() -> "Console":
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)


async def _watch(ask: "Callable[[], Coroutine[Any, Any, Look]]", as_json: bool) -> int:
    """The exit code of the last look."""
    from rich.live import Live

    from services.cli.status_screen import as_object, screen

    code, console = FINE, _console()
    whole = console.is_terminal and not as_json
    with _ended() as ended, Live(console=console, screen=whole, auto_refresh=False) as live:
        while not ended.is_set():
            looked = await _unless(ended, ask())
            if looked is None:
                break
            code = _code(*looked)
            if as_json:
                sys.stdout.write(json.dumps(as_object(*looked)) + "\n")
                sys.stdout.flush()
            else:
                live.update(screen(*looked, console.width), refresh=True)
            await _wait(ended)
    return code


async def _unless(ended: asyncio.Event, ask: "Coroutine[Any, Any, Look]") -> "Look | None":
    """The look, or None where the person has seen enough while it went on."""
    looking, ending = asyncio.ensure_future(ask), asyncio.ensure_future(ended.wait())
    await asyncio.wait((looking, ending), return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    if looking.done():
        return looking.result()
    looking.cancel()
    return None


async def _wait(ended: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(EVERY_S):
            await ended.wait()
    except TimeoutError:
        return


@contextmanager
def _ended() -> Iterator[asyncio.Event]:
    """Set by Ctrl-C, SIGTERM or the key q; the terminal is as before afterwards."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    if not sys.stdin.isatty():
        yield ended
        return
    keys = sys.stdin.fileno()
    before = termios.tcgetattr(keys)
    tty.setcbreak(keys)
    loop.add_reader(keys, lambda: ended.set() if sys.stdin.read(1) in ("q", "Q", "") else None)
    try:
        yield ended
    finally:
        loop.remove_reader(keys)
        termios.tcsetattr(keys, termios.TCSADRAIN, before)
