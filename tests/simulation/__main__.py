"""`python -m tests.simulation --schedules 10000 [--seed N]`: exit 1 where a promise was broken."""

import argparse
import sys
import time

from tests.simulation.schedule import simulate


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--schedules", type=int, default=500)
    parser.add_argument("--seed", type=int, help="the first seed; from the clock where none is given")
    parser.add_argument("--diary", action="store_true", help="print what happened")
    given = parser.parse_args()
    first = given.seed if given.seed is not None else int(time.time())
    print(f"{given.schedules} schedules from seed {first}")  # noqa: T201 - a command's answer
    bad = 0
    for seed in range(first, first + given.schedules):
        run = simulate(seed)
        if given.diary:
            print("\n".join(run.diary))  # noqa: T201 - a command's answer
        if run.faults:
            bad += 1
            print(f"seed {seed}: {len(run.faults)}: {run.faults[0]}")  # noqa: T201 - a command's answer
    print(f"{bad} of {given.schedules} broke a promise")  # noqa: T201 - a command's answer
    return bool(bad)


sys.exit(main())
