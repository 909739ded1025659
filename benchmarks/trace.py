"""How long `billbus trace` takes to tell all of one payment, out of a day of a million."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaError, Producer

from benchmarks.figures import Goal, judge, summary, table
from benchmarks.lane.payments import Payment, as_event, make
from benchmarks.machine import yardstick
from deploy.local import Stack
from deploy.local.processes import DEMO_BILLERS, ROOT, prepare
from services.bus.billers import load_billers
from services.bus.catalog import load_catalog
from services.bus.clock import Clock
from services.bus.codec import Codec
from services.bus.identity import event_id_text, key
from services.bus.registry import Registry
from services.bus.secrets import Secrets
from services.bus.settings import Settings, load_settings
from services.bus.support import SupportMatrix
from services.bus.trace import new
from services.events import PaymentReceived
from services.operations.trace import Asked, trace

NAME, TITLE = "trace", "one payment among a million payment.received of a day, 12 partitions"
EVENTS, LIMIT_S = 1_000_000, 120
COLUMNS = ("find_s", "hinted_s", "command_s", "records", "mb", "yardstick_s")
GOALS = (
    Goal(NAME, "seconds by the GUID alone", ("guid", "find_s"), None, "at most", 2.0),
    Goal(NAME, "seconds with --biller and --account", ("guid", "hinted_s"), None, "at most", 2.0),
)


def bench_trace(runs: int, stack: Stack, work: Path) -> dict[str, Any]:
    """Fills the topic once, then looks for another payment in each run; prints and judges."""
    print(f"\n{NAME}: {TITLE}", flush=True)
    fill(stack.bootstrap, stack.registry, EVENTS)
    billers, secrets, _ = prepare(work / "trace", DEMO_BILLERS)
    settings = load_settings(
        bootstrap=stack.bootstrap, registry=stack.registry, billers=billers, secrets=secrets
    )
    wanted = list(last_of(EVENTS, runs + 1))
    # the first warms the broker's page cache, as a day's own traffic would have
    found = [one(settings, payment) for payment in wanted][1:]
    medians = {"guid": summary(found, worst=())}
    verdicts = [judge(goal, medians) for goal in GOALS]
    print(table(medians, COLUMNS))
    print(*(verdict.line() for verdict in verdicts), sep="\n", flush=True)
    return {
        "case": NAME,
        "title": TITLE,
        "contenders": {"guid": {"median": medians["guid"], "runs": found}},
        "goals": [verdict.as_json() for verdict in verdicts],
    }


def one(settings: Settings, payment: Payment) -> dict[str, float]:
    """The operation by GUID alone, with the account too, and the whole command from exec to exit."""
    speed = yardstick()
    billers = load_billers(
        settings.billers, Secrets(settings.secrets), SupportMatrix.load(settings.partners / "support.yaml")
    )
    asked = Asked(text=payment.guid, billers=billers, days=1)
    began = time.monotonic()
    story = asyncio.run(trace(settings, asked, Clock()))
    find_s = time.monotonic() - began
    assert len(story.entries) == 1
    hinted = replace(asked, billers={"acme": billers["acme"]}, account=payment.account)
    began = time.monotonic()
    asyncio.run(trace(settings, hinted, Clock()))
    hinted_s = time.monotonic() - began
    began = time.monotonic()
    command = [str(Path(sys.executable).with_name("billbus")), "trace", payment.guid, "--days", "1", "--json"]
    subprocess.run(command, env=environment(settings), check=True, capture_output=True, timeout=LIMIT_S)
    return {
        "find_s": round(find_s, 2),
        "hinted_s": round(hinted_s, 2),
        "command_s": round(time.monotonic() - began, 2),
        "records": story.searched.records,
        "mb": round(story.searched.bytes / 1e6),
        "yardstick_s": round(speed, 3),
    }


def environment(settings: Settings) -> dict[str, str]:
    """What a process of its own needs to find the same broker, registry and billers."""
    return {
        "PATH": "/usr/bin:/bin",
        "BILLBUS_BOOTSTRAP": settings.bootstrap,
        "BILLBUS_REGISTRY": settings.registry,
        "BILLBUS_BILLERS": str(settings.billers),
        "BILLBUS_SECRETS": str(settings.secrets),
    }


def last_of(count: int, wanted: int) -> Iterator[Payment]:
    """Payments from all over the day, so many."""
    step = count // wanted
    for number, payment in enumerate(make(count)):
        if number % step == step - 1:
            yield payment


def fill(bootstrap: str, registry: str, count: int) -> None:
    """Writes the payments with the headers that the intake gives them; raises RuntimeError."""
    topic = PaymentReceived.TOPIC
    codec = Codec({topic: load_catalog(ROOT / "schemas")[topic].schema}, Registry(registry))
    asyncio.run(codec.start())
    failures: list[str] = []
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "log_level": 0,
            "partitioner": "murmur2_random",
            "linger.ms": 50,
            "queue.buffering.max.messages": 200_000,
        }
    )

    def delivered(error: KafkaError | None, _message: object) -> None:
        if error is not None:
            failures.append(str(error))

    for event_key, value, headers in records(codec, count):
        while True:
            try:
                producer.produce(topic, key=event_key, value=value, headers=headers, on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    left = producer.flush(LIMIT_S)
    codec.close()
    if left or failures:
        raise RuntimeError(f"{topic}: {left} records unsent, {len(failures)} refused: {failures[:1]}")


def records(codec: Codec, count: int) -> Iterator[tuple[bytes, bytes, list[tuple[str, bytes]]]]:
    at = datetime.now(UTC).replace(microsecond=0)
    constant = [
        ("ce_specversion", b"1.0"),
        ("ce_source", b"billbus/payments"),
        ("ce_type", PaymentReceived.TOPIC.encode()),
        ("content-type", b"application/avro"),
        ("ce_time", at.isoformat().encode()),
    ]
    for payment in make(count):
        event = as_event(payment, at)
        own = [("ce_id", event_id_text(event).encode()), ("traceparent", str(new()).encode())]
        yield key(event).encode(), codec.encode(event), constant + own
