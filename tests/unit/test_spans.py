"""Spans hang where they should, whatever happens within them, and leave only where a collector is named."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from services.bus import telemetry, trace
from services.bus.settings import ConfigurationError
from services.bus.spans import TracedIntake, span
from services.bus.telemetry import Telemetry, begin, wanted

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


class Spans:
    """A tracer whose spans are kept."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = provider.get_tracer("test")

    def named(self, name: str) -> ReadableSpan:
        (found,) = [each for each in self.exporter.get_finished_spans() if each.name == name]
        return found

    def parent(self, name: str) -> str:
        parent = self.named(name).parent
        return f"{parent.span_id:016x}" if parent else ""

    def id(self, name: str) -> str:
        return f"{self.named(name).context.span_id:016x}"


@pytest.fixture
def spans() -> Iterator[Spans]:
    token = trace.current.set(None)
    yield Spans()
    trace.current.reset(token)


def test_a_span_is_below_what_told_of_it_and_is_what_is_told_on(spans: Spans) -> None:
    trace.current.set(trace.go_on(CALLER))
    before = trace.current.get()
    with span(spans.tracer, "outer", SpanKind.SERVER, {}):
        outer = trace.current_traceparent()
        with span(spans.tracer, "inner", SpanKind.CLIENT, {}):
            inner = trace.current_traceparent()
    assert trace.current.get() is before
    assert outer == f"00-4bf92f3577b34da6a3ce929d0e0e4736-{spans.id('outer')}-01"
    assert inner == f"00-4bf92f3577b34da6a3ce929d0e0e4736-{spans.id('inner')}-01"
    assert (spans.parent("outer"), spans.parent("inner")) == ("00f067aa0ba902b7", spans.id("outer"))


def test_steps_of_one_record_are_beside_each_other_and_what_follows_below_the_last(spans: Spans) -> None:
    trace.current.set(trace.go_on(CALLER))
    for name in ("look up", "deliver"):
        with span(spans.tracer, name, SpanKind.CONSUMER, {}, stays=True):
            pass
    with span(spans.tracer, "outcome", SpanKind.PRODUCER, {}):
        pass
    assert spans.parent("look up") == spans.parent("deliver") == "00f067aa0ba902b7"
    assert spans.parent("outcome") == spans.id("deliver")


def test_without_a_caller_a_trace_begins(spans: Spans) -> None:
    with span(spans.tracer, "tick", SpanKind.INTERNAL, {}):
        told = trace.parse(trace.current_traceparent())
    assert told is not None
    assert told.span_id == spans.id("tick")
    assert spans.parent("tick") == ""


def test_who_did_not_sample_is_not_exported_and_still_handed_on(spans: Spans) -> None:
    trace.current.set(trace.go_on(CALLER[:-1] + "0"))
    with span(spans.tracer, "unseen", SpanKind.CLIENT, {}):
        told = trace.parse(trace.current_traceparent())
    assert told is not None
    assert (told.trace_id, told.flags) == ("4bf92f3577b34da6a3ce929d0e0e4736", "00")
    assert spans.exporter.get_finished_spans() == ()


def test_an_exception_is_told_by_its_kind_and_never_by_what_it_says(spans: Spans) -> None:
    with pytest.raises(LookupError), span(spans.tracer, "broken", SpanKind.CLIENT, {}):
        raise LookupError("account 0000001001")
    told = spans.named("broken")
    assert (told.status.status_code, told.attributes) == (StatusCode.ERROR, {"error.type": "LookupError"})
    assert "0000001001" not in told.to_json()


async def test_a_span_may_end_in_another_task_than_it_began_in(spans: Spans) -> None:
    begun = span(spans.tracer, "stream", SpanKind.CLIENT, {})
    await asyncio.create_task(asyncio.to_thread(begun.__enter__))
    begun.__exit__(None, None, None)
    assert spans.named("stream")


async def test_a_request_is_a_span_and_the_intake_goes_on_below_it(spans: Spans) -> None:
    seen: list[trace.Trace] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        del receive
        seen.append(trace.go_on(dict(scope["headers"])[b"traceparent"]))
        scope["route"] = SimpleNamespace(path_format="/ic/{biller}/payments")
        await send({"type": "http.response.start", "status": 503})

    async def nothing(message: Any = None) -> Any:
        del message

    intake = TracedIntake(app, tracer=spans.tracer)
    headers = [(b"host", b"x"), (b"traceparent", CALLER.encode())]
    scope = {"type": "http", "method": "POST", "path": "/ic/acme/payments", "headers": headers}
    await intake(scope, nothing, nothing)
    await intake(scope | {"path": "/livez", "method": "GET"}, nothing, nothing)
    name = "POST /ic/{biller}/payments"
    assert len(spans.exporter.get_finished_spans()) == 1
    assert spans.parent(name) == "00f067aa0ba902b7"
    assert seen[0].nearest_span == spans.id(name)
    told = spans.named(name)
    assert (told.attributes or {})["http.response.status_code"] == 503
    assert told.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize(
    ("environment", "leave"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_environment_says_whether_spans_leave(environment: dict[str, str], leave: bool) -> None:
    assert wanted(environment) is leave


def test_a_collector_without_the_extra_is_refused_with_the_way_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(ConfigurationError, match=r"pip install billbus\[otel\]"):
        begin("payments")


async def test_a_collector_that_does_not_answer_keeps_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "LAST_SPANS_S", 0.05)
    answers = threading.Event()
    stuck = Telemetry(SimpleNamespace(get_tracer=lambda _: None, shutdown=lambda: answers.wait(10)))
    await asyncio.wait_for(stuck.stop(), 5)
    answers.set()
