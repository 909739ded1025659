"""How a partner's answer goes over the wire when a fault is on: for real, down to the TCP connection."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from services.sandbox.faults import Fault, FaultKind

_MAINTENANCE = (
    "<!doctype html><title>Maintenance</title><h1>Down for maintenance</h1><p>Please come back later."
)
_PROXY = "<!doctype html><title>Sign in</title><h1>Sign in to continue</h1><form><input name=user></form>"
_RETRY_AFTER_S = "5"


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that was understood. `answer` makes the effect; `refuse` is the partner's own no.

    `subjects` is what it is about: GUIDs, numbers, accounts. `refuse_whole`: its no to a call of items, each
    of which can also be refused by itself.
    """

    biller: str
    subjects: tuple[str, ...]
    answer: Callable[[], Response]
    refuse: Callable[[], Response]
    refuse_whole: Callable[[], Response] | None = None


class Aborted(Response):
    """No answer: the connection is reset."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del send
        reset(scope)
        await _gone(receive)


class Truncated(Response):
    """The first half of an answer that promised the whole, then the connection ends."""

    def __init__(self, whole: Response) -> None:
        super().__init__(bytes(whole.body), whole.status_code, media_type=None)
        self.raw_headers = whole.raw_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        half = self.body[: len(self.body) // 2]
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": half, "more_body": True})
        scope["state"]["transport"].close()
        await _gone(receive)


def reset(scope: Scope) -> None:
    """Sends RST: nothing more is read or written on this connection."""
    transport: asyncio.Transport = scope["state"]["transport"]
    connection = transport.get_extra_info("socket")
    if connection is not None and not transport.is_closing():
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _gone(receive: Receive) -> None:
    """Waits until the server has seen the end, so that it does not answer for us."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def answer(asked: Asked, fault: Fault | None) -> Response:
    """The answer to a call, with the fault that hits it, if any."""
    return asked.answer() if fault is None else await _FAULTY[fault.kind](asked, fault)


async def _slow(asked: Asked, fault: Fault) -> Response:
    await asyncio.sleep(fault.delay_s)
    return asked.answer()


async def _apply_then_hang(asked: Asked, fault: Fault) -> Response:
    asked.answer()
    await asyncio.sleep(fault.delay_s)
    return Aborted()


async def _hang_then_apply(asked: Asked, fault: Fault) -> Response:
    await asyncio.sleep(fault.delay_s)
    asked.answer()
    return Aborted()


async def _error(asked: Asked, fault: Fault) -> Response:
    del asked, fault
    return Response("Internal error", 500, media_type="text/plain")


async def _error_after(asked: Asked, fault: Fault) -> Response:
    asked.answer()
    return await _error(asked, fault)


async def _reset(asked: Asked, fault: Fault) -> Response:
    if fault.after_effect:
        asked.answer()
    return Aborted()


async def _reject(asked: Asked, fault: Fault) -> Response:
    del fault
    return asked.refuse()


async def _refuse_whole(asked: Asked, fault: Fault) -> Response:
    del fault
    return (asked.refuse_whole or asked.refuse)()


async def _maintenance(asked: Asked, fault: Fault) -> Response:
    del asked, fault
    return HTMLResponse(_MAINTENANCE, 503, {"Retry-After": _RETRY_AFTER_S})


async def _wrong_content_type(asked: Asked, fault: Fault) -> Response:
    if fault.after_effect:
        asked.answer()
    return HTMLResponse(_PROXY)


async def _wrong_body(asked: Asked, fault: Fault) -> Response:
    del fault
    well = asked.answer()
    return Response("not what it says", well.status_code, {"Content-Type": well.headers["content-type"]})


async def _truncated(asked: Asked, fault: Fault) -> Response:
    del fault
    return Truncated(asked.answer())


async def _empty_success(asked: Asked, fault: Fault) -> Response:
    del fault
    return Response(status_code=asked.answer().status_code)


_FAULTY: dict[FaultKind, Callable[[Asked, Fault], Awaitable[Response]]] = {
    "slow": _slow,
    "apply_then_hang": _apply_then_hang,
    "hang_then_apply": _hang_then_apply,
    "error": _error,
    "error_after": _error_after,
    "reset": _reset,
    "reject": _reject,
    "refuse_whole": _refuse_whole,
    "omit_result": _empty_success,
    "maintenance": _maintenance,
    "wrong_content_type": _wrong_content_type,
    "wrong_body": _wrong_body,
    "truncated": _truncated,
    "empty_success": _empty_success,
}
