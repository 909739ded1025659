"""The server's HTTP/1.1 protocol: httptools, with a bound on what it keeps before it makes anything of it."""

from httptools import HttpParserError
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LARGEST = 64 * 1024
"""Bytes of a head, a chunk's head or trailers, until the connection is closed."""
INVALID = "Invalid HTTP request received."


class BoundedHeads(HttpToolsProtocol):
    """Answers 400 and closes where a head does not end in time, or names no host or two.

    llhttp itself keeps a name or a value as long as it goes on.
    """

    _unheard = 0

    def data_received(self, data: bytes) -> None:
        self._unheard += len(data)
        super().data_received(data)
        if self._unheard > LARGEST and not self.transport.is_closing():
            if self.cycle is None or self.cycle.response_complete:
                self.send_400_response(INVALID)
            else:  # trailers without end: the answer may be under way
                self.transport.abort()

    def on_headers_complete(self) -> None:
        self._unheard = 0
        hosts = sum(name == b"host" for name, _ in self.headers)
        if hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            raise HttpParserError("a request names one host")
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._unheard = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._unheard = 0
        super().on_message_complete()
