"""W3C trace context: one trace from the partner's request to the last outcome."""

import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass, field

_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16

current: ContextVar["Trace | None"] = ContextVar("billbus_trace", default=None)
"""The trace of the request or record being worked on."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A place in a trace; `str()` is the traceparent header.

    `parent` is the span that this place came from, '' where there is none; `is_span` says that the place is
    itself a span that is exported, which needs services.bus.spans.
    """

    trace_id: str
    span_id: str
    flags: str = "01"
    parent: str = field(default="", compare=False)
    is_span: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"

    def child(self) -> "Trace":
        """The next place in the same trace."""
        return Trace(self.trace_id, secrets.token_hex(8), self.flags, self.span_id)

    @property
    def nearest_span(self) -> str:
        """The id of the span that whatever begins here is a child of; '' for none."""
        return self.span_id if self.is_span else self.parent


def new() -> Trace:
    """The beginning of a new trace."""
    return Trace(secrets.token_hex(16), secrets.token_hex(8))


def parse(traceparent: str | bytes | None) -> Trace | None:
    """What the header says, or None where it is missing or not valid."""
    if isinstance(traceparent, bytes):
        traceparent = traceparent.decode("latin-1")
    match = _TRACEPARENT.fullmatch(traceparent.strip()) if traceparent else None
    if match is None or match[2] == _NO_TRACE or match[3] == _NO_SPAN:
        return None
    if match[1] == "00" and match[5]:  # only a later version may say more
        return None
    return Trace(match[2], match[3], match[4])


def go_on(traceparent: str | bytes | None) -> Trace:
    """Goes on with the caller's trace, or begins one."""
    told = parse(traceparent)
    return told.child() if told else new()


def current_traceparent() -> str | None:
    """The traceparent of the work at hand, for a record's or a request's header."""
    trace = current.get()
    return str(trace) if trace else None
