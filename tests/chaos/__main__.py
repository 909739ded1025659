"""`python -m tests.chaos`: a storm over the whole of payments and settings, and the verdict on it."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from deploy.local.errors import LocalError
from tests.chaos.judge import judge
from tests.chaos.report import as_json, show
from tests.chaos.run import Settings, run
from tests.chaos.storm import KINDS


def main() -> int:
    """0 when everything holds, 1 when something does not, 2 when it could not be tried."""
    asked = arguments()
    console = Console(width=max(Console().width, 150))
    seed = asked.seed if asked.seed is not None else time.time_ns() // 1_000_000 % 10**8
    settings = Settings(seed, asked.events, asked.minutes * 60, asked.fault or (), asked.replicas)
    console.print(f"SEED={seed} EVENTS={asked.events} MINUTES={asked.minutes:g}", highlight=False)
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(f"{time.monotonic() - began:6.1f} s  {text}", highlight=False, markup=False)

    with kept_or_temporary(asked.data) as folder:
        try:
            facts = asyncio.run(run(settings, folder, say))
        except LocalError as error:
            console.print(str(error), style="red", highlight=False, markup=False)
            return 2
    verdict = judge(facts)
    show(console, verdict)
    if asked.json:
        about = {"seed": seed, "events": asked.events, "minutes": asked.minutes, "replicas": asked.replicas}
        asked.json.write_text(json.dumps(as_json(verdict, **about), indent=1) + "\n", encoding="utf-8")
    console.print(f"SEED={seed}", highlight=False)
    return 0 if verdict.holds else 1


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000, help="payments in all")
    parser.add_argument("--minutes", type=float, default=8.0, help="over which they are sent")
    parser.add_argument("--seed", type=int, help="of the schedule; else from the clock")
    parser.add_argument("--replicas", type=int, default=2, help="of payments")
    parser.add_argument("--fault", action="append", choices=[kind.name for kind in KINDS], help="only these")
    parser.add_argument("--json", type=Path, help="write the report to this file as well")
    parser.add_argument("--data", type=Path, help="keep logs and data in this folder")
    return parser.parse_args()


@contextmanager
def kept_or_temporary(data: Path | None) -> Iterator[Path]:
    """The folder named, which stays, or one that goes with the block."""
    if data is not None:
        yield data
        return
    with tempfile.TemporaryDirectory(prefix="billbus-chaos-") as folder:
        yield Path(folder)


if __name__ == "__main__":
    sys.exit(main())
