"""The schema registry's answers: only its own word says that a schema is not there; all else is waiting."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from services.bus.registry import Registry, RegistryAway, UnknownSchema

JSON, HTML = "application/vnd.schemaregistry.v1+json", "text/html"
Answer = tuple[int, str, str]
HERE: Answer = (200, JSON, json.dumps({"schema": json.dumps({"type": "string"})}))
NOT_THERE: Answer = (404, JSON, json.dumps({"error_code": 40403, "message": "Schema not found"}))


class Answering(ThreadingHTTPServer):
    """Says what it is told to; None is silence."""

    daemon_threads = True
    answer: Answer | None = HERE


class Handler(BaseHTTPRequestHandler):
    server: Answering

    def do_GET(self) -> None:
        if self.server.answer is None:
            time.sleep(1)
            return
        status, kind, body = self.server.answer
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[Answering]:
    with Answering(("127.0.0.1", 0), Handler) as made:
        serving = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        yield made
        made.shutdown()
        serving.join()


@pytest.mark.parametrize(
    "answer",
    [
        None,
        (500, JSON, '{"error_code": 50001, "message": "store"}'),
        (401, HTML, "<html>"),
        (404, HTML, "<html>a proxy that has lost its way</html>"),
        (404, JSON, '{"message": "no such path"}'),
        (200, HTML, "<html>welcome</html>"),
    ],
)
async def test_what_is_not_the_registry_s_own_no_is_waited_for_and_over_when_it_is_over(
    server: Answering, answer: Answer | None
) -> None:
    registry = Registry(f"http://127.0.0.1:{server.server_port}", deadline_s=0.3)
    server.answer = answer
    began = time.monotonic()
    with pytest.raises(RegistryAway):
        await registry.schema(7)
    assert time.monotonic() - began < 5
    server.answer = HERE
    assert await registry.schema(7) == {"type": "string"}
    registry.close()


async def test_its_own_no_is_believed_and_not_kept(server: Answering) -> None:
    registry = Registry(f"http://127.0.0.1:{server.server_port}", deadline_s=1)
    server.answer = NOT_THERE
    with pytest.raises(UnknownSchema):
        await registry.schema(7)
    server.answer = HERE
    assert await registry.schema(7) == {"type": "string"}
    registry.close()


async def test_nobody_there_is_away() -> None:
    registry = Registry("http://127.0.0.1:9", deadline_s=0.3)
    with pytest.raises(RegistryAway):
        await registry.schema(7)
    registry.close()
