"""Where the lane's microseconds go: python -m benchmarks.profile_lane [--events 50000] [--functions 5]

Runs the payments service against the benchmark's partner while it samples itself by its own CPU time, and
prints microseconds an event for each stage; start-up is left out.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.lane.contenders import Ours, Running, launch
from benchmarks.lane.run import Load, measure
from benchmarks.lane.workshop import WORK, workshop
from benchmarks.stages import STAGES


@dataclass
class Profiled(Ours):
    """Our service in one process that writes where its CPU went to `profile`."""

    profile: Path = Path()

    @contextmanager
    def running(self, partner_url: str, in_flight: int) -> Iterator[Running]:
        processes = self.processes(partner_url, in_flight)
        environment = {**processes.environment("payments"), "BENCH_PROFILE": str(self.profile)}
        (self.folder / "state" / "payments").mkdir(parents=True)
        command = [sys.executable, "-m", "benchmarks.lane.profiled"]
        process = launch("profiled", command, environment, self.work / "profiled.log")
        try:
            yield process
        finally:
            process.stop()


def main() -> int:
    given = arguments()
    profile = WORK / "profile.json"
    profile.unlink(missing_ok=True)
    with workshop() as shop:
        profiled = Profiled(shop.stack, shop.topics, WORK, profile=profile)
        figures = measure(profiled, Load(given.events, given.delay_ms, given.in_flight), shop.partner)
    print(f"{figures['rate']:g}/s, {figures['warm_cpu_us']:g} us of CPU an event when warm")
    show(json.loads(profile.read_text()), given.events, given.functions)
    return 0


def show(profile: Mapping[str, Any], events: int, functions: int) -> None:
    each = 1e6 / events
    stages: dict[str, float] = profile["stages"]
    print(f"{'stage':<12}{'us/event':>9}")
    for stage in sorted(STAGES, key=lambda name: -stages.get(name, 0)):
        print(f"{stage:<12}{stages.get(stage, 0) * each:>9.1f}")
        for _, name, seconds in [f for f in profile["functions"] if f[0] == stage][:functions]:
            print(f"{'':<12}{seconds * each:>9.1f}  {name}")
    print(f"{'all':<12}{sum(stages.values()) * each:>9.1f}")


def arguments() -> argparse.Namespace:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--events", type=int, default=50_000)
    asked.add_argument("--delay-ms", type=int, default=2)
    asked.add_argument("--in-flight", type=int, default=200)
    asked.add_argument("--functions", type=int, default=0, help="how many functions of each stage to name")
    return asked.parse_args()


if __name__ == "__main__":
    sys.exit(main())
