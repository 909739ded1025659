"""Every benchmark with one command: `make bench`, or python -m benchmarks [CASE...] [--runs 3].

Starts a broker and a registry of its own on 127.0.0.1, runs our services and the peers in turn, prints
medians with the verdict on each ratio that was asked for, and writes all runs as JSON.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from benchmarks.footprint import bench_footprint
from benchmarks.intake.bench import bench_intake
from benchmarks.lane.bench import bench_lane
from benchmarks.lane.cases import CASES
from benchmarks.lane.contenders import Missing
from benchmarks.replay import bench_replay
from benchmarks.trace import bench_trace
from deploy.local import Stack
from deploy.local.processes import ROOT
from deploy.local.progress import fetch_with_progress
from services.bus import topics
from services.bus.catalog import load_catalog

OTHERS = {
    "intake": bench_intake,
    "footprint": bench_footprint,
    "trace": bench_trace,
    "replay": bench_replay,
}
RESULTS = ROOT / ".local" / "bench"


def main() -> int:
    given = arguments()
    RESULTS.mkdir(parents=True, exist_ok=True)
    found = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Stack(Path(folder) / "stack", parts=fetch_with_progress()) as stack,
    ):
        topics.apply(stack.bootstrap, stack.registry, load_catalog(ROOT / "schemas"))
        try:
            if lane := [name for name in given.cases if name in CASES]:
                found += bench_lane(lane, given.runs, given.only, stack, RESULTS)
            found += [OTHERS[name](given.runs, stack, RESULTS) for name in given.cases if name in OTHERS]
        except Missing as missing:
            print(f"{missing}.", file=sys.stderr)
            return 1
    given.json.write_text(json.dumps({"runs": given.runs, "cases": found}, indent=1) + "\n")
    print(f"\nAll runs: {given.json}")
    return 0


def arguments() -> argparse.Namespace:
    asked = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    asked.add_argument("cases", nargs="*", metavar="CASE", help=", ".join((*CASES, *OTHERS)))
    asked.add_argument("--runs", type=int, default=3, help="of each contender; the figures are medians")
    asked.add_argument("--only", nargs="+", default=[], metavar="CONTENDER", help="ours, ours-2 or a peer")
    asked.add_argument("--json", type=Path, default=RESULTS / "latest.json", help="where all runs go")
    given = asked.parse_args()
    if unknown := set(given.cases) - {*CASES, *OTHERS}:
        known = ", ".join((*CASES, *OTHERS))
        asked.error(f"there is no case {', '.join(sorted(unknown))}; there are {known}")
    given.cases = given.cases or [*CASES, *OTHERS]
    return given


if __name__ == "__main__":
    sys.exit(main())
