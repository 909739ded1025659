"""Connections to a partner: kept, shared, closed and cut short; raw servers that do what no good one does."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import ExitStack, asynccontextmanager, suppress

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.bus.http1 import pool as pools
from services.bus.http1.dial import Dialer
from services.bus.partner import Outage, PartnerError, PartnerHttp, Reply, Retryable, Unknown

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
ANSWER = HEAD + b"Content-Length: 2\r\n\r\n{}"


class Peer:
    """A server that does on each connection what it is told; `asked` is how many requests each has had."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.heard = b""

    async def requests(self, reader: asyncio.StreamReader) -> AsyncIterator[int]:
        """The numbers of the requests on this connection, from 0, each read whole."""
        place = len(self.asked)
        self.asked.append(0)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
                self.heard = head + await reader.readexactly(length)
                self.asked[place] += 1
                yield self.asked[place] - 1


Act = Callable[[Peer, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serving(act: Act) -> AsyncIterator[tuple[Peer, str]]:
    peer = Peer()
    running: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        peer.writers.append(writer)
        with suppress(ConnectionError, asyncio.CancelledError):
            await act(peer, reader, writer)
        running.discard(task)
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield peer, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/a"
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def saying(*answers: bytes, then_close: bool = False) -> Act:
    """Answers the n-th request of each connection with the n-th of these, and goes on with the last."""

    async def act(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for number in peer.requests(reader):
            writer.write(answers[min(number, len(answers) - 1)])
            await writer.drain()
            if then_close:
                return

    return act


async def ask(
    http: PartnerHttp, url: str, method: str = "POST", deadline_s: float = 2, data: bytes | None = b"{}"
) -> Reply:
    body = data if method == "POST" else None
    return await http.request(method, url, biller="acme", service="imt", deadline_s=deadline_s, data=body)


async def fault(http: PartnerHttp, url: str, method: str = "POST", deadline_s: float = 2) -> PartnerError:
    with pytest.raises(PartnerError) as raised:
        await ask(http, url, method, deadline_s)
    return raised.value


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - the other side of a socket has no event for us
            await asyncio.sleep(0.001)


# -- kept and shared -----------------------------------------------------------------------------------


async def test_requests_one_after_another_share_a_connection() -> None:
    async with serving(saying(ANSWER)) as (peer, url), PartnerHttp() as http:
        for _ in range(5):
            await ask(http, url)
        assert peer.asked == [5]


async def test_requests_at_once_have_no_more_connections_than_places() -> None:
    async with serving(saying(ANSWER)) as (peer, url), PartnerHttp(limit=3) as http:
        await asyncio.gather(*(ask(http, url) for _ in range(50)))
        assert len(peer.asked) <= 3
        assert sum(peer.asked) == 50


async def test_a_place_is_free_again_however_a_request_ends() -> None:
    async def silent_at_first(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for _ in peer.requests(reader):
            if len(peer.asked) > 3:
                writer.write(ANSWER)

    async with serving(silent_at_first) as (peer, url), PartnerHttp(limit=1) as http:
        await fault(http, url, deadline_s=0.05)
        given_up = asyncio.create_task(ask(http, url))
        await until(lambda: peer.asked[1:] == [1])
        waiting = asyncio.create_task(ask(http, url))
        await asyncio.sleep(0)
        waiting.cancel()
        given_up.cancel()
        await asyncio.gather(given_up, waiting, return_exceptions=True)
        await fault(http, url, deadline_s=0.05)
        assert (await ask(http, url)).ok


async def test_a_place_that_comes_as_its_waiter_gives_up_is_not_lost() -> None:
    places = pools.Pool(1, Dialer())
    assert places.try_enter()
    waiting = asyncio.create_task(places.enter(5))
    await asyncio.sleep(0)
    places.leave()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert places.try_enter()


async def test_one_service_of_a_biller_does_not_take_anothers_connection() -> None:
    async with serving(saying(ANSWER)) as (peer, url), PartnerHttp() as http:
        for biller, service in [("acme", "imt"), ("acme", "ic"), ("birch", "imt")]:
            await http.request("POST", url, biller=biller, service=service, deadline_s=2)
        assert peer.asked == [1, 1, 1]


async def test_unused_connections_to_several_addresses_stay_within_the_limit() -> None:
    async with (
        serving(saying(ANSWER)) as (one, first),
        serving(saying(ANSWER)) as (two, second),
        PartnerHttp(limit=1) as http,
    ):
        for url in (first, second, first):
            await ask(http, url)
        assert (one.asked, two.asked) == ([1, 1], [1]), "the second address took the only place"


async def test_an_unused_connection_is_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pools, "KEPT_S", 0.05)
    async with serving(saying(ANSWER)) as (peer, url), PartnerHttp() as http:
        await ask(http, url)
        await until(lambda: peer.writers[0].is_closing())
        await ask(http, url)
        assert peer.asked == [1, 1]


async def test_what_is_open_at_the_end_is_closed() -> None:
    async def silent(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del writer
        async for _ in peer.requests(reader):
            pass

    async with serving(silent) as (peer, url):
        async with PartnerHttp() as http:
            asking = asyncio.create_task(fault(http, url))
            await until(lambda: peer.asked == [1])
        assert isinstance(await asking, Unknown)
        await until(lambda: peer.writers[0].is_closing())


# -- a connection that was closed ----------------------------------------------------------------------


@pytest.mark.parametrize("seen", [True, False])
async def test_a_connection_closed_while_unused_costs_nothing(seen: bool) -> None:
    async with serving(saying(ANSWER)) as (peer, url), PartnerHttp() as http:
        await ask(http, url)
        peer.writers[0].transport.abort()
        if seen:
            await asyncio.sleep(0.02)
        else:  # the goodbye is in the kernel, our loop has not come to it
            await asyncio.sleep(0)
        assert (await ask(http, url)).ok
        assert peer.asked == [1, 1]


async def closes_on_the_second(
    peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    async for number in peer.requests(reader):
        if number == 1:
            return
        writer.write(ANSWER)


async def test_a_write_on_a_connection_that_dies_unanswered_is_never_sent_again() -> None:
    async with serving(closes_on_the_second) as (peer, url), PartnerHttp() as http:
        await ask(http, url)
        error = await fault(http, url)
        assert isinstance(error, Unknown)
        assert not error.never_sent
        assert peer.asked == [2]


async def test_a_read_on_a_connection_that_dies_unanswered_is_asked_once_more_on_a_new_one() -> None:
    async with serving(closes_on_the_second) as (peer, url), PartnerHttp() as http:
        await ask(http, url, "GET")
        assert (await ask(http, url, "GET")).ok
        assert peer.asked == [2, 1]


async def test_a_read_that_a_new_connection_does_not_answer_is_retryable() -> None:
    async def closes(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del writer
        async for _ in peer.requests(reader):
            return

    async with serving(closes) as (peer, url), PartnerHttp() as http:
        error = await fault(http, url, "GET")
        assert isinstance(error, Retryable)
        assert not error.never_sent
        assert peer.asked == [1]


# -- answers that end a connection ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        ANSWER + b"\r\n",
        HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}",
        ANSWER.replace(b"HTTP/1.1", b"HTTP/1.0"),
    ],
)
async def test_a_connection_is_not_used_again_after(answer: bytes) -> None:
    async with serving(saying(answer)) as (peer, url), PartnerHttp() as http:
        assert (await ask(http, url)).body == b"{}"
        assert (await ask(http, url)).body == b"{}"
        assert peer.asked == [1, 1]


async def test_bytes_that_come_unasked_are_no_answer_to_the_next_request() -> None:
    async def talks(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for _ in peer.requests(reader):
            writer.write(ANSWER)
            await asyncio.sleep(0.02)
            writer.write(ANSWER.replace(b"{}", b"[]"))

    async with serving(talks) as (peer, url), PartnerHttp() as http:
        assert (await ask(http, url)).body == b"{}"
        await asyncio.sleep(0.05)
        assert (await ask(http, url)).body == b"{}"
        assert peer.asked == [1, 1]


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;a=b\r\n{\r\n1\r\n}\r\n0\r\nX: y\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + ANSWER,
    ],
)
async def test_an_answer_in_many_pieces_is_one_and_its_connection_is_kept(answer: bytes) -> None:
    async def drips(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for _ in peer.requests(reader):
            for at in range(len(answer)):
                writer.write(answer[at : at + 1])
                await asyncio.sleep(0)

    async with serving(drips) as (peer, url), PartnerHttp() as http:
        for _ in range(2):
            assert (await ask(http, url)).body == b"{}"
        assert peer.asked == [2]


async def test_a_body_that_ends_with_the_connection() -> None:
    async with serving(saying(HEAD + b"\r\n{}", then_close=True)) as (_, url), PartnerHttp() as http:
        assert (await ask(http, url)).body == b"{}"


async def test_a_peer_that_stops_listening_and_still_answers_is_heard() -> None:
    async def half_closes(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for _ in peer.requests(reader):
            writer.write(ANSWER)
            writer.write_eof()
            await asyncio.sleep(0.05)

    async with serving(half_closes) as (peer, url), PartnerHttp() as http:
        assert (await ask(http, url)).ok
        assert (await ask(http, url)).ok
        assert peer.asked == [1, 1]


async def test_an_answer_before_the_request_is_whole_is_an_answer_and_ends_the_connection() -> None:
    async def impatient(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer.asked.append(1)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b'HTTP/1.1 413 No\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{"Code":"L"}'
        )
        await asyncio.Event().wait()

    async with serving(impatient) as (peer, url), PartnerHttp() as http:
        for _ in range(2):
            reply = await ask(http, url, data=b"x" * 30_000_000)
            assert (reply.status, reply.json()) == (413, {"Code": "L"})
        assert peer.asked == [1, 1]


async def test_an_answer_in_an_encoding_that_was_not_asked_for_is_none() -> None:
    zipped = HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"
    async with serving(saying(zipped)) as (_, url), PartnerHttp() as http:
        assert isinstance(await fault(http, url), Unknown)


async def test_a_status_counts_before_a_broken_body() -> None:
    away = b"HTTP/1.1 503 Away\r\nRetry-After: 9\r\nTransfer-Encoding: chunked\r\n\r\nbroken\r\n"
    async with serving(saying(away)) as (_, url), PartnerHttp() as http:
        error = await fault(http, url)
        assert isinstance(error, Outage)
        assert error.retry_after == 9


# -- deadlines -----------------------------------------------------------------------------------------


async def test_a_peer_that_never_takes_the_request_is_cut_at_the_deadline() -> None:
    async def deaf(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del peer, reader
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # of a stream
        await asyncio.Event().wait()

    async with serving(deaf) as (_, url), PartnerHttp() as http:
        began = time.monotonic()
        with pytest.raises(Unknown, match="could not be written"):
            await ask(http, url, deadline_s=0.2, data=b"x" * 30_000_000)
        assert time.monotonic() - began < 2


async def test_a_peer_that_never_agrees_on_tls_is_an_outage_at_the_deadline() -> None:
    async def mute(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        del peer, writer
        await reader.read(-1)

    async with serving(mute) as (_, url), PartnerHttp() as http:
        began = time.monotonic()
        error = await fault(http, url.replace("http:", "https:"), deadline_s=0.2)
        assert isinstance(error, Outage)
        assert error.never_sent
        assert time.monotonic() - began < 2


async def test_a_host_that_swallows_connections_is_an_outage_at_the_deadline() -> None:
    with ExitStack() as stack:
        swallows = stack.enter_context(socket.socket())
        swallows.bind(("127.0.0.1", 0))
        swallows.listen(0)  # and never accepts: once its queue is full, a first packet has no answer
        for _ in range(4):
            queued = stack.enter_context(socket.socket())
            queued.setblocking(False)
            queued.connect_ex(swallows.getsockname())
        async with PartnerHttp() as http:
            began = time.monotonic()
            error = await fault(http, f"http://127.0.0.1:{swallows.getsockname()[1]}/", deadline_s=0.3)
    assert isinstance(error, Outage)
    assert error.never_sent
    assert time.monotonic() - began < 2


async def test_a_head_that_drips_is_cut_at_the_deadline() -> None:
    async def drips(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for _ in peer.requests(reader):
            writer.write(HEAD)
            while not writer.is_closing():
                writer.write(b"X: y\r\n")
                await writer.drain()
                await asyncio.sleep(0.02)

    async with serving(drips) as (_, url), PartnerHttp() as http:
        began = time.monotonic()
        with pytest.raises(Unknown, match="no answer"):
            await ask(http, url, deadline_s=0.3)
        assert time.monotonic() - began < 2


# -- fuzz ----------------------------------------------------------------------------------------------

said = st.one_of(
    st.binary(max_size=120),
    st.sampled_from(
        [ANSWER, HEAD + b"\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"]
    ).flatmap(
        lambda whole: st.tuples(st.integers(0, len(whole)), st.binary(max_size=3)).map(
            lambda edit: whole[: edit[0]] + edit[1] + whole[edit[0] + len(edit[1]) :]
        )
    ),
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from([asyncio.run, uvloop.run]), st.sampled_from(["GET", "POST"]), said, st.integers(1, 60))
def test_whatever_a_peer_says_and_then_closes_is_an_answer_or_a_partners_error(
    run: Callable[[Coroutine[None, None, None]], None], method: str, data: bytes, size: int
) -> None:
    async def babbles(peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for _ in peer.requests(reader):
            for at in range(0, len(data), size):
                writer.write(data[at : at + size])
                await asyncio.sleep(0)
            return

    async def meet() -> None:
        async with serving(babbles) as (_, url), PartnerHttp(limit=1) as http, asyncio.timeout(5):
            for _ in range(2):
                with suppress(PartnerError):
                    await ask(http, url, method, deadline_s=3)

    run(meet())
