"""What a partner may have done, after every way in which it can fail: real sockets, real misbehaviour."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from services.bus import trace
from services.bus.partner import Outage, PartnerError, PartnerHttp, Reply, Retryable, Stream, Unknown

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
JSON = b"Content-Type: application/json\r\n"
HTML = b"Content-Type: text/html; charset=utf-8\r\n"


@asynccontextmanager
async def serving(peer: Peer) -> AsyncIterator[str]:
    """A server on a free port; a peer that still runs at the end is cancelled."""
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await peer(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            return
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def answers(status: str, headers: bytes = JSON, body: bytes = b"{}") -> Peer:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\n".encode() + headers)
        writer.write(f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()

    return peer


async def ask(url: str, method: str = "POST", deadline_s: float = 2, max_bytes: int = 1000) -> Reply:
    async with PartnerHttp() as http:
        return await http.request(
            method,
            url,
            biller="acme",
            service="imt.datapump",
            deadline_s=deadline_s,
            json={"amount": "1.00"} if method == "POST" else None,
            max_bytes=max_bytes,
        )


async def fault(peer: Peer, method: str = "POST", deadline_s: float = 2) -> PartnerError:
    async with serving(peer) as url:
        with pytest.raises(PartnerError) as raised:
            await ask(url, method, deadline_s)
    return raised.value


async def test_answers_are_returned_with_exact_money() -> None:
    async with serving(answers("200 OK", body=b'{"BalanceDue": 120.50}')) as url:
        reply = await ask(url)
    assert (reply.status, reply.json()) == (200, {"BalanceDue": Decimal("120.50")})


@pytest.mark.parametrize("status", ["400 Bad Request", "404 Not Found", "409 Conflict", "422 No"])
async def test_a_no_in_the_partners_own_words_is_an_answer(status: str) -> None:
    async with serving(answers(status, body=b'{"Code": "REJECTED"}')) as url:
        reply = await ask(url)
    assert not reply.ok
    assert reply.json() == {"Code": "REJECTED"}


async def test_a_refused_connection_was_never_sent() -> None:
    async with serving(answers("200 OK")) as url:
        pass
    with pytest.raises(Outage) as raised:
        await ask(url)
    assert raised.value.never_sent


async def test_a_name_nobody_knows_was_never_sent() -> None:
    with pytest.raises(Outage) as raised:
        await ask("https://nowhere.invalid/a")
    assert raised.value.never_sent


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    del writer
    await reader.read(-1)
    await asyncio.Event().wait()


async def hangs_in_headers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-")
    await asyncio.Event().wait()


async def hangs_in_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n" + JSON + b"Content-Length: 2\r\n\r\n{")
    await asyncio.Event().wait()


async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n" + JSON + b"Content-Length: 100000\r\n\r\n")
    while not writer.is_closing():
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


@pytest.mark.parametrize("peer", [silent, hangs_in_headers, hangs_in_body, drips])
async def test_no_whole_answer_in_time_leaves_the_effect_unknown(peer: Peer) -> None:
    began = time.monotonic()
    error = await fault(peer, deadline_s=0.3)
    assert isinstance(error, Unknown)
    assert not error.never_sent
    assert time.monotonic() - began < 2, "the deadline is for the whole answer"


async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.abort()


async def breaks_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n" + JSON + b"Content-Length: 50\r\n\r\n{")
    await writer.drain()
    writer.close()


async def babbles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"220 mail.example ESMTP\r\n\r\n")
    await writer.drain()


@pytest.mark.parametrize(
    "peer",
    [
        closes,
        resets,
        breaks_off,
        babbles,
        answers("500 Internal Server Error"),
        answers("500 Internal Server Error", HTML, b"<html>"),
        answers("502 Bad Gateway", HTML, b"<html>"),
        answers("504 Gateway Timeout", HTML, b"<html>"),
        answers("200 OK", body=b""),
        answers("200 OK", HTML, b"<html>a proxy</html>"),
        answers("200 OK", b"", b"ok"),
        answers("200 OK", body=b" " * 1001),
        answers("302 Found", b"Location: https://login.example/\r\n", b""),
    ],
)
async def test_a_fault_after_sending_leaves_the_effect_unknown_but_not_of_a_read(peer: Peer) -> None:
    assert isinstance(await fault(peer), Unknown)
    error = await fault(peer, "GET")
    assert isinstance(error, Retryable | Outage), "a read has no effect"
    assert not error.never_sent


@pytest.mark.parametrize("status", ["401 No", "403 No", "503 Maintenance"])
async def test_a_closed_door_is_an_outage(status: str) -> None:
    error = await fault(answers(status, b"Retry-After: 120\r\n" + JSON))
    assert isinstance(error, Outage)
    assert error.retry_after == 120


async def test_retry_after_may_be_a_date_by_the_partners_own_clock() -> None:
    dates = b"Date: Mon, 23 Nov 2026 10:00:00 GMT\r\nRetry-After: Mon, 23 Nov 2026 10:01:30 GMT\r\n"
    assert (await fault(answers("503 Maintenance", dates))).retry_after == 90


async def test_a_page_that_is_not_found_is_an_outage() -> None:
    error = await fault(answers("404 Not Found", HTML, b"<html>nginx</html>"))
    assert isinstance(error, Outage)
    assert error.status == 404


async def test_a_proxys_page_in_answer_to_a_read_is_an_outage() -> None:
    assert isinstance(await fault(answers("200 OK", HTML, b"<html>a proxy</html>"), "GET"), Outage)


async def test_too_many_requests_is_retryable() -> None:
    error = await fault(answers("429 Too Many Requests", b"Retry-After: 7\r\n"))
    assert isinstance(error, Retryable)
    assert error.retry_after == 7


async def test_an_endless_body_is_read_only_to_its_limit() -> None:
    sent = 0

    async def floods(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + JSON + b"Connection: close\r\n\r\n")
        while not writer.is_closing():
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    assert isinstance(await fault(floods), Unknown)
    assert sent < 50_000_000


async def test_a_redirect_is_not_followed() -> None:
    followed = False

    async def elsewhere(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal followed
        followed = True
        await answers("200 OK")(reader, writer)

    async with serving(elsewhere) as target:
        await fault(answers("307 Temporary Redirect", f"Location: {target}\r\n".encode(), b""))
    assert not followed


async def test_what_waits_in_our_own_pool_was_never_sent_and_is_nobodys_outage() -> None:
    entered = asyncio.Event()

    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        entered.set()
        await silent(reader, writer)

    async with serving(busy) as url, PartnerHttp(limit=1) as http:

        async def call(service: str, deadline_s: float) -> Reply:
            return await http.request("POST", url, biller="acme", service=service, deadline_s=deadline_s)

        first = asyncio.create_task(call("imt.datapump", 30))
        await entered.wait()
        with pytest.raises(Retryable) as raised:
            await call("imt.datapump", 0.1)
        assert raised.value.never_sent
        with pytest.raises(Unknown):  # another service of the biller has places of its own
            await call("imt.settings", 0.1)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)


async def test_plain_http_beyond_this_machine_needs_the_billers_word() -> None:
    async def ask_as(biller: str) -> None:
        async with PartnerHttp(plain_http=["birch"]) as http:
            await http.request("POST", "http://imt.invalid/a", biller=biller, service="imt", deadline_s=2)

    with pytest.raises(Outage, match="no TLS") as raised:
        await ask_as("acme")
    assert raised.value.never_sent
    with pytest.raises(Outage, match="name is not known"):
        await ask_as("birch")


@pytest.mark.parametrize("url", ["ftp://imt.example/", "imt.example/a", "http:///a", "https://[/"])
async def test_an_address_that_is_none_was_never_sent(url: str) -> None:
    with pytest.raises(Outage) as raised:
        await ask(url)
    assert raised.value.never_sent


async def test_a_peer_without_tls_gets_nothing() -> None:
    async with serving(answers("200 OK")) as url:
        with pytest.raises(Outage) as raised:
            await ask(url.replace("http:", "https:"), deadline_s=0.3)
    assert raised.value.never_sent


async def test_a_certificate_nobody_vouches_for_gets_nothing(tmp_path: Path) -> None:
    heard = False

    async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard = bool(await reader.read(1))
        writer.close()

    server = await asyncio.start_server(listens, "127.0.0.1", 0, ssl=self_signed(tmp_path))
    async with server:
        with pytest.raises(Outage, match="certificate") as raised:
            await ask(f"https://localhost:{server.sockets[0].getsockname()[1]}/a")
    assert raised.value.never_sent
    assert not heard


def self_signed(folder: Path) -> ssl.SSLContext:
    """A server's context whose certificate is right in all but who signed it."""
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(private, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


async def test_the_trace_and_the_path_go_out_as_they_are() -> None:
    heard = b""

    async def listens(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + JSON + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()

    here = trace.new()
    token = trace.current.set(here)
    try:
        async with serving(listens) as url:
            await ask(url + "/x%2Fy%20z", "GET")
    finally:
        trace.current.reset(token)
    assert b"GET /a/x%2Fy%20z HTTP/1.1" in heard
    assert f"traceparent: {here}".encode() in heard


async def test_an_answer_that_is_not_json_after_a_write_is_unknown() -> None:
    async with serving(answers("200 OK", body=b"{")) as url:
        reply = await ask(url)
        with pytest.raises(Unknown):
            reply.json()
        read = await ask(url, "GET")
        with pytest.raises(Retryable):
            read.json()


async def test_a_stream_is_read_in_pieces_and_bounded() -> None:
    pdf = b"%PDF-1.7" + b"x" * 200_000
    async with (
        serving(answers("200 OK", b"Content-Type: application/pdf\r\n", pdf)) as url,
        PartnerHttp() as http,
    ):
        stream_of = partial(http.stream, "GET", url, biller="acme", service="imt.bills", deadline_s=2)
        async with stream_of() as stream:
            assert b"".join([chunk async for chunk in stream.chunks()]) == pdf
        with pytest.raises(Retryable, match="larger"):
            async with stream_of(max_bytes=1000):
                pytest.fail("what says itself that it is too large is not even begun")


async def test_a_stream_that_does_not_say_its_size_is_bounded_too() -> None:
    async def pours(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\nConnection: close\r\n\r\n%PDF-")
        while not writer.is_closing():
            writer.write(b"x" * 1000)
            await writer.drain()

    async with (
        serving(pours) as url,
        PartnerHttp() as http,
        http.stream("GET", url, biller="acme", service="b", deadline_s=2, max_bytes=50_000) as stream,
    ):
        with pytest.raises(Retryable, match="larger"):
            await drain(stream)


async def drain(stream: Stream) -> int:
    return sum([len(chunk) async for chunk in stream.chunks()])


async def test_a_slow_reader_is_not_held_against_the_partner() -> None:
    body = b"%PDF-" + b"x" * 3_000_000
    async with (
        serving(answers("200 OK", b"Content-Type: application/pdf\r\n", body)) as url,
        PartnerHttp() as http,
        http.stream("GET", url, biller="acme", service="b", deadline_s=0.4) as stream,
    ):
        taken = 0
        async for chunk in stream.chunks():
            if taken == 0:
                await asyncio.sleep(0.5)
            taken += len(chunk)
    assert taken == len(body)
