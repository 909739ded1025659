"""What a request's body must be before any code of ours sees it: small, in time, plain, and unambiguous.

A pure ASGI middleware. Bodies are read whole and checked (JSON and forms), except on the routes that
stream one; there size and pace are held while the route reads. A route may say that it takes its body
another way (`takes`), as the intakes do that must not refuse a whole batch, or money, for one text.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.bus.clock import Clock
from services.bus.pace import Pace, too_large
from services.bus.problem import Problem, send_problem
from services.bus.wire import Malformed

MAX_DEPTH = 16
MAX_FIELDS = 200
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_SPACES = b" \t\n\r"
_LEAVES = frozenset((str, int, float, bool, type(None)))
"""What of JSON holds nothing else."""
_F = TypeVar("_F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Taking:
    """How an endpoint takes its body.

    `streamed`: it reads `request.stream()` itself, up to `bif_limit_bytes`. `limit`: most bytes, where it is
    not the service's own limit. `texts`: control characters are the endpoint's to judge, field by field.
    `batch`: the member of a JSON body whose items are judged one by one; see `items_of`.
    """

    streamed: bool = False
    limit: int | None = None
    texts: bool = False
    batch: str | None = None


Route = tuple[re.Pattern[str], frozenset[str], Taking]
_COMMON = Taking()


def takes(*, limit: int | None = None, texts: bool = False, batch: str | None = None) -> Callable[[_F], _F]:
    """Marks an endpoint that takes its body as `Taking` says."""

    def mark(endpoint: _F) -> _F:
        endpoint.__dict__["taking"] = Taking(limit=limit, texts=texts or batch is not None, batch=batch)
        return endpoint

    return mark


def streams(endpoint: _F) -> _F:
    """Marks an endpoint that reads `request.stream()` itself, up to `bif_limit_bytes`."""
    endpoint.__dict__["taking"] = Taking(streamed=True)
    return endpoint


def items_of(request: Request, body: Mapping[str, object], batch: str, most: int) -> list[object]:
    """The items of a batch, one to `most`; in the place of one that can be misread stands its Malformed.

    Raises Problem 422 for what is no batch.
    """
    items = body.get(batch)
    if not isinstance(items, list) or not 1 <= len(items) <= most:
        refuse_field(batch, f"a list of 1 to {most} items")
    broken: Mapping[int, Malformed] = request.scope.get("broken_items", {})
    return [broken.get(index, item) for index, item in enumerate(items)]


def document_of(request: Request) -> Mapping[str, object]:
    """The JSON object of a batch's body, as it was read when it was checked.

    Raises Problem 422 in the framework's words for what is none, or is not declared as JSON.
    """
    if "document" not in request.scope:
        refuse_field("body", "Field required")
    document = request.scope["document"]
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not (kind.startswith("application/") and isinstance(document, dict)):
        refuse_field("body", "Input should be a valid dictionary")
    return document


class Bodies:
    """Holds every body to its limits.

    Args:
        limit: largest body in bytes; larger ones are answered 413, chunked or not.
        stream_limit: the same for bodies that the endpoint streams.
        routes: paths and methods whose endpoint takes its body in a way of its own.
    """

    def __init__(
        self, app: ASGIApp, *, clock: Clock, limit: int, stream_limit: int, routes: Sequence[Route]
    ) -> None:
        self._app = app
        self._clock = clock
        self._limit = limit
        self._stream_limit = stream_limit
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(scope["headers"])
        taking = self._taking(scope)
        limit = self._stream_limit if taking.streamed else taking.limit or self._limit
        try:
            check_head(scope, headers, limit)
            held = Pace(receive, self._clock, limit)
            if not taking.streamed:
                body = await held.whole()
                check_body(headers.get(b"content-type", b""), body, taking, scope)
        except Problem as problem:
            await send_problem(problem, send)
            return
        await self._app(scope, held if taking.streamed else replay(body, receive), send)

    def _taking(self, scope: Scope) -> Taking:
        for path, methods, taking in self._routes:
            if scope["method"] in methods and path.match(scope["path"]):
                return taking
        return _COMMON


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


def check_body(content_type: bytes, body: bytes, taking: Taking, scope: Scope) -> None:
    """Refuses JSON and forms that two readers could understand differently.

    What was read is left in the scope: `form`, or of a batch its `document`, None where it is no JSON, and
    `broken_items`, which tells what is wrong within items by their place. Raises Problem 400 or 422 naming
    the field and what was expected, never the value.
    """
    kind = content_type.split(b";")[0].strip().lower()
    if not body:
        return
    scope["document"] = None
    if kind == b"application/x-www-form-urlencoded":
        scope["form"] = check_form(body, texts=taking.texts)
    elif not kind or kind == b"application/json" or kind.endswith(b"+json"):
        document, scope["broken_items"] = check_json(body, taking)
        scope["document"] = document if taking.batch else None


async def form_of(request: Request, most: int) -> Mapping[str, object]:
    """A form's fields, as they were read when it was checked; raises HTTPException for more than `most`."""
    form: Mapping[str, str] | None = request.scope.get("form")
    if form is not None and len(form) <= most:
        return form
    return dict((await request.form(max_files=0, max_fields=most)).items())


def refuse_field(field: str, expected: str) -> NoReturn:
    raise Problem(
        422, "Invalid request", "A field is not as expected.", errors=[{"field": field, "expected": expected}]
    )


def check_form(body: bytes, *, texts: bool = False) -> dict[str, str]:
    """`texts`: the endpoint judges them, bytes that are no UTF-8 (they become U+FFFD) among them."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            errors="replace" if texts else "strict",
            max_num_fields=MAX_FIELDS,
        )
    except ValueError:
        raise Problem(
            400, "Malformed form", f"Expected at most {MAX_FIELDS} fields, percent-encoded UTF-8."
        ) from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name in found:
            refuse_field(shown(name), "the field once")
        if not texts and (_CONTROL.search(value) or _CONTROL.search(name)):
            refuse_field(shown(name), "text without control characters")
        found[name] = value
    return found


def shown(name: str) -> str:
    """A field's name as we may repeat it: it is the caller's text, so bounded and plain."""
    return re.sub(r"[^\w.\-\[\]]", "?", name[:64])


class _Doubled(dict[str, Any]):
    """An object that has a member more than once."""

    twice: str


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    names = [name for name, _ in pairs]
    doubled = _Doubled(found)
    doubled.twice = next(name for name in names if names.count(name) > 1)
    return doubled


Path = tuple[str | int, ...]


def check_json(body: bytes, taking: Taking = _COMMON) -> tuple[Any, dict[int, Malformed]]:
    """The document, and what is wrong within items of a batch by their place."""
    try:
        document = read_json(body)
    except RecursionError:
        raise _too_deep() from None
    except ValueError:
        raise Problem(400, "Malformed JSON", "Expected one JSON document in UTF-8.") from None
    broken: dict[int, Malformed] = {}
    for path, expected in faults(document, texts=not taking.texts):
        match path:
            case (str(member), int(item), *within) if member == taking.batch:
                broken.setdefault(item, Malformed(named(tuple(within)) or named(path), expected))
            case _:
                refuse_field(named(path) or "body", expected)
    return document, broken


def read_json(body: bytes) -> Any:
    """The document, with a _Doubled for each object that has a member twice; raises ValueError.

    A member's name is followed by a colon, so a document with as many members as colons after quotes has
    none twice. That costs a fraction of looking at each object as it is read.
    """
    text = body.decode("utf-8")
    document = json.loads(text)
    if members_in(document) == body.translate(None, _SPACES).count(b'":'):
        return document
    return json.loads(text, object_pairs_hook=_members)


def members_in(document: Any) -> int:
    """How many members all objects of a document have."""
    count, waiting = 0, [document] if isinstance(document, dict | list) else []
    while waiting:
        value: Any = waiting.pop()
        if isinstance(value, dict):
            count += len(value)
            value = value.values()
        if not _LEAVES.issuperset(map(type, value)):
            waiting += [item for item in value if isinstance(item, (dict, list))]
    return count


def _too_deep() -> Problem:
    return Problem(400, "JSON too deep", f"At most {MAX_DEPTH} levels are taken.")


def faults(document: Any, *, texts: bool) -> Iterator[tuple[Path, str]]:
    """Where a document can be misread, and what was expected there; `texts`: control characters count."""
    doubtful = (dict, list, float, str) if texts else (dict, list, float)
    harmless = _LEAVES - set(doubtful)
    waiting: list[tuple[Path, Any]] = [((), document)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            if isinstance(value, _Doubled):
                yield (*path, value.twice), "the field once in its object"
            if texts and any(_garbled(name) for name in value):
                yield path, "text without control characters"
            inside: Iterable[tuple[str | int, Any]] = value.items()
        elif isinstance(value, list):
            inside = enumerate(value)
        else:
            if isinstance(value, float) and not math.isfinite(value):
                yield path, "a finite number"
            elif texts and isinstance(value, str) and _garbled(value):
                yield path, "text without control characters"
            continue
        if value and len(path) + 1 >= MAX_DEPTH:
            raise _too_deep()
        if isinstance(value, dict) and harmless.issuperset(map(type, value.values())):
            continue  # as nearly every item of a batch is
        waiting += [((*path, name), item) for name, item in inside if isinstance(item, doubtful)]


def _garbled(text: str) -> bool:
    return not text.isprintable() and _CONTROL.search(text) is not None


def named(path: Path) -> str:
    """A path as people write it: `payments[3].PaymentAmount`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{shown(part)}" for part in path).lstrip(".")
