"""Takes a BIF file of a million rows, beside a plain csv.reader loop over the same file, in the same run.

Three stages, each in a process of its own so that its peak memory is its own:

    csv      a plain csv.reader loop, which checks nothing
    check    both readings of ours: the whole file, then each row against layout, rules and support table
    take     the same with each row made a fact, its link signed, encoded as Avro, and sent to nobody
    publish  the same with a real broker that acknowledges every row, where one is named

    python -m benchmarks.bif [ROWS [BOOTSTRAP REGISTRY]]
"""

import asyncio
import csv
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from services.bus.billers import read_biller
from services.bus.catalog import load_catalog
from services.bus.clock import Clock
from services.bus.codec import Codec
from services.bus.identity import event_id, key
from services.bus.publisher import Publisher
from services.bus.registry import Registry
from services.bus.secrets import Secrets
from services.bus.settings import ROOT
from services.bus.support import SupportMatrix
from services.events import Event
from services.invoices.bif import inspect
from services.invoices.files import Files, Uploads
from services.invoices.layout import load_layout
from services.invoices.rows import RowReader, rows
from services.invoices.taking import FileTaker
from tests import bif_sample

PARTNERS = ROOT / "schemas" / "partners"


class NoSecrets(Secrets):
    """Every secret is the same: a benchmark signs links nobody opens."""

    def get(self, name: str) -> str:
        return f"benchmark-{name}"


class NoRegistry:
    """Gives every schema an id without asking anyone."""

    def __init__(self) -> None:
        self._schemas: list[Any] = []

    async def id_of(self, _topic: str, schema: Any) -> int:
        self._schemas.append(schema)
        return len(self._schemas) - 1

    async def schema(self, schema_id: int) -> Any:
        return self._schemas[schema_id]


class Encoding:
    """A publisher that does all of its work but the sending."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self.published = 0

    async def publish(self, *events: Event, traceparent: str | None = None) -> None:
        del traceparent
        for event in events:
            self._codec.encode(event)
            event_id(event)
            key(event)
        self.published += len(events)


def plain_csv(path: Path) -> int:
    with path.open(newline="", encoding="utf-8") as file:
        return sum(1 for _ in csv.reader(file, delimiter="|", quoting=csv.QUOTE_NONE))


def parts() -> tuple[Any, Any, Any]:
    support = SupportMatrix.load(PARTNERS / "support.yaml")
    biller, _ = read_biller(ROOT / "deploy" / "local" / "billers" / "acme.yaml", NoSecrets(), support)
    return support, biller, load_layout(PARTNERS / "bif.yaml")


def check(path: Path) -> int:
    support, biller, layout = parts()
    with path.open("rb") as file:
        found = inspect(file, layout)
        reader = RowReader(layout, found.header, biller, support, found.repeats)
        return sum(1 for result in rows(file, layout, found, reader) if isinstance(result, dict))


def codec_of(registry: Any) -> Codec:
    return Codec({name: topic.schema for name, topic in load_catalog(ROOT / "schemas").items()}, registry)


async def taken(path: Path, publisher: Any) -> int:
    """Rows that the intake accepts, published by `publisher`."""
    support, biller, layout = parts()
    settings = SimpleNamespace(public_bills_url="http://127.0.0.1:1", bif_limit_bytes=1 << 40)
    bus: Any = SimpleNamespace(
        settings=settings, secrets=NoSecrets(), support=support, clock=Clock(), publisher=publisher
    )
    with path.open("rb") as file:
        files, uploads = Files(), Uploads()
        files.ready = uploads.ready = True
        return (await FileTaker(bus, layout, files, uploads).take(biller, file, "sample.bif")).accepted


def take(path: Path) -> int:
    async def taking() -> int:
        codec = codec_of(NoRegistry())
        await codec.start()
        return await taken(path, Encoding(codec))

    return asyncio.run(taking())


def publish(path: Path, bootstrap: str, registry: str) -> int:
    async def publishing() -> int:
        codec = codec_of(Registry(registry))
        await codec.start()
        publisher = Publisher(bootstrap, "billbus/benchmark", codec, Clock())
        await publisher.start()
        try:
            return await taken(path, publisher)
        finally:
            await publisher.stop()

    return asyncio.run(publishing())


def measured(stage: Any, path: Path, answer: Any) -> None:
    began, computed = time.perf_counter(), time.process_time()
    done = stage(path)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    answer.put((done, time.perf_counter() - began, time.process_time() - computed, peak / 1024))


def main(arguments: Sequence[str]) -> None:
    count = int(arguments[0]) if arguments else 1_000_000
    fresh = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        path = bif_sample.write(Path(folder) / "sample.bif", (bif_sample.row(n) for n in range(count)))
        print(f"{count} rows, {path.stat().st_size / 1024 / 1024:.0f} MiB")
        stages: list[tuple[str, Any]] = [("csv", plain_csv), ("check", check), ("take", take)]
        if len(arguments) > 2:
            stages.append(("publish", partial(publish, bootstrap=arguments[1], registry=arguments[2])))
        for name, stage in stages:
            answer = fresh.Queue()
            process = fresh.Process(target=measured, args=(stage, path, answer))
            process.start()
            done, seconds, computed, peak = answer.get()
            process.join()
            speed = count / seconds
            cost = 1e6 * computed / count
            print(
                f"{name:8} {done:9} rows {speed:9.0f} rows/s {seconds:7.1f} s {cost:6.1f} µs CPU a row"
                f"  peak {peak:5.0f} MiB"
            )


if __name__ == "__main__":
    main(sys.argv[1:])
