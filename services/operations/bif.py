"""What an operator does with a BIF file: check it without a bus, or send it to the invoices service."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp

from services.bus.billers import Biller
from services.bus.secrets import Secrets
from services.bus.support import SupportMatrix
from services.events import Refusal
from services.invoices.bif import FileRefused, check_biller, checksum, inspect
from services.invoices.layout import load_layout
from services.invoices.rows import RowReader, rows

KEPT_REFUSALS = 1000
BLOCK = 256 * 1024
ANSWER_S = 3600
"""Seconds for an answer: a file is answered once all its rows are acknowledged."""

Told = Callable[[int, int], None]
"""Hears of progress: how much is done, of how much."""


@dataclass(slots=True)
class BifReport:
    """What a file is worth; `refused_whole` says why nothing of it would be taken."""

    file_id: str
    biller: str
    rows: int = 0
    accepted: int = 0
    refused: int = 0
    balance_due: Decimal = Decimal("0.00")
    refusals: list[Refusal] = field(default_factory=list)
    ignored_columns: list[str] = field(default_factory=list)
    refused_whole: str | None = None


def check_bif(
    path: Path, billers: Iterable[Biller], partners: Path, support: SupportMatrix, told: Told
) -> BifReport:
    """Reads a file as the intake does; nothing is published. The biller is the one that the file names.

    `partners` is the folder that holds the layout; raises ConfigurationError where that does not make sense.
    """
    layout = load_layout(partners / "bif.yaml")
    with path.open("rb") as file:
        report = BifReport(checksum(file), "")
        try:
            found = inspect(file, layout)
            biller = named(found.biller_code, billers)
            check_biller(found, biller)
        except FileRefused as refused:
            report.refused_whole = f"{refused.code}: {refused.reason}"
            report.rows = report.refused = refused.rows
            return report
        report.biller, report.rows, report.ignored_columns = biller.slug, found.rows, found.ignored
        reader = RowReader(layout, found.header, biller, support, found.repeats)
        for number, result in enumerate(rows(file, layout, found, reader), start=1):
            if isinstance(result, dict):
                report.accepted += 1
                report.balance_due += result["balance_due"]
            else:
                report.refused += 1
                report.refusals += result[: KEPT_REFUSALS - len(report.refusals)]
            if number % 5000 == 0 or number == found.rows:
                told(number, found.rows)
        found.repeats.close()
    return report


def named(code: str, billers: Iterable[Biller]) -> Biller:
    """The biller with a code at IC; raises FileRefused."""
    for biller in billers:
        if biller.invoice_cloud.biller_code == code:
            return biller
    raise FileRefused("wrong_biller", "the first line names a biller code that no biller's file has")


class NotSent(Exception):
    """No answer from the invoices service; the same file can be sent again."""


@dataclass(frozen=True, slots=True)
class Answered:
    """The invoices service's answer; `ok` when the file was taken."""

    ok: bool
    status: int
    body: dict[str, Any]


async def send_bif(path: Path, address: str, biller: Biller, secrets: Secrets, told: Told) -> Answered:
    """Sends a file as it is; raises NotSent."""
    url = f"{address.rstrip('/')}/imt/{biller.slug}/bif"
    headers = {"Authorization": credential(biller, secrets), "Content-Type": "text/plain"}
    timeout = aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=10)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(
                url, params={"name": path.name}, headers=headers, data=blocks(path, told)
            ) as response,
        ):
            body = await response.json(content_type=None)
            return Answered(response.ok, response.status, body if isinstance(body, dict) else {})
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise NotSent(f"{address}: {type(error).__name__}") from error


async def blocks(path: Path, told: Told) -> AsyncIterator[bytes]:
    size = (await asyncio.to_thread(path.stat)).st_size
    done = 0
    with await asyncio.to_thread(path.open, "rb") as file:
        while block := await asyncio.to_thread(file.read, BLOCK):
            yield block
            done += len(block)
            told(done, size)


def credential(biller: Biller, secrets: Secrets) -> str:
    """The Authorization header with which a biller speaks at our intakes."""
    intake = biller.intake
    if intake.bearer:
        return f"Bearer {secrets.get(intake.bearer)}"
    pair = f"{intake.user}:{secrets.get(intake.password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"
