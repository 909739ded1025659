"""How fast the payments service starts, and what memory it has at rest and under load."""

import time
from pathlib import Path
from typing import Any

from benchmarks.figures import Goal, judge, summary, table
from benchmarks.lane.contenders import Ours, build_go
from benchmarks.lane.partner import SOURCE, Partner
from benchmarks.lane.payments import OurTopics
from benchmarks.machine import usage
from deploy.local import Stack

NAME, TITLE = "footprint", "payments: from exec to ready and consuming, and memory; 50,000 payments of load"
DELAY_MS, IN_FLIGHT, EVENTS = 2, 200, 50_000
POLL_S, REST_S, LIMIT_S = 0.01, 3.0, 300
COLUMNS = ("ready_s", "start_cpu_s", "rest_mb", "load_mb")
GOALS = tuple(
    Goal(NAME, text, ("payments", figure), None, "at most", limit)
    for text, figure, limit in (
        ("seconds from exec to ready", "ready_s", 3.0),
        ("megabytes at rest", "rest_mb", 150.0),
        ("megabytes under load, at the most", "load_mb", 250.0),
    )
)


def bench_footprint(runs: int, stack: Stack, work: Path) -> dict[str, Any]:
    """Runs, prints and judges. The first start warms the machine's caches and is not counted."""
    print(f"\n{NAME}: {TITLE}", flush=True)
    partner = build_go(SOURCE, work)
    topics = OurTopics(stack.bootstrap, stack.registry)
    ours = Ours(stack, topics, work)
    try:
        found = [one(ours, partner) for _ in range(runs + 1)][1:]
    finally:
        topics.close()
    medians = {"payments": summary(found, worst=())}
    verdicts = [judge(goal, medians) for goal in GOALS]
    print(table(medians, COLUMNS))
    print(*(verdict.line() for verdict in verdicts), sep="\n", flush=True)
    return {
        "case": NAME,
        "title": TITLE,
        "contenders": {"payments": {"median": medians["payments"], "runs": found}},
        "goals": [verdict.as_json() for verdict in verdicts],
    }


def one(ours: Ours, binary: Path) -> dict[str, float]:
    """One life: empty topics, ready, at rest for a while, then a load."""
    ours.topics.renew()
    with Partner(binary, DELAY_MS) as partner, ours.processes(partner.url, IN_FLIGHT) as processes:
        began = time.monotonic()
        processes.launch("payments")
        while not processes.ready("payments"):
            processes.pid("payments")
            time.sleep(POLL_S)
        ready_s = time.monotonic() - began
        pid = processes.pid("payments")
        start = usage(pid)
        time.sleep(REST_S)
        rest = usage(pid)
        ours.topics.fill(EVENTS, 0.0)
        deadline = time.monotonic() + LIMIT_S
        while partner.report()["distinct"] < EVENTS and time.monotonic() < deadline:
            time.sleep(POLL_S * 10)
        return {
            "ready_s": round(ready_s, 2),
            "start_cpu_s": round(start.cpu_s, 2),
            "rest_mb": round(rest.rss_mb),
            "load_mb": round(usage(pid).peak_mb),
        }
