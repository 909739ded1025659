"""How fast `billbus replay` copies records, unthrottled, beside a plain loop of confluent-kafka."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from benchmarks.figures import Goal, judge, summary, table
from benchmarks.lane.payments import OurTopics, connect, delete_topic
from benchmarks.machine import yardstick
from deploy.local import Stack
from deploy.local.processes import ROOT
from services.bus.partitioning import place_of
from services.events import PaymentReceived

NAME, TITLE = "replay", "replay: payments of 300 bytes with seven headers, copied to `.replay`"
EVENTS, MANY, KEYS, PARTITIONS = 200_000, 1_000_000, 2000, 12
VALUE = b"\0" * 300
HEADERS = [
    ("ce_id", b"6f3f6c0e-6a0f-5d0b-9a8e-0b1dcb1f2a6e"),
    ("ce_specversion", b"1.0"),
    ("ce_source", b"billbus/payments"),
    ("ce_type", PaymentReceived.TOPIC.encode()),
    ("content-type", b"application/avro"),
    ("ce_time", b"2026-11-20T15:04:05.123000+00:00"),
    ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
]
COLUMNS = ("rate", "cpu_us", "peak_mb", "yardstick_s")
GOALS = (
    Goal(NAME, "rate by the plain loop's", ("ours", "rate"), ("plain", "rate"), "at least", 0.8),
    Goal(NAME, "megabytes for a million records", ("ours-million", "peak_mb"), None, "at most", 200.0),
)


def bench_replay(runs: int, stack: Stack, work: Path) -> dict[str, Any]:
    """Runs, prints and judges; the two in turn, and ours once more with a million records."""
    del work
    print(f"\n{NAME}: {TITLE}", flush=True)
    topics = OurTopics(stack.bootstrap, stack.registry)
    found: dict[str, list[dict[str, float]]] = {"plain": [], "ours": [], "ours-million": []}
    try:
        fill(stack, topics, EVENTS)
        for number in range(1, runs + 1):
            for how in ("plain", "ours"):
                found[how].append(copy(stack, how))
            said = (f"{name} {number}: {found[name][-1]['rate']:g}/s" for name in ("plain", "ours"))
            print("  " + ", ".join(said), flush=True)
        fill(stack, topics, MANY)
        found["ours-million"].append(copy(stack, "ours"))
    finally:
        topics.close()
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


def copy(stack: Stack, how: str) -> dict[str, float]:
    """One copy of the whole topic, onto an empty `.replay`."""
    speed = yardstick()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.replay_copy", how, stack.bootstrap, stack.registry],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{how}: {done.stderr.strip().splitlines()[-1:]}")
    answer: dict[str, float] = json.loads(done.stdout)
    return {**answer, "yardstick_s": round(speed, 3)}


def fill(stack: Stack, topics: OurTopics, count: int) -> None:
    """The live topic anew, with so many records."""
    delete_topic(connect(stack.bootstrap), f"{PaymentReceived.TOPIC}.replay")
    topics.renew()
    producer = Producer({"bootstrap.servers": stack.bootstrap, "enable.idempotence": True, "linger.ms": 20})
    for key in keys(count):
        while True:
            try:
                producer.produce(
                    PaymentReceived.TOPIC, VALUE, key, partition=place_of(key, PARTITIONS), headers=HEADERS
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    if producer.flush(120):
        raise RuntimeError(f"the broker did not take all {count} records at {time.asctime()}")


def keys(count: int) -> Iterator[bytes]:
    return (b"acme/%010d" % (number % KEYS) for number in range(count))
