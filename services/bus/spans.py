"""Spans by the OpenTelemetry API, for a process whose spans somebody takes (services.bus.telemetry).

What is wrapped, and so costs nothing where nobody does: the HTTP side, the publisher, the partners' client,
and a lane's `deliver` and `ask`. A span holds kinds and names, never an account, an amount or a person.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, TypeVar

from opentelemetry.context import Context
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.bus import trace
from services.bus.intake import PROBES
from services.bus.lane import E, Lane
from services.bus.partner import PartnerHttp
from services.bus.publisher import Handed, NotAcknowledged, Publisher
from services.bus.replies import Reply, Stream
from services.bus.trace import Trace
from services.events import Event

R = TypeVar("R")
Attributes = Mapping[str, str | int | bool]


@contextmanager
def span(
    tracer: Tracer, name: str, kind: SpanKind, attributes: Attributes, *, stays: bool = False
) -> Iterator[Span]:
    """Begins a span below the work at hand, which is the work at hand until the block ends.

    With `stays` it remains so afterwards, in this task: what follows from it is below it, but another such
    step is beside it. An exception is told by its kind alone; what it says may hold data.
    """
    before = trace.current.get()
    above = replace(before, is_span=False) if before and stays else before
    begun = tracer.start_span(name, _context(above), kind, attributes)
    trace.current.set(_place(begun.get_span_context(), above))
    try:
        yield begun
    except BaseException as error:
        begun.set_attribute("error.type", type(error).__name__)
        begun.set_status(StatusCode.ERROR)
        raise
    finally:
        begun.end()
        if not stays:
            trace.current.set(before)  # no reset: a stream may end in another task than it began in


def _context(before: Trace | None) -> Context:
    if before is None or not before.nearest_span:
        return Context()
    flags = TraceFlags(int(before.flags, 16) & TraceFlags.SAMPLED)
    parent = SpanContext(
        int(before.trace_id, 16), int(before.nearest_span, 16), is_remote=True, trace_flags=flags
    )
    return set_span_in_context(NonRecordingSpan(parent), Context())


def _place(of: SpanContext, before: Trace | None) -> Trace:
    parent = before.nearest_span if before else ""
    return Trace(f"{of.trace_id:032x}", f"{of.span_id:016x}", f"{of.trace_flags:02x}", parent, is_span=True)


class TracedIntake:
    """Outermost of the middleware: a span a request; the intake's own place in the trace is below it."""

    def __init__(self, app: ASGIApp, *, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        told = trace.parse(dict(scope["headers"]).get(b"traceparent"))
        trace.current.set(told.child() if told else None)
        method = scope["method"]
        with span(self._tracer, method, SpanKind.SERVER, {"http.request.method": method}) as ours:

            async def sending(message: Message) -> None:
                if message["type"] == "http.response.start":
                    ours.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= 500:
                        ours.set_status(StatusCode.ERROR)
                await send(message)

            here = (b"traceparent", str(trace.current.get()).encode())
            others = [each for each in scope["headers"] if each[0] != b"traceparent"]
            inner = dict(scope, headers=[*others, here])
            try:
                await self._app(inner, receive, sending)
            finally:
                # the route's template, never the address itself: that would hold account numbers
                if (route := getattr(inner.get("route"), "path_format", None)) is not None:
                    ours.update_name(f"{method} {route}")
                    ours.set_attribute("http.route", route)


class TracedPublisher(Publisher):
    """A span a publication; the records carry its place, so that whoever reads them goes on from it."""

    def __init__(self, tracer: Tracer, *given: Any) -> None:
        super().__init__(*given)
        self._tracer = tracer

    async def publish(self, *events: Event, traceparent: str | None = None) -> None:
        del traceparent  # the place of the work at hand, which is this span
        with self._sending(events):
            await super().publish(*events)

    async def publish_each(
        self, events: Sequence[Event], traceparent: str | None = None
    ) -> list[NotAcknowledged | None]:
        del traceparent
        with self._sending(events) as ours:
            failures = await super().publish_each(events)
            if any(failures):
                ours.set_status(StatusCode.ERROR)
            return failures

    async def hand_over(self, events: Sequence[Event], traceparent: str | None = None) -> Handed:
        del traceparent
        with self._sending(events):
            return await super().hand_over(events)

    @contextmanager
    def _sending(self, events: Sequence[Event]) -> Iterator[Span]:
        topics = sorted({event.TOPIC for event in events})
        told: Attributes = {
            "messaging.system": "kafka",
            "messaging.operation.type": "send",
            "messaging.destination.name": ",".join(topics),
            "messaging.batch.message_count": len(events),
        }
        with span(self._tracer, f"send {','.join(topics)}", SpanKind.PRODUCER, told) as ours:
            yield ours


class TracedPartners(PartnerHttp):
    """A span a request to a partner, whose place the partner is told."""

    def __init__(self, tracer: Tracer, **given: Any) -> None:
        super().__init__(**given)
        self._tracer = tracer

    async def request(
        self, method: str, url: str, *, biller: str, service: str, deadline_s: float, **given: Any
    ) -> Reply:
        with self._asking(method, biller, service) as ours:
            reply = await super().request(
                method, url, biller=biller, service=service, deadline_s=deadline_s, **given
            )
            ours.set_attribute("http.response.status_code", reply.status)
            return reply

    @asynccontextmanager
    async def stream(
        self, method: str, url: str, *, biller: str, service: str, deadline_s: float, **given: Any
    ) -> AsyncIterator[Stream]:
        with self._asking(method, biller, service) as ours:
            asking = super().stream(
                method, url, biller=biller, service=service, deadline_s=deadline_s, **given
            )
            async with asking as stream:
                ours.set_attribute("http.response.status_code", stream.status)
                yield stream

    @contextmanager
    def _asking(self, method: str, biller: str, service: str) -> Iterator[Span]:
        told: Attributes = {
            "http.request.method": method.upper(),
            "billbus.biller": biller,
            "billbus.partner": service,
        }
        with span(self._tracer, f"{method.upper()} {service}", SpanKind.CLIENT, told) as ours:
            yield ours


def traced(lane: Lane[E], tracer: Tracer) -> Lane[E]:
    """The lane with a span for each attempt and look-up; the outcome is below the one that decided."""
    ask = None if lane.ask is None else _step(lane.ask, "look up", lane, tracer)
    return replace(lane, deliver=_step(lane.deliver, "deliver", lane, tracer), ask=ask)


def _step(
    call: Callable[[E], Awaitable[R]], name: str, lane: Lane[E], tracer: Tracer
) -> Callable[[E], Awaitable[R]]:
    async def stepping(event: E) -> R:
        read: Any = event
        told: Attributes = {
            "messaging.system": "kafka",
            "messaging.operation.type": "process",
            "messaging.destination.name": lane.reads.TOPIC,
            "billbus.lane": lane.name,
            "billbus.biller": read.biller,
        }
        with span(tracer, f"{name} {lane.name}", SpanKind.CONSUMER, told, stays=True) as ours:
            answer = await call(event)
            ours.set_attribute("billbus.answer", type(answer).__name__.lower())
            return answer

    return stepping
