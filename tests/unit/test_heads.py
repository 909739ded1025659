"""What the server makes of a request's head before any code of ours sees the request."""

import asyncio
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from services.bus.heads import LARGEST, BoundedHeads

GOOD = b"POST /form HTTP/1.1\r\nHost: intake\r\n"


class Wire(asyncio.Transport):
    """Keeps what is answered."""

    def __init__(self) -> None:
        super().__init__()
        self.answered = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.answered += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def answer(_scope: Any, receive: Any, send: Any) -> None:
    taken = 0
    while (message := await receive()).get("more_body"):
        taken += len(message["body"])
    taken += len(message.get("body", b""))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


async def told(*parts: bytes) -> Wire:
    """What became of a connection on which these parts came, one after another."""
    wire = Wire()
    config = uvicorn.Config(answer, http=BoundedHeads, lifespan="off", log_config=None)
    connection = BoundedHeads(config, ServerState(), {})
    connection.connection_made(wire)
    for part in parts:
        if wire.closed:
            break
        connection.data_received(part)
        await asyncio.sleep(0)
    for _ in range(5):
        await asyncio.sleep(0)
    connection.connection_lost(None)
    return wire


async def test_a_request_is_answered_however_its_head_is_cut() -> None:
    whole = GOOD + b"Content-Length: 3\r\n\r\na=b"
    wire = await told(*(whole[at : at + 1] for at in range(len(whole))))
    assert wire.answered.startswith(b"HTTP/1.1 200")


async def test_a_large_body_in_small_chunks_is_no_large_head() -> None:
    chunks = [b"1\r\nx\r\n" * 1000] * 30
    wire = await told(GOOD + b"Transfer-Encoding: chunked\r\n\r\n", *chunks, b"0\r\n\r\n")
    assert wire.answered.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "endless",
    [b"GET /", GOOD, GOOD + b"X-Long: ", b"", GOOD + b"Transfer-Encoding: chunked\r\n\r\n1;"],
    ids=["address", "names", "value", "method", "chunk's head"],
)
async def test_what_does_not_end_is_cut_off(endless: bytes) -> None:
    wire = await told(endless, *[b"x" * 1024] * (LARGEST // 1024 + 1))
    assert wire.closed
    assert b" 200 " not in wire.answered


async def test_headers_without_end_are_cut_off() -> None:
    wire = await told(GOOD, *[b"x: y\r\n" * 200] * 100)
    assert wire.closed
    assert wire.answered.startswith(b"HTTP/1.1 400")


async def test_trailers_without_end_are_cut_off() -> None:
    wire = await told(GOOD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", *[b"x: y\r\n" * 200] * 100)
    assert wire.closed


@pytest.mark.parametrize("hosts", [b"", b"Host: a\r\nHost: b\r\n"], ids=["none", "two"])
async def test_a_request_names_one_host(hosts: bytes) -> None:
    wire = await told(b"GET / HTTP/1.1\r\n" + hosts + b"\r\n")
    assert wire.answered.startswith(b"HTTP/1.1 400")
    assert wire.closed


@pytest.mark.parametrize(
    "framing",
    [b"Content-Length: 3\r\nContent-Length: 4\r\n", b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"],
    ids=["two lengths", "length and chunks"],
)
async def test_a_body_has_one_length(framing: bytes) -> None:
    wire = await told(GOOD + framing + b"\r\n")
    assert wire.answered.startswith(b"HTTP/1.1 400")
    assert wire.closed
