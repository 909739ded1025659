"""Peer: aiokafka and a minimal HTTP/1.1 keep-alive client on asyncio transports."""

import asyncio
from urllib.parse import urlsplit

from benchmarks.lane.peers.keyed_loop import KeyedLoop, start
from benchmarks.lane.peers.settings import POST_LIMIT_S, settings

LONGEST_ANSWER = 64 * 1024


class Connection(asyncio.Protocol):
    """One request at a time; the answer must carry Content-Length."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[int] | None = None
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # always a stream transport

    def connection_lost(self, error: Exception | None) -> None:
        self.transport = None
        self.fail(error or ConnectionError("closed by the partner"))

    def request(self, message: bytes) -> asyncio.Future[int]:
        assert self.transport is not None
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(message)
        return self.answer

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, blank, body = self.received.partition(b"\r\n\r\n")
        if not blank:
            if len(self.received) > LONGEST_ANSWER:
                self.close("answer too long")
            return
        status_line, *lines = head.split(b"\r\n")
        headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)
        }
        length = headers.get(b"content-length", b"")
        if not length.isdigit() or int(length) > LONGEST_ANSWER:
            self.close("answer without a usable Content-Length")
            return
        if len(body) < int(length):
            return
        self.received = b""
        status = int(status_line.split(b" ", 2)[1])
        if self.answer is not None and not self.answer.done():
            self.answer.set_result(status)
        if headers.get(b"connection", b"").lower() == b"close":
            self.close("the partner asked to close")

    def fail(self, error: Exception) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(error)

    def close(self, reason: str) -> None:
        if self.transport is not None:
            self.transport.close()
            self.transport = None
        self.fail(ConnectionError(reason))


class Client:
    """Keeps idle connections; the caller bounds how many are in use."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        assert parts.hostname is not None
        self.host, self.port = parts.hostname, parts.port or 80
        self.head = (
            f"POST {parts.path}/payments HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            "Content-Type: application/json\r\nContent-Length: "
        ).encode()
        self.idle: list[Connection] = []

    async def connection(self) -> Connection:
        while self.idle:
            if (kept := self.idle.pop()).transport is not None:
                return kept
        loop = asyncio.get_running_loop()
        _, opened = await loop.create_connection(Connection, self.host, self.port)
        return opened

    async def post(self, body: bytes) -> bool:
        message = b"%b%d\r\n\r\n%b" % (self.head, len(body), body)
        try:
            async with asyncio.timeout(POST_LIMIT_S):
                connection = await self.connection()
                try:
                    status = await connection.request(message)
                except BaseException:
                    connection.close("abandoned")
                    raise
        except (OSError, TimeoutError):
            return False
        self.idle.append(connection)
        return status == 200


async def main() -> None:
    chosen = settings()
    await KeyedLoop(chosen, Client(chosen.partner_url).post).run()


if __name__ == "__main__":
    start(main())
