"""Routes on which every microsecond counts: declared to FastAPI, called without it.

The framework's own way to an endpoint costs more than the endpoint. A route that is marked `direct` stands in
the OpenAPI document like any other, and is refused by the same handlers.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.bus.auth import speaker

_F = TypeVar("_F", bound=Callable[..., Any])


def direct(endpoint: _F) -> _F:
    """Marks an endpoint that takes the request and the path's biller, and answers a model or a response."""
    endpoint.__dict__["direct"] = True
    return endpoint


class Direct:
    """Innermost of the middleware: answers on direct routes, and gives the framework all others.

    Args:
        routers: the service's; among their routes are the direct ones.
        handlers: the application's, by the kind of exception that each answers.
    """

    def __init__(
        self, app: ASGIApp, *, routers: Iterable[APIRouter], handlers: Mapping[Any, Callable[..., Any]]
    ) -> None:
        self._app = app
        self._handlers = handlers
        self._routes = [
            (route, frozenset(route.methods or ()))
            for router in routers
            for route in router.routes
            if isinstance(route, APIRoute) and hasattr(route.endpoint, "direct")
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._route(scope) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
        else:
            response = await self._answer(route, Request(scope, receive))
            await response(scope, receive, send)

    def _route(self, scope: Scope) -> APIRoute | None:
        """The direct route that is asked for, with what the path names in the scope."""
        for route, methods in self._routes:
            if scope["method"] in methods and (matched := route.path_regex.fullmatch(scope["path"])):
                scope["route"], scope["path_params"] = route, matched.groupdict()
                return route
        return None

    async def _answer(self, route: APIRoute, request: Request) -> Response:
        try:
            answer = await route.endpoint(request, await speaker(request, request.path_params["biller"]))
        except Exception as error:
            for kind in type(error).__mro__:
                if kind in self._handlers:
                    refused: Response = await self._handlers[kind](request, error)
                    return refused
            raise
        return answer if isinstance(answer, Response) else as_json(answer)


def as_json(model: BaseModel, status: int = 200) -> Response:
    """A model as the framework answers it."""
    return Response(model.model_dump_json(), status, media_type="application/json")
