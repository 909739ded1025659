"""What a call to a partner costs: our client beside aiohttp and beside the least that a loop can do.

    python -m benchmarks.partner_calls [--calls 20000] [--in-flight 200] [--delay-ms 0] [--rounds 3]

A server in a process of its own answers on 127.0.0.1 after `--delay-ms`. The clients run in turn, `--rounds`
times each, over uvloop. CPU is the client's process alone (user and system); a rate depends on what else the
machine does, CPU per call far less. Prints medians, as a table and with `--json` as one line of JSON.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection as Pipe

import aiohttp
import uvloop

from services.bus.partner import PartnerHttp

PAYMENT = {
    "PaymentGUID": "11f7a1de-4f4e-4f0b-9a67-2f0f6ad1a001",
    "AccountNumber": "0012345678",
    "InvoiceNumber": "INV-2026-000123",
    "Amount": "120.50",
    "PaidAt": "2026-11-20T12:00:00.000Z",
    "BatchDate": "2026-11-20",
    "Tender": "credit_card",
    "CardType": "Visa",
    "Product": "online",
    "Agent": None,
    "ExternalReference": "11f7a1de-4f4e-4f0b-9a67-2f0f6ad1a001",
}
ANSWER = b'{"Reference": "P-000001", "AccountNumber": "0012345678", "Amount": "120.50", "Status": "Posted"}'
HEAD = b"HTTP/1.1 200 OK\r\nDate: Fri, 20 Nov 2026 12:00:00 GMT\r\nContent-Type: application/json\r\n"
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(ANSWER) + ANSWER
TOKEN = {"Authorization": "Bearer not-a-real-token"}

Post = Callable[[], Awaitable[None]]


class Partner(asyncio.Protocol):
    """Answers every POST with the same words, `delay_s` after it came."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, blank, body = self.received.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if not blank or len(body) < length:
            return
        self.received = b""
        if self.delay_s:
            asyncio.get_running_loop().call_later(self.delay_s, self.answer)
        else:
            self.answer()

    def answer(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(WHOLE)  # type: ignore[attr-defined]  # of a stream


def serve(delay_s: float, told: Pipe) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: Partner(delay_s), "127.0.0.1", 0)
        told.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(main())


class Bare(asyncio.Protocol):
    """The least: one request at a time, no deadline, no doubt, an answer that comes in one piece."""

    def __init__(self) -> None:
        self.answered: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        head, _, body = data.partition(b"\r\n\r\n")
        headers = dict(line.partition(b":")[::2] for line in head.lower().split(b"\r\n")[1:])
        assert len(body) == int(headers[b"content-length"])
        assert self.answered is not None
        self.answered.set_result(body)


@asynccontextmanager
async def bare(url: str, in_flight: int) -> AsyncIterator[Post]:
    del in_flight
    loop = asyncio.get_running_loop()
    port = int(url.rpartition(":")[2].partition("/")[0])
    unused: list[Bare] = []
    head = (
        f"POST /payments HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: {TOKEN['Authorization']}\r\n"
        "Content-Type: application/json\r\nContent-Length: "
    ).encode()

    async def post() -> None:
        body = json.dumps(PAYMENT).encode()
        one = unused.pop() if unused else (await loop.create_connection(Bare, "127.0.0.1", port))[1]
        one.answered = loop.create_future()
        one.transport.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))  # type: ignore[attr-defined]  # of a stream
        assert json.loads(await one.answered)["Status"] == "Posted"
        unused.append(one)

    yield post
    for one in unused:
        one.transport.close()


@asynccontextmanager
async def ours(url: str, in_flight: int) -> AsyncIterator[Post]:
    async with PartnerHttp(limit=in_flight) as http:

        async def post() -> None:
            reply = await http.request(
                "POST", url, biller="acme", service="imt", deadline_s=30, headers=TOKEN, json=PAYMENT
            )
            assert reply.json()["Status"] == "Posted"

        yield post


@asynccontextmanager
async def over_aiohttp(url: str, in_flight: int) -> AsyncIterator[Post]:
    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def post() -> None:
            body = json.dumps(PAYMENT).encode()
            headers = TOKEN | {"Content-Type": "application/json"}
            async with asyncio.timeout(30), session.post(url, data=body, headers=headers) as answer:
                assert answer.status == 200
                assert json.loads(await answer.read())["Status"] == "Posted"

        yield post


CLIENTS = {"bare loop": bare, "ours": ours, "aiohttp": over_aiohttp}


async def measure(name: str, url: str, calls: int, in_flight: int) -> tuple[float, float]:
    """Calls a second, and CPU microseconds a call, of so many posts by `in_flight` workers."""
    async with CLIENTS[name](url, in_flight) as post:
        left = iter(range(calls))

        async def work() -> None:
            for _ in left:
                await post()

        await asyncio.gather(*(post() for _ in range(in_flight)))  # connections open, code warm
        wall, cpu = time.perf_counter(), os.times()
        await asyncio.gather(*(work() for _ in range(in_flight)))
        took, now = time.perf_counter() - wall, os.times()
    return calls / took, (now.user - cpu.user + now.system - cpu.system) / calls * 1e6


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--calls", type=int, default=20_000)
    asked.add_argument("--in-flight", type=int, default=200)
    asked.add_argument("--delay-ms", type=float, default=0)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--json", action="store_true")
    given = asked.parse_args()
    hears, tells = multiprocessing.Pipe(duplex=False)
    partner = multiprocessing.Process(target=serve, args=(given.delay_ms / 1000, tells), daemon=True)
    partner.start()
    url = f"http://127.0.0.1:{hears.recv()}/payments"
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in CLIENTS}
    for _ in range(given.rounds):
        for name, seen in figures.items():
            seen.append(uvloop.run(measure(name, url, given.calls, given.in_flight)))
    partner.terminate()
    partner.join()
    medians = {
        name: [statistics.median(column) for column in zip(*seen, strict=True)]
        for name, seen in figures.items()
    }
    if given.json:
        print(json.dumps({name: {"per_s": rate, "cpu_us": cpu} for name, (rate, cpu) in medians.items()}))
        return
    print(f"{'client':<12}{'calls/s':>10}{'CPU us/call':>14}{'calls per CPU s, of aiohttp':>30}")
    for name, (rate, cpu) in medians.items():
        print(f"{name:<12}{rate:>10,.0f}{cpu:>14.1f}{medians['aiohttp'][1] / cpu:>29.1f}x")


if __name__ == "__main__":
    main()
