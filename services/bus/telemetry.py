"""Whether spans leave the process, and to where: OpenTelemetry's own environment variables decide."""

import asyncio
import contextlib
import os
import threading
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from opentelemetry.trace import Tracer

from services.bus.settings import ConfigurationError

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
LAST_SPANS_S = 3.0
"""So long a stopping process waits for a collector to take what is left."""


class Telemetry:
    """A tracer and what brings its spans away: in the background, in batches, with a bounded queue that
    drops what does not fit. Nothing waits for a collector that is slow or away."""

    def __init__(self, provider: Any) -> None:
        self._provider = provider
        self.tracer: Tracer = provider.get_tracer("billbus")

    async def stop(self) -> None:
        """Sends what is left, bounded by LAST_SPANS_S."""
        loop, sent = asyncio.get_running_loop(), asyncio.Event()

        def send() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(sent.set)

        # a daemon: the exporter's own patience must not keep the process
        threading.Thread(target=send, name="last spans", daemon=True).start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_SPANS_S):
                await sent.wait()


def wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a collector is named and nothing says that no spans are to be sent."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if environment.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return False
    return any(environment.get(name) for name in ENDPOINTS)


def begin(service: str) -> Telemetry | None:
    """What exports this process's spans, or None where no collector is named.

    Raises ConfigurationError where one is named and the extra `billbus[otel]` is not installed.
    """
    if not wanted():
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        names = " or ".join(ENDPOINTS)
        raise ConfigurationError([f"{names}: is set, and `pip install billbus[otel]` is missing"]) from None
    told = {"service.name": os.environ.get("OTEL_SERVICE_NAME", f"billbus-{service}")}
    resource = Resource.create({**told, "service.instance.id": str(uuid4())})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Telemetry(provider)
