"""`python -m deploy.local up|down|status|...`: the parts alone, for a person or another program."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from deploy.local.artifacts import PINS, cache_folder
from deploy.local.errors import LocalError
from deploy.local.interruption import interruptible
from deploy.local.managed import recorded, stop_recorded
from deploy.local.pin import pin
from deploy.local.ports import chosen_ports
from deploy.local.processes import DEMO_BILLERS, prepare
from deploy.local.progress import fetch_with_progress
from deploy.local.stack import Stack

DEFAULT_DATA = ".local/run"


def up(data: Path) -> None:
    began = time.monotonic()
    running = recorded(data)
    stack = Stack(data, ports=chosen_ports(), detached=True)
    if {"kafka", "registry"} <= running.keys():
        print(f"Already running: Kafka {stack.bootstrap}, registry {stack.registry}")
        return
    fetch_with_progress()
    _, secrets, _ = prepare(data, DEMO_BILLERS)
    stack.start()
    print(
        f"Kafka {stack.bootstrap}, registry {stack.registry} (ready after {time.monotonic() - began:.1f} s)"
    )
    print(f"Data and logs are under {data}; `make down` ends it. For a service by hand:")
    print(f"  BILLBUS_SECRETS={secrets} BILLBUS_BOOTSTRAP={stack.bootstrap} \\")
    print(f"  BILLBUS_REGISTRY={stack.registry} .venv/bin/billbus run payments")


def down(data: Path) -> None:
    stopped = stop_recorded(data)
    print(f"Ended {', '.join(stopped)}." if stopped else "Nothing was running.")


def status(data: Path) -> None:
    running = recorded(data)
    for name, pid in sorted(running.items()):
        print(f"{name}: running, pid {pid}")
    if not running:
        print("Nothing is running.")


def fetch_only(_data: Path) -> None:
    fetch_with_progress()
    print(f"The parts are in {cache_folder()}.")


def prepare_only(data: Path) -> None:
    prepare(data, DEMO_BILLERS)
    print(f"Billers' files, their secrets and drop folders are in {data}.")


def pin_again(_data: Path) -> None:
    pin()
    print(f"{PINS} is written; look at the difference before you commit it.")


ACTIONS: dict[str, Callable[[Path], None]] = {
    "up": up,
    "down": down,
    "status": status,
    "fetch": fetch_only,
    "pin": pin_again,
    "prepare": prepare_only,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.local", description=__doc__)
    parser.add_argument("action", choices=sorted(ACTIONS))
    parser.add_argument(
        "--data",
        type=Path,
        default=Path(os.environ.get("BILLBUS_DATA", DEFAULT_DATA)),
        help="folder of data, logs and pids (default ${BILLBUS_DATA}, else %(default)s)",
    )
    arguments = parser.parse_args()
    data: Path = arguments.data.resolve()
    try:
        with interruptible():
            ACTIONS[arguments.action](data)
    except LocalError as problem:
        print(problem, file=sys.stderr)
        return 1
    except OSError as problem:
        where = problem.filename or data
        print(f"{where} cannot be used ({problem.strerror}); make room or set BILLBUS_DATA.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped; nothing was left running.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
