"""IC's side at play: it pays, enrols, asks and opens bills at our services, with the biller's credentials."""

import asyncio
import base64
import csv
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from hashlib import sha256
from ipaddress import ip_address
from typing import Any, Literal
from urllib.parse import quote, urlsplit
from uuid import uuid4
from zoneinfo import ZoneInfo

import aiohttp
from pydantic import BaseModel, ConfigDict, Field

from services.sandbox.amounts import Now, cents, instant, millis, money
from services.sandbox.environment import Contracts, SandboxSettings
from services.sandbox.insurers import Insurer, Insurers
from services.sandbox.ledger import Ledger

_SHOWN_HEADERS = ("content-type", "retry-after", "cache-control", "traceparent", "location")
_MOST_BYTES = 32 * 1024 * 1024
_SHOWN_CHARS = 20_000


class CannotPlay(ValueError):
    """What was asked cannot be played; the message says why."""


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    biller: str
    target: str | None = Field(
        default=None, description="Address of the service; none: as set by environment."
    )
    auth: Literal["basic", "bearer", "none", "wrong"] = "basic"
    repeat: int = Field(default=1, ge=1, le=1000, description="How often each request is sent.")
    at_once: bool = Field(
        default=False, description="All at the same moment, instead of one after the other."
    )
    concurrency: int = Field(default=1, ge=1, le=200, description="How many are on their way together.")
    timeout_s: float = Field(default=30, gt=0, le=600)


class Pay(_Asked):
    """Payments, each with wire fields; what is missing is filled in."""

    payments: list[dict[str, Any]] = Field(min_length=1, max_length=10_000)
    as_: Literal["form", "batch"] = Field(default="form", alias="as")


class Enrol(_Asked):
    """Changes of the change log, each with wire fields; what is missing is filled in."""

    changes: list[dict[str, Any]] = Field(min_length=1, max_length=10_000)


class Rtdr(_Asked):
    """Balance enquiries, by account number as IC has it."""

    accounts: list[str] = Field(min_length=1, max_length=10_000)


class Ivr(_Asked):
    """Enquiries of the IVR, as a person types the number."""

    typed: list[str] = Field(min_length=1, max_length=10_000)


class Open(_Asked):
    """Bills opened by a customer: the links as uploaded with the invoices, or given."""

    invoice_numbers: list[str] = []
    links: list[str] = []


class BankFile(_Asked):
    """A bank's file of payments; `count` and `total` of the trailer can be told to be wrong."""

    payments: list[dict[str, Any]] = Field(default=[], max_length=10_000)
    count: int | None = None
    total: str | None = None
    raw: str | None = Field(default=None, description="The whole file as it is, instead of payments.")


@dataclass(frozen=True, slots=True)
class Request:
    """One request to one of our services."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None = None
    sent: Any = None


class InvoiceCloudSide:
    """`async with` it. Credentials go to our services' addresses alone, or to this machine."""

    def __init__(
        self,
        settings: SandboxSettings,
        contracts: Contracts,
        insurers: Insurers,
        ledger: Ledger,
        now: Now,
    ) -> None:
        self._settings = settings
        self._contracts = contracts
        self._insurers = insurers
        self._ledger = ledger
        self._now = now
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "InvoiceCloudSide":
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        )
        return self

    async def __aexit__(self, *raised: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def pay(self, asked: Pay) -> dict[str, Any]:
        """Posts payments as forms, or as JSON batches."""
        insurer = self._insurer(asked.biller)
        rules = self._contracts.invoicecloud["payment_form"]
        payments = [self._payment(insurer, one) for one in asked.payments]
        if asked.as_ == "form":
            return await self._send(asked, [self._form(asked, insurer, one) for one in payments])
        size = int(rules["batch"]["max_items"])
        batches = [payments[start : start + size] for start in range(0, len(payments), size)]
        envelope = rules["batch"]["envelope"]
        return await self._send(
            asked, [self._json(asked, insurer, "pay_batch", {envelope: batch}) for batch in batches]
        )

    async def enrol(self, asked: Enrol) -> dict[str, Any]:
        """Posts changes of the change log."""
        insurer = self._insurer(asked.biller)
        rules = self._contracts.changes
        names = rules["fields"]
        now = instant(millis(self._now()))
        changes = [{names["id"]: uuid4().hex, names["changed_at"]: now} | one for one in asked.changes]
        size = int(rules["max_items"])
        batches = [changes[start : start + size] for start in range(0, len(changes), size)]
        return await self._send(
            asked, [self._json(asked, insurer, "enrol", {rules["envelope"]: batch}) for batch in batches]
        )

    async def rtdr(self, asked: Rtdr) -> dict[str, Any]:
        """Asks for balances in real time."""
        return await self._enquire(asked, "rtdr", [{"account": account} for account in asked.accounts])

    async def ivr(self, asked: Ivr) -> dict[str, Any]:
        """Asks for accounts as a person types them."""
        return await self._enquire(asked, "ivr", [{"typed": typed} for typed in asked.typed])

    async def open(self, asked: Open) -> dict[str, Any]:
        """Opens bills as a customer does, without credentials."""
        self._insurer(asked.biller)
        links, bill_link = [*asked.links], self._contracts.invoicecloud["soap"]["invoice"]["bill_link"]
        for number in asked.invoice_numbers:
            row = self._ledger.newest("invoices", asked.biller, number)
            if row is None or not row.fields.get(bill_link):
                raise CannotPlay(f"invoice {number} was not uploaded with a link")
            links.append(row.fields[bill_link])
        if not links:
            raise CannotPlay("name invoice_numbers or links")
        for link in links:
            self._allowed(link)
        return await self._send(asked, [Request("GET", link, {}) for link in links])

    async def bank_file(self, asked: BankFile) -> dict[str, Any]:
        """Sends a bank's file of payments."""
        insurer = self._insurer(asked.biller)
        rules = self._contracts.bank_file
        content = asked.raw if asked.raw is not None else self.bank_csv(insurer, asked)
        headers = self._credentials(asked, insurer) | {"Content-Type": rules["content_type"]}
        method, url = self._address(asked, "bank_file")
        request = Request(method, url, headers, content.encode(rules["encoding"]), content)
        return await self._send(asked, [request])

    # how the requests are made

    def _payment(self, insurer: Insurer, given: Mapping[str, Any]) -> dict[str, Any]:
        names = self._contracts.invoicecloud["payment_form"]["fields"]
        words = self._contracts.invoicecloud["payment_form"]["words"]
        filled = {
            names["biller_guid"]: insurer.biller_guid,
            names["payment_guid"]: str(uuid4()),
            names["paid_at"]: instant(millis(self._now())),
            names["approved"]: words[True],
            names["payment_type"]: "1",
            names["convenience_fee"]: "0.00",
        }
        return {name: value for name, value in (filled | dict(given)).items() if value is not None}

    def _form(self, asked: _Asked, insurer: Insurer, payment: Mapping[str, Any]) -> Request:
        method, url = self._address(asked, "pay")
        headers = self._credentials(asked, insurer) | {"Content-Type": "application/x-www-form-urlencoded"}
        body = "&".join(f"{quote(name)}={quote(str(value), safe='')}" for name, value in payment.items())
        return Request(method, url, headers, body.encode(), dict(payment))

    def _json(self, asked: _Asked, insurer: Insurer, way: str, content: Any) -> Request:
        method, url = self._address(asked, way)
        headers = self._credentials(asked, insurer) | {"Content-Type": "application/json"}
        return Request(method, url, headers, json.dumps(content).encode(), content)

    def bank_csv(self, insurer: Insurer, asked: BankFile) -> str:
        """The file as the bank makes it, with a trailer that adds up unless it is told otherwise."""
        rules = self._contracts.bank_file
        columns = {ours: column["header"] for ours, column in rules["columns"].items()}
        today = (
            self._now().astimezone(ZoneInfo(insurer.timezone)).strftime(rules["columns"]["paid_at"]["format"])
        )
        written = io.StringIO()
        writer = csv.writer(written, delimiter=rules["delimiter"])
        writer.writerow(columns.values())
        total = 0
        for number, given in enumerate(asked.payments, start=1):
            filled = {columns["payment_guid"]: str(uuid4()), columns["paid_at"]: today} | given
            filled.setdefault(columns["trace_number"], f"{number:08d}")
            writer.writerow([filled.get(header, "") for header in columns.values()])
            total += cents(Decimal(str(filled[columns["amount"]])), columns["amount"])
        count = len(asked.payments) if asked.count is None else asked.count
        trailer = {"mark": rules["trailer"]["mark"], "count": count, "total": asked.total or money(total)}
        writer.writerow([trailer[value] for value in rules["trailer"]["values"]])
        return written.getvalue()

    async def _enquire(self, asked: _Asked, way: str, parts: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        insurer = self._insurer(asked.biller)
        requests = []
        for part in parts:
            method, url = self._address(asked, way, **part)
            requests.append(Request(method, url, self._credentials(asked, insurer)))
        return await self._send(asked, requests)

    def _address(self, asked: _Asked, way: str, **parts: str) -> tuple[str, str]:
        named = self._contracts.invoicecloud["our_services"][way]
        base = self._settings.our_service(named["service"])
        if asked.target is not None:
            self._allowed(asked.target)
            base = asked.target.rstrip("/")
        path = str(named["path"])
        for name, value in {"biller": asked.biller, **parts}.items():
            path = path.replace(f"{{{name}}}", quote(value, safe=""))
        return str(named["method"]), base + path

    def _allowed(self, address: str) -> None:
        """Only our services' own hosts, or this machine: nobody else gets a credential or a call."""
        host = urlsplit(address).hostname or ""
        ours = {
            urlsplit(self._settings.our_service(name)).hostname
            for name in ("payments", "balances", "settings", "bills")
        }
        if host not in ours and not _loopback(host):
            raise CannotPlay("the address is neither one of our services nor on this machine")

    def _credentials(self, asked: _Asked, insurer: Insurer) -> dict[str, str]:
        if asked.auth == "none":
            return {}
        if asked.auth == "wrong":
            return {"Authorization": "Bearer not-the-token"}
        secret = insurer.intake_bearer if asked.auth == "bearer" else insurer.intake_password
        value = self._insurers.secret(secret)
        if value is None:
            raise CannotPlay(f"there is no secret {secret}")
        if asked.auth == "bearer":
            return {"Authorization": f"Bearer {value}"}
        pair = base64.b64encode(f"{insurer.intake_user}:{value}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}

    def _insurer(self, slug: str) -> Insurer:
        insurer = self._insurers.by_slug(slug)
        if insurer is None:
            raise CannotPlay(f"there is no biller {slug}")
        return insurer

    async def _send(self, asked: _Asked, requests: Sequence[Request]) -> dict[str, Any]:
        """What each request was answered with, in their order."""
        every = [request for request in requests for _ in range(asked.repeat)]
        places = asyncio.Semaphore(len(every) if asked.at_once else asked.concurrency)

        async def send(request: Request) -> dict[str, Any]:
            async with places:
                return await self._one(request, asked.timeout_s)

        answers = list(await asyncio.gather(*(send(one) for one in every)))
        statuses: dict[str, int] = {}
        for one in answers:
            statuses[str(one["status"])] = statuses.get(str(one["status"]), 0) + 1
        return {"statuses": statuses, "answers": answers}

    async def _one(self, request: Request, timeout_s: float) -> dict[str, Any]:
        if self._session is None:
            raise RuntimeError("use it in `async with`")
        began = time.monotonic()
        try:
            async with self._session.request(
                request.method,
                request.url,
                data=request.body,
                headers=request.headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=timeout_s),
            ) as reply:
                body = await _bounded(reply)
                shown: dict[str, Any] = {
                    "status": reply.status,
                    "headers": {
                        name: reply.headers[name] for name in _SHOWN_HEADERS if name in reply.headers
                    },
                    **_shown_body(reply.content_type, body),
                }
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            shown = {"status": 0, "error": type(fault).__name__}
        took = round((time.monotonic() - began) * 1000, 1)
        return {"url": request.url, "sent": request.sent, **shown, "elapsed_ms": took}


async def _bounded(reply: aiohttp.ClientResponse) -> bytes:
    """The body, cut where it is too large to be kept."""
    taken = bytearray()
    async for chunk in reply.content.iter_chunked(65536):
        taken += chunk
        if len(taken) > _MOST_BYTES:
            break
    return bytes(taken)


def _shown_body(content_type: str, body: bytes) -> dict[str, Any]:
    if content_type.endswith("json"):
        try:
            return {"body": json.loads(body)}
        except ValueError:
            return {"body": body[:_SHOWN_CHARS].decode("utf-8", "replace")}
    if content_type.startswith("text/"):
        return {"body": body[:_SHOWN_CHARS].decode("utf-8", "replace"), "bytes": len(body)}
    return {"bytes": len(body), "sha256": sha256(body).hexdigest(), "is_pdf": body.startswith(b"%PDF-")}


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
