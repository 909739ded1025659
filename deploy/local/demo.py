"""`make demo`: a business day of three billers on the real parts, and a table that adds up.

Exit code 0 when everything adds up, 1 when it does not or something could not start.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console

from deploy.local.compose import InContainers
from deploy.local.day.bills import read_files
from deploy.local.day.contract import Contract
from deploy.local.day.crash import Crash
from deploy.local.day.driver import Driver
from deploy.local.day.judge import Verdict, judge
from deploy.local.day.partners import BrokeOff, Partners
from deploy.local.day.plan import plan_day
from deploy.local.day.screen import Screen, show
from deploy.local.day.setup import Day, move_cut_off
from deploy.local.day.visit import show_around
from deploy.local.day.witness import Witness
from deploy.local.errors import LocalError
from deploy.local.installation import Installation, OnThisMachine
from deploy.local.interruption import interruptible
from deploy.local.managed import recorded
from deploy.local.processes import ROOT, SERVICES
from deploy.local.progress import fetch_with_progress

DEFAULT_DATA = ".local/run"
PAPER_WIDTH = 120
"""Where the output goes to a file."""
OURS = ("billers", "drop", "kafka", "kafka.properties", "logs", "pids", "registry", "secrets", "state")
"""What a run leaves in its folder; nothing else there is ever removed."""
CUT_OFF_AFTER_S, PARTS_USUALLY_S, SLOWEST = 55, 15, 4.0
"""From the start of the services to the cut-off, where the parts take so long; a slower machine gets more."""


def main() -> int:
    console = Console()
    if not console.is_terminal:
        console.width = PAPER_WIDTH
    try:
        with interruptible():
            return _run(_arguments(), console)
    except LocalError as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; nothing was left running.", file=sys.stderr)
        return 130


def _run(arguments: argparse.Namespace, console: Console) -> int:
    """So many days one after the other, each with a seed of its own; 0 when all add up."""
    results = []
    for number in range(arguments.runs):
        seed = (arguments.seed if arguments.seed is not None else secrets.randbelow(10**6)) + number
        screen = Screen(console)
        verdict = _one_day(arguments, screen, seed)
        results.append((seed, screen.elapsed_s, verdict.adds_up))
        console.print(
            f"Took {screen.elapsed_s:.0f} s; SEED={seed} plays the same day again.", highlight=False
        )
    if arguments.runs > 1:
        for seed, elapsed_s, adds_up in results:
            console.print(f"SEED={seed} {elapsed_s:5.0f} s  {'adds up' if adds_up else 'does NOT add up'}")
    return 0 if all(adds_up for *_, adds_up in results) else 1


def _one_day(arguments: argparse.Namespace, screen: Screen, seed: int) -> Verdict:
    data: Path = arguments.data.resolve()
    if not arguments.docker:
        fetch_with_progress()
    installation = _installation(data, keep=arguments.keep, docker=arguments.docker)
    kept = False
    # the crew outlives the installation: a process ends with the thread that started it
    with ThreadPoolExecutor(1) as crew:
        try:
            with screen:
                day = _start(installation, screen)
                facts = _play(installation, day, screen, crew, seed, arguments.kill)
            verdict = judge(facts)
            show(screen.console, verdict)
            kept = arguments.keep
        finally:
            if not kept:
                installation.stop()
    if kept:
        show_around(screen.console, installation, data)
    elif verdict.adds_up:
        _clear(data)
    else:
        screen.console.print(f"The logs of all processes are in {data / 'logs'}.", highlight=False)
    return verdict


def _installation(data: Path, *, keep: bool, docker: bool) -> Installation:
    if running := recorded(data):
        raise LocalError(f"{', '.join(sorted(running))} of {data} still run; `make down` ends them.")
    try:
        data.mkdir(parents=True, exist_ok=True)
        _clear(data)
    except OSError as problem:
        raise LocalError(f"{data} cannot be written ({problem.strerror}); set BILLBUS_DATA.") from problem
    return InContainers(data) if docker else OnThisMachine(data, keep=keep)


def _clear(data: Path) -> None:
    """Removes what an earlier run left."""
    for name in OURS:
        path = data / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _start(installation: Installation, screen: Screen) -> Day:
    """Everything ready, with a cut-off that is near."""
    say: Callable[[str], None] = lambda what: screen.note(f"Starting {what} ...")  # noqa: E731 - names the type
    began = time.monotonic()
    installation.start_parts(say)
    slowness = min(max(1.0, (time.monotonic() - began) / PARTS_USUALLY_S), SLOWEST)
    cut_off = datetime.now(UTC) + timedelta(seconds=CUT_OFF_AFTER_S * slowness)
    day = move_cut_off(installation.billers, cut_off)
    installation.start_services(say)
    screen.note(f"All is ready; the billers' day ends at {day.cut_off:%H:%M:%S} UTC.")
    return day


def _play(
    installation: Installation,
    day: Day,
    screen: Screen,
    crew: ThreadPoolExecutor,
    seed: int,
    kill: str | None,
) -> Any:
    contract = Contract(ROOT / "schemas" / "partners")
    files = read_files(contract)
    crash = Crash.draw(seed, (day.cut_off - datetime.now(UTC)).total_seconds(), kill)
    killed = ", ".join(crash.services)
    screen.note(f"SEED={seed}: {killed} will be killed with -9 after {crash.after_s:.1f} s.")

    async def play() -> Any:
        async with Partners(installation, contract) as partners:
            plan = plan_day(files, contract, seed)
            driver = Driver(day, partners, witness, screen, files, plan, crash, crew, seed)
            return await driver.play()

    with Witness(installation.bootstrap, installation.registry) as witness:
        try:
            return asyncio.run(play())
        except ExceptionGroup as several:
            raise _first(several) from several


def _first(several: ExceptionGroup[Exception]) -> Exception:
    """What ended the day; a part that gave up says it in a sentence."""
    error: Exception = several
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    return LocalError(f"The day broke off: {error}.") if isinstance(error, BrokeOff) else error


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave it running, and print every address")
    parser.add_argument("--docker", action="store_true", help="as containers, by docker-compose.yml")
    parser.add_argument("--seed", type=int, help="plays the same day with the same crash (default: any)")
    parser.add_argument("--kill", choices=(*SERVICES, "all"), help="which service is killed (default: any)")
    parser.add_argument("--runs", type=int, default=1, help="so many days, each on a fresh installation")
    parser.add_argument(
        "--data",
        type=Path,
        default=ROOT / os.environ.get("BILLBUS_DATA", DEFAULT_DATA),
        help="folder of data and logs (default ${BILLBUS_DATA}, else .local/run)",
    )
    arguments = parser.parse_args()
    if arguments.keep and arguments.docker:
        raise LocalError(
            "KEEP=1 does not go with DOCKER=1: use `docker compose up` and `docker compose down`."
        )
    if arguments.keep and arguments.runs > 1:
        raise LocalError("KEEP=1 goes with one run: leave out RUNS.")
    return arguments


if __name__ == "__main__":
    sys.exit(main())
