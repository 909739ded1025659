"""Links as customers open them, and their revocation."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import structlog
from fastapi import APIRouter, Depends, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from services.bills.handlers import RETRY_AFTER_S, Closed, Desk, Opened, look_at_bill, open_bill, revoke_bills
from services.bills.pages import PAGES, page
from services.bus.auth import biller_of
from services.bus.biller import Biller
from services.bus.partner import PartnerError
from services.bus.problem import Problem
from services.bus.wire import instant

log = structlog.get_logger()
OurBiller = Annotated[Biller, Depends(biller_of)]
T = TypeVar("T")
Ask = Callable[[Biller, str, Desk], Awaitable[T | Closed]]
PRIVATE = {
    "Cache-Control": "private, no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}
TOLD: dict[int | str, dict[str, Any]] = {
    status: {
        "description": " ".join(title for each, title, _ in PAGES.values() if each == status),
        "content": {"text/html": {}},
    }
    for status, _, _ in PAGES.values()
}
"""What the OpenAPI document says of the pages that a customer may get."""
_CSP = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def bill_routes(desk: Desk) -> APIRouter:
    """Opening a bill (the link is the credential) and revoking its link (the biller's credential)."""
    router = APIRouter(tags=["bills"])

    async def asked(named: Biller | None, token: str, ask: Ask[T]) -> T | Response:
        """What was found behind a link, or the page that says why there is nothing."""
        if named is None:
            return closed(Closed("forged"))
        try:
            found = await ask(named, token, desk)
        except Exception as error:  # whatever fails, a customer gets a page and never a 500
            log.error("bills.open_failed", biller=named.slug, error=type(error).__name__, exc_info=True)
            return closed(Closed("away"))
        if isinstance(found, Closed):
            return closed(found, None if found.why == "forged" else named.name)
        return found

    @router.get(
        "/bills/{biller}/{token}",
        summary="The bill behind a link",
        response_class=Response,
        responses=TOLD | {200: {"description": "The bill.", "content": {"application/pdf": {}}}},
    )
    async def show(request: Request, biller: str, token: str) -> Response:
        named: Biller | None = request.app.state.bus.billers.get(biller)
        found = await asked(named, token, open_bill)
        if isinstance(found, Response):
            return found
        assert named is not None  # nothing is found for nobody
        return PdfResponse(found, biller, 10 * named.imt.bill_deadline_s)

    @router.head(
        "/bills/{biller}/{token}",
        summary="Whether the bill behind a link is there",
        response_class=Response,
        responses={status: {"description": told["description"]} for status, told in TOLD.items()},
    )
    async def look(request: Request, biller: str, token: str) -> Response:
        found = await asked(request.app.state.bus.billers.get(biller), token, look_at_bill)
        if isinstance(found, Response):
            return Response(None, found.status_code, dict(found.headers))
        return HeadOfPdf(found.invoice_number, found.length)

    @router.post("/imt/{biller}/bills/{invoice_number}/revoke", summary="Make the link of a bill dead")
    async def revoke(biller: OurBiller, invoice_number: str) -> JSONResponse:
        if not desk.linked.ready:
            raise Problem(503, "Not ready", "The bills are being read.", retry_after=5)
        bills = await revoke_bills(biller, invoice_number, desk)
        if not bills:
            raise Problem(404, "Unknown bill", "No bill of this invoice is known.")
        last = max(bill.checked_at for bill in bills)
        return JSONResponse(
            {"invoice_number": invoice_number, "state": "revoked", "bills": len(bills), "at": instant(last)}
        )

    return router


def closed(answer: Closed, insurer: str | None = None) -> Response:
    """The page that says why."""
    status, html = page(answer.why, insurer)
    headers = PRIVATE | {"Content-Security-Policy": _CSP}
    if answer.why == "away":
        headers["Retry-After"] = str(answer.retry_after or RETRY_AFTER_S)
    return HTMLResponse(html, status, headers)


class HeadOfPdf(Response):
    """What is said of a PDF before it comes."""

    media_type = "application/pdf"

    def __init__(self, invoice_number: str, length: int | None) -> None:
        name = re.sub(r"[^0-9A-Za-z._-]", "_", invoice_number)[:80]
        headers = PRIVATE | {
            "Content-Disposition": f'inline; filename="bill-{name}.pdf"',
            "Accept-Ranges": "none",
        }
        super().__init__(headers=headers)
        del self.headers["Content-Length"]
        if length is not None:
            self.headers["Content-Length"] = str(length)


class PdfResponse(HeadOfPdf):
    """Passes the PDF on as it comes; one that breaks off ends the connection, so that nobody takes a part
    for the whole. `limit_s` bounds it against a reader that does not read."""

    def __init__(self, opened: Opened, biller: str, limit_s: float) -> None:
        super().__init__(opened.invoice_number, opened.length)
        self._opened = opened
        self._biller = biller
        self._limit_s = limit_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        async with self._opened.close:
            try:
                async with asyncio.timeout(self._limit_s):
                    await self._send(send)
            except (PartnerError, TimeoutError) as fault:
                log.error("bills.broke_off", biller=self._biller, error=type(fault).__name__)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for chunk in self._opened.chunks:
            message: dict[str, Any] = {"type": "http.response.body", "body": chunk, "more_body": True}
            await send(message)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
