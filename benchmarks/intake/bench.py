"""The intake of payments beside the same endpoint as plain FastAPI, uvicorn and aiokafka."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.figures import Goal, judge, summary, table
from benchmarks.lane.contenders import PeerProcess, launch
from benchmarks.lane.payments import connect, delete_topic, make_topic
from benchmarks.machine import usage, yardstick
from deploy.local import Stack
from deploy.local.ports import HOST, free_port, http_status
from deploy.local.processes import ROOT, Processes

NAME, TITLE = "intake", "intake, acks=all, 1 KB a payment, 64 connections; batches of 500 on 4"
BEARER, PEER_TOPIC = "bench-bearer", "bench-intake"
WARM_S, SECONDS, READY_LIMIT_S = 1.0, 5.0, 60
COLUMNS = ("rate", "p50_ms", "p99_ms", "cpu_us", "load_busy", "yardstick_s")
GOALS = (
    Goal(NAME, "single payments by the plain endpoint", ("ours", "rate"), ("plain", "rate"), "at least", 2),
    Goal(
        NAME, "payments in batches of 500 by the plain endpoint", ("ours-batch", "rate"), ("plain", "rate"),
        "at least", 10,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Intake:
    """A process that takes payments at `url`."""

    process: PeerProcess
    url: str
    bearer: str


def bench_intake(runs: int, stack: Stack, work: Path) -> dict[str, Any]:
    """Runs, prints and judges; each round measures every contender once, in turn."""
    print(f"\n{NAME}: {TITLE}", flush=True)
    found: dict[str, list[dict[str, float]]] = {"plain": [], "ours": [], "ours-batch": []}
    for number in range(1, runs + 1):
        with plain(stack, work) as intake:
            found["plain"].append(post(intake, batch=0, connections=64))
        with ours(stack, work) as intake:
            found["ours"].append(post(intake, batch=0, connections=64))
            found["ours-batch"].append(post(intake, batch=500, connections=4))
        print(
            "  " + ", ".join(f"{name} {number}: {f[-1]['rate']:g}/s" for name, f in found.items()), flush=True
        )
    medians = {name: summary(figures, worst=()) for name, figures in found.items()}
    verdicts = [judge(goal, medians) for goal in GOALS]
    print(table(medians, COLUMNS))
    print(*(verdict.line() for verdict in verdicts), sep="\n", flush=True)
    return {
        "case": NAME,
        "title": TITLE,
        "contenders": {name: {"median": medians[name], "runs": found[name]} for name in found},
        "goals": [verdict.as_json() for verdict in verdicts],
    }


def post(intake: Intake, *, batch: int, connections: int) -> dict[str, float]:
    """Posts for some seconds from a process of its own; `load_busy` is the part of a core that it needed."""
    speed = yardstick()
    told = {"url": intake.url + ("/batch" if batch else ""), "bearer": intake.bearer, "batch": batch}
    told |= {"connections": connections, "warm_s": WARM_S, "seconds": SECONDS}
    before = usage(*intake.process.pids())
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.intake.load"],
        input=json.dumps(told),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{intake.process.name}: {done.stderr.strip().splitlines()[-1:]}")
    answer: dict[str, float] = json.loads(done.stdout)
    spent = usage(*intake.process.pids()).cpu_s - before.cpu_s
    taken = answer["rate"] * (SECONDS + WARM_S)
    return {**answer, "cpu_us": round(spent / taken * 1e6), "yardstick_s": round(speed, 3)}


@contextmanager
def plain(stack: Stack, work: Path) -> Iterator[Intake]:
    delete_topic(connect(stack.bootstrap), PEER_TOPIC)
    make_topic(stack.bootstrap, PEER_TOPIC)
    port = free_port()
    told = {"BOOTSTRAP": stack.bootstrap, "TOPIC": PEER_TOPIC, "PORT": str(port), "BEARER": BEARER}
    with serving("plain", "benchmarks.intake.plain", {**os.environ, **told}, port, work) as process:
        yield Intake(process, f"http://{HOST}:{port}/ic/acme/payments", BEARER)


@contextmanager
def ours(stack: Stack, work: Path) -> Iterator[Intake]:
    folder = work / "intake"
    shutil.rmtree(folder, ignore_errors=True)
    told = {"BILLBUS_LOG_LEVEL": "WARNING"}
    processes = Processes(folder, bootstrap=stack.bootstrap, registry=stack.registry, environment=told)
    environment, port = processes.environment("payments"), processes.ports["payments"]
    with serving("ours", "benchmarks.intake.ours", environment, port, work) as process:
        yield Intake(
            process, f"{processes.url('payments')}/ic/acme/payments", processes.secret("acme-intake-bearer")
        )


@contextmanager
def serving(
    name: str, module: str, environment: Mapping[str, str], port: int, work: Path
) -> Iterator[PeerProcess]:
    """Runs a module until the block ends; the block begins when it is ready."""
    process = launch(name, [sys.executable, "-m", module], environment, work / f"intake-{name}.log")
    try:
        deadline = time.monotonic() + READY_LIMIT_S
        while http_status(port, "/readyz") != 200:
            process.pids()
            if time.monotonic() > deadline:
                raise RuntimeError(f"{name} was not ready after {READY_LIMIT_S} s; read {process.log}")
            time.sleep(0.05)
        yield process
    finally:
        process.stop()
