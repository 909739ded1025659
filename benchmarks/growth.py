"""A lag of a million: python -m benchmarks.growth [--events 1000000] [--seconds 120] [--delay-ms 2]

Loads the payments, starts the payments service in front of them, and looks at its rate and memory every few
seconds while it works them off for a bounded time. Neither may depend on how much is still to come.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import mean

from benchmarks.figures import Goal, judge, table
from benchmarks.lane.contenders import Ours, Running
from benchmarks.lane.partner import Partner
from benchmarks.lane.workshop import WORK, workshop
from benchmarks.machine import usage

LOOK_EVERY_S, START_LIMIT_S, POLL_S = 5.0, 60.0, 0.05
FIRST, LAST = "first quarter", "last quarter"
COLUMNS = ("seconds", "behind", "rate", "rss_mb", "cpu_us")
GOALS = (
    Goal("growth", "rate, last quarter by first", (LAST, "rate"), (FIRST, "rate"), "at least", 0.9),
    Goal("growth", "memory, last quarter by first", (LAST, "rss_mb"), (FIRST, "rss_mb"), "at most", 1.2),
    Goal("growth", "megabytes in the last quarter", (LAST, "rss_mb"), None, "at most", 250.0),
)


@dataclass(frozen=True)
class Look:
    """At an instant (monotonic seconds): payments at the partner, memory, CPU seconds so far."""

    at_s: float
    arrived: float
    rss_mb: float
    cpu_s: float


def main() -> int:
    given = arguments()
    with workshop() as shop:
        began = time.monotonic()
        shop.topics.load_once(given.events)
        print(f"{given.events:,} payments loaded in {time.monotonic() - began:.0f} s", flush=True)
        ours = Ours(shop.stack, shop.topics, WORK)
        with (
            Partner(shop.partner, given.delay_ms) as partner,
            ours.running(partner.url, given.in_flight) as running,
        ):
            looks = list(watch(partner, running, given.events, given.seconds))
    show(looks, given.events)
    return 0


def watch(partner: Partner, running: Running, events: int, seconds: float) -> Iterator[Look]:
    """A look every LOOK_EVERY_S from the first payment on, until the time is over or all is done."""
    limit = time.monotonic() + START_LIMIT_S
    while not partner.report()["distinct"]:
        running.pids()
        if time.monotonic() > limit:
            raise RuntimeError(f"nothing had arrived after {START_LIMIT_S:.0f} s")
        time.sleep(POLL_S)
    began = time.monotonic()
    while True:
        used = usage(*running.pids())
        look = Look(time.monotonic(), partner.report()["distinct"], used.rss_mb, used.cpu_s)
        yield look
        if look.arrived >= events or look.at_s - began >= seconds:
            return
        time.sleep(LOOK_EVERY_S)


def show(looks: Sequence[Look], events: int) -> None:
    """Each stretch between two looks, then the quarters and the verdict; in the first stretch it warms up."""
    stretches = [stretch(pair, looks[0].at_s, events) for pair in pairwise(looks)]
    print(table({f"until {each['seconds']:g} s": each for each in stretches}, COLUMNS[1:]))
    warm = looks[1:]
    quarter = max(len(warm) // 4, 1)
    quarters = {
        name: stretch(part, looks[0].at_s, events)
        for name, part in ((FIRST, warm[: quarter + 1]), (LAST, warm[-quarter - 1 :]))
    }
    print(table(quarters, COLUMNS))
    print(*(judge(goal, quarters).line() for goal in GOALS), sep="\n", flush=True)


def stretch(looks: Sequence[Look], began_s: float, events: int) -> dict[str, float]:
    """From the first of some looks to the last: payments a second, mean memory, CPU a payment."""
    first, last = looks[0], looks[-1]
    arrived, took_s = last.arrived - first.arrived, last.at_s - first.at_s
    return {
        "seconds": round(last.at_s - began_s),
        "behind": events - last.arrived,
        "rate": round(arrived / took_s) if took_s else 0,
        "rss_mb": round(mean(look.rss_mb for look in looks)),
        "cpu_us": round((last.cpu_s - first.cpu_s) / arrived * 1e6) if arrived else 0,
    }


def arguments() -> argparse.Namespace:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--events", type=int, default=1_000_000)
    asked.add_argument("--seconds", type=float, default=120.0, help="how long to watch it work them off")
    asked.add_argument("--delay-ms", type=int, default=2)
    asked.add_argument("--in-flight", type=int, default=200)
    return asked.parse_args()


if __name__ == "__main__":
    sys.exit(main())
