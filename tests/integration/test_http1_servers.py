"""Our client against three servers that others wrote, in the clear and over TLS."""

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvicorn
from aiohttp import web

from services.bus.partner import PartnerHttp, Reply

PDF = b"%PDF-1.7" + bytes(range(256)) * 4000
NOT_FOUND = b'{"Code": "NOT_FOUND"}'


class Certified:
    """A server's certificate by an authority that the client is told to trust."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.authority, self.chain = folder / "authority.pem", folder / "server.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(self.chain))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.chain)


@contextmanager
def over_uvicorn(certified: Certified | None) -> Iterator[int]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            event = await receive()
            body, more = body + event.get("body", b""), event.get("more_body", False)
        status, kind, answer = answer_to(scope["path"], body)
        headers = [(b"content-type", kind.encode())]
        if scope["path"] != "/chunked":
            headers.append((b"content-length", str(len(answer)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        half = len(answer) // 2
        await send({"type": "http.response.body", "body": answer[:half], "more_body": True})
        await send({"type": "http.response.body", "body": answer[half:]})

    config = uvicorn.Config(
        app,
        http="h11",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        ssl_certfile=certified.chain if certified else None,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        running.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            running.join()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        status, kind, answer = answer_to(self.path, body)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if self.path == "/chunked":
            self.send_header("Transfer-Encoding", "chunked")
            answer = b"".join(b"1;x=y\r\n%c\r\n" % byte for byte in answer) + b"0\r\nX-Sum: 1\r\n\r\n"
        else:
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_POST = do_HEAD = answer  # noqa: N815 - the names that http.server looks for

    def log_message(self, *said: object) -> None:
        """Says nothing."""


@contextmanager
def over_the_standard_library(certified: Certified | None) -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if certified:
        server.socket = certified.context.wrap_socket(server.socket, server_side=True)
    running = threading.Thread(target=server.serve_forever)
    running.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        running.join()
        server.server_close()


@asynccontextmanager
async def over_aiohttp(certified: Certified | None) -> AsyncIterator[int]:
    async def answer(request: web.Request) -> web.StreamResponse:
        status, kind, body = answer_to(request.path, await request.read())
        if request.path != "/chunked":
            return web.Response(status=status, content_type=kind, body=body)
        response = web.StreamResponse(status=status, headers={"Content-Type": kind})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for byte in body:
            await response.write(bytes([byte]))
        return response

    app = web.Application(client_max_size=2**21)
    app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certified.context if certified else None)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def answer_to(path: str, body: bytes) -> tuple[int, str, bytes]:
    if path in {"/echo", "/chunked"}:
        return 200, "application/json", body
    if path == "/bill":
        return 200, "application/pdf", PDF
    return 404, "application/json", NOT_FOUND


@asynccontextmanager
async def serving(name: str, certified: Certified | None) -> AsyncIterator[str]:
    scheme = "https" if certified else "http"
    if name == "aiohttp":
        async with over_aiohttp(certified) as port:
            yield f"{scheme}://localhost:{port}"
    else:
        with {"uvicorn": over_uvicorn, "http.server": over_the_standard_library}[name](certified) as port:
            yield f"{scheme}://localhost:{port}"


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("name", ["uvicorn", "http.server", "aiohttp"])
async def test_a_server_that_others_wrote_is_understood(
    name: str, tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certified = Certified(tmp_path) if tls else None
    if certified:
        monkeypatch.setenv("SSL_CERT_FILE", str(certified.authority))
    async with serving(name, certified) as url, PartnerHttp(limit=8) as http:
        asked = Asking(http, url)
        await asked.echoes("/echo", {"amount": "1.00"})
        await asked.echoes("/chunked", {"amount": "1.00", "of": ["a"] * 50})
        await asked.echoes("/echo", {"large": "x" * 600_000})
        await asyncio.gather(*(asked.echoes("/echo", {"number": number}) for number in range(60)))

        missing = await asked.whole("GET", "/nothing")
        assert (missing.status, missing.body) == (404, NOT_FOUND)
        head = await asked.whole("HEAD", "/bill", content_types=("application/pdf",))
        assert (head.status, head.headers["Content-Length"], head.body) == (200, str(len(PDF)), b"")
        async with http.stream("GET", url + "/bill", biller="acme", service="bills", deadline_s=20) as stream:
            assert b"".join([chunk async for chunk in stream.chunks()]) == PDF


class Asking:
    """Requests to one server."""

    def __init__(self, http: PartnerHttp, url: str) -> None:
        self._http = http
        self._url = url

    async def whole(self, method: str, path: str, **more: Any) -> Reply:
        return await self._http.request(
            method, self._url + path, biller="acme", service="imt", deadline_s=20, **more
        )

    async def echoes(self, path: str, body: dict[str, Any]) -> None:
        reply = await self.whole("POST", path, json=body, max_bytes=2**21)
        assert (reply.status, json.loads(reply.body)) == (200, body)
