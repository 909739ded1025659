"""The HTTP side of a service: everything a request meets before and after the service's own routes.

Observed       trace in and out, one metric and one log line a request, 500 without details
Crowd          at most so many requests at a time
Bodies         size, pace, depth, plain and unambiguous (services/bus/bodies.py)
Direct         routes that are called without the framework (services/bus/direct.py)
routes         the service's routers, /livez, /readyz, /metrics, /openapi.json
"""

import asyncio
import inspect
from collections import Counter
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.telemetry import TelemetryConfig
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.bus import metrics, trace
from services.bus.bodies import Bodies, Route, named
from services.bus.direct import Direct
from services.bus.openapi import describe
from services.bus.problem import Problem, send_problem
from services.bus.publisher import NotAcknowledged
from services.bus.support import Unsupported

if TYPE_CHECKING:
    from services.bus.service import Bus

log = structlog.get_logger()
Check = Callable[[], bool | Awaitable[bool]]
RETRY_AFTER_S = 5
CHECK_S = 2.0
NOT_THE_FRAMEWORKS: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}
"""Observed does it; the framework would ask at each request whether anybody wants its own."""
PROBES = frozenset({"/livez", "/readyz", "/metrics"})


def create_app(
    service: str, bus: "Bus", routers: Sequence[APIRouter], ready: Mapping[str, Check] | None = None
) -> FastAPI:
    """The service's HTTP application.

    Args:
        service: the service's name, as metrics and the OpenAPI document carry it.
        bus: what routes find as `request.app.state.bus`.
        routers: the service's own routes. An endpoint may be marked by `bodies.streams` or `bodies.takes`.
        ready: what /readyz asks, by name; a check answers within 2 s, and may be a coroutine function.
    """
    app = FastAPI(
        title=f"billbus {service}", version="1", docs_url=None, redoc_url=None, telemetry=NOT_THE_FRAMEWORKS
    )
    app.state.bus = bus
    for router in routers:
        app.include_router(router)
    app.include_router(probes(ready or {}))
    add_refusals(app, service)
    app.add_middleware(Direct, routers=routers, handlers=app.exception_handlers)
    app.add_middleware(
        Bodies,
        clock=bus.clock,
        limit=bus.settings.body_limit_bytes,
        stream_limit=bus.settings.bif_limit_bytes,
        routes=routes_of_their_own(routers),
    )
    app.add_middleware(Crowd, limit=bus.settings.concurrency_limit, billers=bus.billers)
    app.add_middleware(Observed, service=service, bus=bus)
    describe(app)
    return app


def routes_of_their_own(routers: Sequence[APIRouter]) -> list[Route]:
    """The routes whose endpoint takes its body in a way of its own."""
    return [
        (route.path_regex, frozenset(route.methods or ()), taking)
        for router in routers
        for route in router.routes
        if isinstance(route, APIRoute) and (taking := getattr(route.endpoint, "taking", None))
    ]


class Observed:
    """Goes on with the caller's trace, counts and times the request, and turns a fault of ours into 500."""

    def __init__(self, app: ASGIApp, *, service: str, bus: "Bus") -> None:
        self._app = app
        self._service = service
        self._clock = bus.clock
        self._billers = bus.billers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        here = trace.go_on(dict(scope["headers"]).get(b"traceparent"))
        trace.current.set(here)
        structlog.contextvars.bind_contextvars(trace_id=here.trace_id)
        status = 0
        began = self._clock.monotonic()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", []), (b"traceparent", str(here).encode())]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as error:
            log.error("intake.failed", exc_info=error)
            if not status:
                await send_problem(
                    Problem(500, "Internal error", "The fault is ours; it is logged."), sending
                )
        finally:
            self._tell(scope, status, self._clock.monotonic() - began)

    def _tell(self, scope: Scope, status: int, seconds: float) -> None:
        # the route's template, never the address itself: that would hold account numbers
        route = getattr(scope.get("route"), "path_format", "none")
        metrics.REQUESTS.labels(self._service, route, scope["method"], str(status or "gone")).inc()
        metrics.REQUEST_SECONDS.labels(self._service, route).observe(seconds)
        if scope["path"] not in PROBES:
            biller = named_biller(scope, self._billers)
            log.info(
                "request",
                route=route,
                method=scope["method"],
                status=status,
                biller=biller or None,
                ms=round(seconds * 1000, 1),
            )


def named_biller(scope: Scope, billers: Container[str]) -> str:
    """The biller's slug in an address of ours, where it stands in second place; '' for none or a stranger."""
    whose = (*scope["path"].split("/", 3), "", "")[2]
    return whose if whose in billers else ""


class Crowd:
    """Takes so many requests at a time, so that one biller leaves room for others; the probes get in."""

    def __init__(self, app: ASGIApp, *, limit: int, billers: Container[str]) -> None:
        self._app = app
        self._limit = limit
        self._share = max(1, limit * 3 // 4)
        self._billers = billers
        self._inside: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in PROBES:
            await self._app(scope, receive, send)
            return
        whose = named_biller(scope, self._billers)
        if self._inside.total() >= self._limit or self._inside[whose] >= self._share:
            problem = Problem(429, "Too many requests", "Too many at the same time.", retry_after=1)
            await send_problem(problem, send)
            return
        self._inside[whose] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._inside[whose] -= 1


def probes(ready: Mapping[str, Check]) -> APIRouter:
    """/livez, /readyz and /metrics."""
    router = APIRouter(tags=["operations"])

    @router.get("/livez", summary="The process answers")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @router.get("/readyz", summary="Requests can be taken")
    async def readyz() -> JSONResponse:
        missing = [name for name in sorted(ready) if not await holds(ready[name])]
        if missing:
            raise Problem(503, "Not ready", ", ".join(missing), retry_after=RETRY_AFTER_S, missing=missing)
        return JSONResponse({"status": "ready", "checks": sorted(ready)})

    @router.get("/metrics", summary="Prometheus metrics", response_class=Response)
    async def prometheus() -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    return router


async def holds(check: Check) -> bool:
    """Whether a check says yes in time; one that raises says no."""
    try:
        async with asyncio.timeout(CHECK_S):
            answer = check()
            return bool(await answer if inspect.isawaitable(answer) else answer)
    except Exception as error:
        log.warning("readyz.check_failed", error=type(error).__name__)
        return False


def unsupported_problem(unsupported: Unsupported) -> Problem:
    """The refusal by name that a request or a flag gets."""
    row = unsupported.row
    return Problem(
        422, f"Not supported: {row.name}", row.sentence, type=f"urn:billbus:unsupported:{row.slug}"
    )


def add_refusals(app: FastAPI, service: str) -> None:
    """Every way in which a route can say no, as a problem document."""

    @app.exception_handler(Problem)
    async def refuse(_: Request, problem: Problem) -> Response:
        return problem.response()

    @app.exception_handler(Unsupported)
    async def refuse_by_name(_: Request, unsupported: Unsupported) -> Response:
        metrics.REFUSED.labels(service, unsupported.row.slug).inc()
        return unsupported_problem(unsupported).response()

    @app.exception_handler(NotAcknowledged)
    async def not_now(_: Request, error: NotAcknowledged) -> Response:
        log.warning("intake.not_acknowledged", reason=str(error))
        detail = "The bus did not take it for certain; send the same again."
        return Problem(503, "Not accepted", detail, retry_after=RETRY_AFTER_S).response()

    @app.exception_handler(RequestValidationError)
    async def malformed(_: Request, error: RequestValidationError) -> Response:
        return Problem(
            422, "Invalid request", "A field is not as expected.", errors=expectations(error.errors())
        ).response()

    @app.exception_handler(HTTPException)
    async def plain(_: Request, error: HTTPException) -> Response:
        title = HTTPStatus(error.status_code).phrase
        return Problem(error.status_code, title, headers=dict(error.headers or {})).response()


def expectations(errors: Sequence[Any]) -> list[dict[str, str]]:
    """Field and what was expected of it, for each error; at most 50, and never what was found."""
    told = []
    for error in errors[:50]:
        place = tuple(part for part in error["loc"] if part not in ("body", "query", "path"))
        told.append({"field": named(place) or str(error["loc"][0]), "expected": expected(error)})
    return told


def expected(error: Mapping[str, Any]) -> str:
    kind = str(error["type"])
    if kind == "union_tag_invalid":  # its message repeats the tag that was sent
        return f"one of {error['ctx']['expected_tags']}"
    message = str(error["msg"])
    # what follows the comma describes the text that was found
    return message.split(", ")[0] if kind.endswith("_parsing") else message
