"""What comes in over HTTP: a BIF file as a raw body, and the question what became of one."""

import asyncio
import tempfile
from datetime import datetime
from decimal import Decimal
from io import BufferedIOBase
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel

from services.bus.auth import biller_of
from services.bus.billers import Biller
from services.bus.bodies import streams
from services.bus.problem import Problem
from services.bus.service import Bus
from services.events import FileReceived
from services.invoices.files import Files, Uploads
from services.invoices.taking import FileTaker

BLOCK = 1024 * 1024
Ours = Annotated[Biller, Depends(biller_of)]
FileName = Annotated[str, Query(max_length=120, pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]*$")]


class RowRefused(BaseModel):
    """Why a row was refused; `found` is hidden in personal columns."""

    line: int
    column: str
    expected: str
    found: str


class FileTaken(BaseModel):
    """A file that was taken; `refusals` are the first 1,000. `unchanged`: accepted rows that an earlier file
    brought with the same content and that were settled by then, so that they stand with that file."""

    file_id: str
    name: str
    state: str
    reason: str | None
    rows: int
    accepted: int
    unchanged: int
    refused: int
    balance_due: Decimal
    refusals: list[RowRefused]
    received_at: datetime


class FileStatus(FileTaken):
    """What became of a file. `uploads` counts its invoices by state (posted: IC has it), without those that
    came unchanged; `waiting` are not settled yet."""

    uploads: dict[str, int]
    waiting: int


def routes(bus: Bus, taker: FileTaker, files: Files, uploads: Uploads) -> APIRouter:
    router = APIRouter(tags=["invoices"])
    spool = bus.settings.state / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    body = {"content": {"text/plain": {"schema": {"type": "string", "format": "binary"}}}, "required": True}

    @router.post("/imt/{biller}/bif", summary="Deliver a BIF file", openapi_extra={"requestBody": body})
    @streams
    async def deliver_bif(request: Request, biller: Ours, name: FileName = "upload.bif") -> FileTaken:
        # a file without a name: nothing stays behind, not even after a kill -9
        with tempfile.TemporaryFile(dir=spool) as file:
            await fill(file, request)
            received = await taker.take(biller, file, name)
        if received.state == "refused":
            raise refused(received)
        return taken(received)

    @router.get("/imt/{biller}/bif/{file_id}", summary="What became of a BIF file")
    async def show_bif(biller: Ours, file_id: str) -> FileStatus:
        received = files.find(biller.slug, file_id)
        if received is None:
            raise Problem(404, "Not found", "No file with this id was taken.")
        counts = uploads.count(biller.slug, file_id)
        waiting = max(0, received.accepted - received.unchanged - sum(counts.values()))
        return FileStatus(**taken(received).model_dump(), uploads=counts, waiting=waiting)

    return router


async def fill(file: BufferedIOBase, request: Request) -> None:
    """Writes the body as it comes; raises Problem 507 when there is no place for it."""
    block = bytearray()
    try:
        async for chunk in request.stream():
            block += chunk
            if len(block) >= BLOCK:
                await asyncio.to_thread(file.write, block)
                block = bytearray()
        await asyncio.to_thread(file.write, block)
        await asyncio.to_thread(file.flush)
    except OSError as error:
        raise Problem(507, "No room for the file", "Try again later.", retry_after=60) from error


def refused(received: FileReceived) -> Problem:
    """The answer to a file that is refused whole."""
    code, _, reason = (received.reason or "").partition(": ")
    return Problem(422, "BIF file refused", reason, type=f"urn:billbus:bif:{code}", file_id=received.file_id)


def taken(received: FileReceived) -> FileTaken:
    """The answer to a file, the first time and every time after."""
    return FileTaken(
        file_id=received.file_id,
        name=received.file_name,
        state=received.state,
        reason=received.reason,
        rows=received.rows,
        accepted=received.accepted,
        unchanged=received.unchanged,
        refused=received.refused,
        balance_due=received.balance_due,
        refusals=[
            RowRefused(line=each.line, column=each.column, expected=each.expected, found=each.found)
            for each in received.refusals
        ],
        received_at=received.received_at,
    )
