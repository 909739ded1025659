"""What the index of outcomes costs: python -m benchmarks.outcome_index [1000000 10000000]

Fills an index of so many outcomes as following the topic does, in batches, and prints bytes on disk, rows a
second, the time to open it again, microseconds to look one up (there, not there, and right after it was
learned) and memory. Each size runs in a process of its own.
"""

import argparse
import json
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

from benchmarks.machine import usage
from services.bus.codec import Codec
from services.bus.identity import delivery_id
from services.bus.outcomes import OutcomeIndex
from services.bus.registry import Registry
from services.events import PaymentOutcome

BATCH, ASKED = 2000, 20_000
TOPIC = PaymentOutcome.TOPIC


def outcome(number: int) -> PaymentOutcome:
    """An outcome whose id nobody could have guessed from the one before."""
    return PaymentOutcome(
        biller="acme",
        account=f"{number % 50_000:010d}",
        natural_id=str(UUID(int=random.Random(number).getrandbits(128))),
        event_id="00000000-0000-5000-8000-000000000000",
        state="posted",
        content=f"{number:016x}",
        origin_topic="billing.payment.received.v1",
        origin_partition=number % 12,
        origin_offset=number // 12,
        settled_at=datetime(2026, 11, 20, tzinfo=UTC),
        amount=Decimal("120.50"),
        tender="card",
        product="portal",
    )


def measure(rows: int, folder: Path) -> dict[str, float]:
    """Fills, opens again and asks."""
    path = folder / "outcomes.sqlite"
    codec = Codec({}, Registry("http://127.0.0.1:9/"))
    index = OutcomeIndex(path, "127.0.0.1:9", TOPIC, codec).open()
    spent = 0.0
    for first in range(0, rows, BATCH):
        outcomes = [outcome(number) for number in range(first, min(first + BATCH, rows))]
        began = time.perf_counter()
        index.take(first // BATCH % 12, outcomes, first)
        spent += time.perf_counter() - began
    index.close()
    began = time.perf_counter()
    index = OutcomeIndex(path, "127.0.0.1:9", TOPIC, codec).open()
    opened = time.perf_counter() - began
    chance = random.Random(1)
    there = [delivery_id(outcome(chance.randrange(rows))).bytes for _ in range(ASKED)]
    absent = [delivery_id(outcome(rows + number)).bytes for number in range(ASKED)]
    new = [outcome(2 * rows + number) for number in range(ASKED)]
    figures = {
        "rows": rows,
        "bytes_on_disk": sum(each.stat().st_size for each in folder.iterdir()),
        "rows_a_second": round(rows / spent),
        "open_ms": round(opened * 1000, 1),
        "get_there_us": micros(index, there),
        "get_absent_us": micros(index, absent),
        "learn_us": learn(index, new),
        "resident_mb": round(usage(os.getpid()).rss_mb),
    }
    index.close()
    codec.close()
    return figures


def micros(index: OutcomeIndex, ids: list[bytes]) -> float:
    began = time.perf_counter()
    for each in ids:
        index.get(each)
    return round((time.perf_counter() - began) / len(ids) * 1e6, 2)


def learn(index: OutcomeIndex, outcomes: list[PaymentOutcome]) -> float:
    began = time.perf_counter()
    for each in outcomes:
        index.learn(each)
    return round((time.perf_counter() - began) / len(outcomes) * 1e6, 2)


def sizes() -> Iterator[int]:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("rows", nargs="*", type=int, default=[1_000_000, 10_000_000])
    yield from asked.parse_args().rows


def main() -> None:
    for rows in sizes():
        with tempfile.TemporaryDirectory() as folder, multiprocessing.get_context("spawn").Pool(1) as pool:
            print(json.dumps(pool.apply(measure, (rows, Path(folder)))), flush=True)


if __name__ == "__main__":
    main()
