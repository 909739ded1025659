"""A load of HTTP posts over kept connections, light enough to leave the machine to who is measured.

Told everything as one JSON on stdin, it answers with one JSON on stdout: requests, seconds, and the
latencies in milliseconds. It runs as a process of its own.
"""

import asyncio
import itertools
import json
import sys
import time
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode, urlsplit

import uvloop

from benchmarks.figures import percentile

ACCOUNTS = 2000
FILLING = "x" * 190
"""Texts of a form are 200 characters at most; four of these make 1 KB."""


def fields(number: int) -> dict[str, str]:
    """One payment by the form's names, about 1 KB when written as a form."""
    return {
        "PaymentGUID": str(uuid.uuid4()),
        "PaymentDate": "2026-11-20T14:03:00Z",
        "InvoiceNumber": f"A-2026-11-{number % ACCOUNTS:06d}",
        "AccountNumber": f"{number % ACCOUNTS:010d}",
        "Approved": "True",
        "CustomerName": "Ada Example",
        "PaymentAmount": "120.50",
        "ConvenienceFee": "2.95",
        "PaymentDescription": FILLING,
        "PaymentTypeID": "1",
        "CardType": "Visa",
        "BillerReference": FILLING,
        "CustomerAddress": FILLING,
        "PaymentMessage": FILLING,
        "Product": "Portal",
    }


def bodies(batch: int) -> Iterator[bytes]:
    """Bodies for ever: forms, or JSON batches where `batch` is above 0."""
    numbers = itertools.count()
    while batch:
        yield json.dumps({"payments": [fields(next(numbers)) for _ in range(batch)]}).encode()
    while True:
        yield urlencode(fields(next(numbers))).encode()


class Connection(asyncio.Protocol):
    """Posts one body after another until it is told to stop; every answer must be 200."""

    def __init__(self, head: bytes, source: Iterator[bytes], until: float) -> None:
        self.head, self.source, self.until = head, source, until
        self.took: list[float] = []
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.received = b""
        self.began = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]  # a stream's
        self.post()

    def post(self) -> None:
        body = next(self.source)
        self.began = time.perf_counter()
        self.transport.write(b"%b%d\r\n\r\n%b" % (self.head, len(body), body))

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, blank, body = self.received.partition(b"\r\n\r\n")
        if not blank:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self.received = b""
        now = time.perf_counter()
        if not head.startswith(b"HTTP/1.1 200"):
            self.fail(RuntimeError(f"answered {head.splitlines()[0]!r} {body[:200]!r}"))
        elif now < self.until:
            self.took.append(now - self.began)
            self.post()
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.fail(error)

    def fail(self, error: Exception | None) -> None:
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)
            self.transport.close()


async def run(told: dict[str, Any], seconds: float) -> list[float]:
    """The latencies of so many seconds, ascending."""
    url = urlsplit(told["url"])
    kind = "application/json" if told["batch"] else "application/x-www-form-urlencoded"
    head = (
        f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nAuthorization: Bearer {told['bearer']}\r\n"
        f"Content-Type: {kind}\r\nContent-Length: "
    ).encode()
    source, until = bodies(told["batch"]), time.perf_counter() + seconds
    made = []
    for _ in range(told["connections"]):
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(head, source, until), url.hostname, url.port
        )
        made.append(connection)
    await asyncio.gather(*(connection.ended for connection in made))
    return sorted(took for connection in made for took in connection.took)


def main() -> None:
    told = json.load(sys.stdin)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(told, told["warm_s"]))
        began, busy = time.perf_counter(), time.process_time()
        took = runner.run(run(told, told["seconds"]))
        seconds = time.perf_counter() - began
    answer = {
        "rate": len(took) * max(told["batch"], 1) / seconds,
        "p50_ms": percentile(took, 0.5) * 1000,
        "p99_ms": percentile(took, 0.99) * 1000,
        "load_busy": (time.process_time() - busy) / seconds,
    }
    print(json.dumps({name: round(value, 2) for name, value in answer.items()}))


if __name__ == "__main__":
    main()
