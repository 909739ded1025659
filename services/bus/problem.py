"""Problem details (RFC 9457): the one shape in which every HTTP surface of ours says no."""

import json
from typing import Any

from starlette.responses import Response
from starlette.types import Send

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An answer that is not a success; raise it anywhere below `create_app`.

    Args:
        status: the HTTP status.
        title: the kind of problem, the same for every occurrence.
        detail: one sentence on this occurrence, never a value that a caller sent.
        type: a URI of the kind; `about:blank` where the status says it all.
        retry_after: seconds after which the caller may try again.
        headers: response headers beside content-type and retry-after.
        extra: further members of the document.
    """

    def __init__(
        self,
        status: int,
        title: str,
        detail: str = "",
        type: str = "about:blank",  # noqa: A002 - RFC 9457's own name for it
        retry_after: int | None = None,
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(f"{status} {title}: {detail}")
        self.status = status
        self.title = title
        self.detail = detail
        self.type = type
        self.retry_after = retry_after
        self.headers = headers or {}
        self.extra = extra

    def document(self) -> dict[str, Any]:
        """The problem's members, as JSON would have them."""
        members = {"type": self.type, "title": self.title, "status": self.status, "detail": self.detail}
        return {name: value for name, value in members.items() if value} | self.extra

    def response(self) -> Response:
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return Response(json.dumps(self.document()), self.status, headers, MEDIA_TYPE)


async def send_problem(problem: Problem, send: Send) -> None:
    """Answers from below the framework, where no exception handler reaches."""

    async def nothing() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    await problem.response()({"type": "http"}, nothing, send)
