"""The lane's cases on one stack: every contender in turn, medians, and the verdict on each goal."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from benchmarks.figures import judge, summary, table
from benchmarks.lane.cases import CASES, Case
from benchmarks.lane.contenders import Contender, Missing, Ours, Peer, build_go, peer_command
from benchmarks.lane.partner import SOURCE
from benchmarks.lane.payments import OurTopics
from benchmarks.lane.run import COLUMNS, measure
from deploy.local import Stack


def bench_lane(
    names: Sequence[str], runs: int, only: Collection[str], stack: Stack, work: Path
) -> list[dict[str, Any]]:
    """Runs and prints the cases; `only` narrows the contenders. Raises Missing where nothing can be run."""
    partner = build_go(SOURCE, work)
    topics = OurTopics(stack.bootstrap, stack.registry)
    try:
        wanted = {c for name in names for c in CASES[name].contenders if not only or c in only}
        contenders = ready(sorted(wanted), stack, topics, work)
        return [bench_case(CASES[name], runs, contenders, partner) for name in names]
    finally:
        topics.close()


def ready(names: Sequence[str], stack: Stack, topics: OurTopics, work: Path) -> dict[str, Contender]:
    """The contenders that this machine can run; says which cannot and why."""
    found: dict[str, Contender] = {}
    for name in names:
        if name.startswith("ours"):
            found[name] = Ours(stack, topics, work, int(name.partition("-")[2] or 1))
            continue
        try:
            found[name] = Peer(name, peer_command(name, work), stack.bootstrap, work)
        except Missing as missing:
            print(f"{missing}.", flush=True)
    return found


def bench_case(case: Case, runs: int, contenders: dict[str, Contender], partner: Path) -> dict[str, Any]:
    print(f"\n{case.name}: {case.title}", flush=True)
    taking_part = [name for name in case.contenders if name in contenders]
    found: dict[str, list[dict[str, float]]] = {name: [] for name in taking_part}
    for number in range(1, runs + 1):
        for name in taking_part:
            figures = measure(contenders[name], case.load, partner)
            found[name].append(figures)
            print(
                f"  {name} {number}: {figures['rate']:g}/s, {figures['cpu_us']:g} us of CPU an event",
                flush=True,
            )
    medians = {name: summary(figures) for name, figures in found.items()}
    print(table(medians, COLUMNS), flush=True)
    verdicts = [judge(goal, medians) for goal in case.goals]
    for verdict in verdicts:
        print(verdict.line(), flush=True)
    return {
        "case": case.name,
        "title": case.title,
        "contenders": {name: {"median": medians[name], "runs": found[name]} for name in taking_part},
        "goals": [verdict.as_json() for verdict in verdicts],
    }
