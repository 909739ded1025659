"""A collector of spans and a relay to the sandbox in one: what a service sends to others, kept by a test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

HOP_BY_HOP = {"connection", "content-length", "date", "server", "transfer-encoding"}


@dataclass(frozen=True)
class Told:
    """A span as OTLP has it, with the process that told of it."""

    name: str
    trace_id: str
    span_id: str
    parent: str
    process: str
    attributes: dict[str, Any]


class Collector(ThreadingHTTPServer):
    """POST /v1/traces is a collector's; everything else goes on to `partner`, its traceparent kept."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.partner = ""
        self.http = httpx.Client(timeout=30, trust_env=False)
        self.spans: list[Told] = []
        self.asked: list[tuple[str, str]] = []
        """Method and traceparent of each request to the partner."""

    def of_trace(self, trace_id: str) -> list[Told]:
        return [each for each in self.spans if each.trace_id == trace_id]


class Handler(BaseHTTPRequestHandler):
    server: Collector
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._relay()

    def do_POST(self) -> None:
        if self.path == "/v1/traces":
            self._take()
        else:
            self._relay()

    def _take(self) -> None:
        request = ExportTraceServiceRequest.FromString(self._body())
        for process in request.resource_spans:
            where = _read(process.resource.attributes)["service.instance.id"]
            for scope in process.scope_spans:
                self.server.spans += [
                    Told(
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        where,
                        _read(span.attributes),
                    )
                    for span in scope.spans
                ]
        self._answer(200, {"Content-Type": "application/x-protobuf"}, b"")

    def _relay(self) -> None:
        self.server.asked.append((self.command, self.headers.get("traceparent", "")))
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        url = f"{self.server.partner}{self.path}"
        reply = self.server.http.request(self.command, url, headers=headers, content=self._body())
        kept = {name: value for name, value in reply.headers.items() if name.lower() not in HOP_BY_HOP}
        self._answer(reply.status_code, kept, reply.content)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing: the test says what is wrong."""


def _read(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    """A collector on a free port; it ends with the block."""
    collector = Collector()
    thread = threading.Thread(target=collector.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.shutdown()
        thread.join(10)
        collector.server_close()
        collector.http.close()
