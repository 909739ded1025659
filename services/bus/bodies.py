"""What a request's body must be before any code of ours sees it: small, in time, plain, and unambiguous.

A pure ASGI middleware. Bodies are read whole and checked (JSON and forms), except on the routes that
stream one; there size and pace are held while the route reads.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qsl

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.bus.clock import Clock
from services.bus.pace import Pace, too_large
from services.bus.problem import Problem, send_problem

MAX_DEPTH = 16
MAX_FIELDS = 200
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_F = TypeVar("_F", bound=Callable[..., Any])
Route = tuple[re.Pattern[str], frozenset[str]]


def streams(endpoint: _F) -> _F:
    """Marks an endpoint that reads `request.stream()` itself, up to `bif_limit_bytes`."""
    endpoint.__dict__["streams"] = True
    return endpoint


class Bodies:
    """Holds every body to its limits.

    Args:
        limit: largest body in bytes; larger ones are answered 413, chunked or not.
        streamed: paths and methods whose endpoint is marked `streams`, held to `stream_limit`.
    """

    def __init__(
        self, app: ASGIApp, *, clock: Clock, limit: int, stream_limit: int, streamed: list[Route]
    ) -> None:
        self._app = app
        self._clock = clock
        self._limit = limit
        self._stream_limit = stream_limit
        self._streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        streamed = any(
            path.match(scope["path"]) and scope["method"] in methods for path, methods in self._streamed
        )
        limit = self._stream_limit if streamed else self._limit
        try:
            check_head(scope, headers, limit)
            held = Pace(receive, self._clock, limit)
            if not streamed:
                body = await held.whole()
                check_body(headers.get(b"content-type", b""), body)
        except Problem as problem:
            await send_problem(problem, send)
            return
        await self._app(scope, held if streamed else replay(body, receive), send)


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body once, then whatever comes after it."""
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def check_head(scope: Scope, headers: dict[bytes, bytes], limit: int) -> None:
    """Refuses what the first lines already tell: control characters in the address, a body too large."""
    query = scope["query_string"].decode("latin-1")
    if _CONTROL.search(scope["path"]) or re.search("%[01][0-9a-fA-F]|%7[fF]", query):
        raise Problem(400, "Malformed request", "The address must not contain control characters.")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Problem(415, "Unsupported encoding", "Send the body without a content encoding.")
    declared = headers.get(b"content-length", b"0")
    if not declared.isdigit():
        raise Problem(400, "Malformed request", "Content-Length must be a whole number.")
    if int(declared[:20]) > limit:
        raise too_large(limit)


def check_body(content_type: bytes, body: bytes) -> None:
    """Refuses JSON and forms that two readers could understand differently.

    Raises Problem 400 or 422 naming the field and what was expected, never the value.
    """
    kind = content_type.split(b";")[0].strip().lower()
    if not body:
        return
    if kind == b"application/x-www-form-urlencoded":
        check_form(body)
    elif not kind or kind == b"application/json" or kind.endswith(b"+json"):
        check_json(body)


def refuse_field(field: str, expected: str) -> NoReturn:
    raise Problem(
        422, "Invalid request", "A field is not as expected.", errors=[{"field": field, "expected": expected}]
    )


def check_form(body: bytes) -> None:
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS
        )
    except ValueError:
        raise Problem(
            400, "Malformed form", f"Expected at most {MAX_FIELDS} fields, percent-encoded UTF-8."
        ) from None
    seen: set[str] = set()
    for name, value in pairs:
        field = shown(name)
        if name in seen:
            refuse_field(field, "the field once")
        if _CONTROL.search(value) or _CONTROL.search(name):
            refuse_field(field, "text without control characters")
        seen.add(name)


def shown(name: str) -> str:
    """A field's name as we may repeat it: it is the caller's text, so bounded and plain."""
    return re.sub(r"[^\w.\-\[\]]", "?", name[:64])


class _Twice(ValueError):
    pass


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise _Twice(next(name for name in names if names.count(name) > 1))
    return found


def _no_constant(_: str) -> NoReturn:
    raise ValueError("a number")


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("a finite number")
    return number


def check_json(body: bytes) -> None:
    try:
        document = json.loads(
            body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite
        )
    except _Twice as twice:
        refuse_field(shown(str(twice)), "the field once in its object")
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        raise Problem(400, "Malformed JSON", "Expected one JSON document in UTF-8, finite numbers.") from None
    for path, text in walk(document):
        if len(path) >= MAX_DEPTH:
            raise _too_deep()
        if not text.isprintable() and _CONTROL.search(text):
            refuse_field(named(path) or "body", "text without control characters")


def _too_deep() -> Problem:
    return Problem(400, "JSON too deep", f"At most {MAX_DEPTH} levels are taken.")


def walk(document: Any) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Every value's path with its text ('' where it is none); names of members count as text."""
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), document)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str):
            yield path, value
            continue
        yield path, ""
        if isinstance(value, dict):
            for name, item in value.items():
                yield path, name
                waiting.append(((*path, name), item))
        elif isinstance(value, list):
            waiting += [((*path, number), item) for number, item in enumerate(value)]


def named(path: tuple[str | int, ...]) -> str:
    """A path as people write it: `payments[3].PaymentAmount`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{shown(part)}" for part in path).lstrip(".")
