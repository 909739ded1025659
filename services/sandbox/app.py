"""The sandbox: IMT's services, InvoiceCloud's, the control API and the page, in one ASGI application."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from services.sandbox import wire
from services.sandbox.accounts import Accounts
from services.sandbox.amounts import Now
from services.sandbox.control import Control
from services.sandbox.environment import Contracts, SandboxSettings
from services.sandbox.faults import Faults, Operation
from services.sandbox.imt import Call, Imt
from services.sandbox.insurers import Insurers
from services.sandbox.invoicecloud import OPERATIONS, InvoiceCloud, faulty
from services.sandbox.ledger import Ledger
from services.sandbox.page import page
from services.sandbox.play import InvoiceCloudSide

_MOST_BYTES = 1024 * 1024


class TooLarge(Exception):
    """A body beyond what is taken."""


def build(settings: SandboxSettings, now: Now = lambda: datetime.now(UTC)) -> Starlette:
    """The application; its ledger is open as long as it runs."""
    contracts = Contracts(settings.schemas)
    insurers = Insurers(settings.billers, settings.secrets)
    ledger = Ledger(settings.ledger_file, now)
    accounts = Accounts(ledger, opens_unknown=settings.unknown_accounts == "open")
    imt = Imt(contracts, insurers, ledger, accounts)
    faults = Faults((*_imt_operations(contracts), *OPERATIONS))
    cloud = InvoiceCloud(
        contracts,
        insurers,
        ledger,
        lambda biller, number: faults.pick(OPERATIONS[0].name, biller, (number,), whole=False),
    )
    side = InvoiceCloudSide(settings, contracts, insurers, ledger, now)
    control = Control(ledger, accounts, faults, insurers, side)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        del app
        async with side:
            yield
        ledger.close()

    return Starlette(
        routes=[
            Route("/", partial(_page, insurers)),
            Route("/livez", _alive),
            Route("/readyz", _alive),
            *_imt_routes(contracts, imt, faults),
            *_cloud_routes(contracts, cloud, faults),
            *control.routes(),
        ],
        lifespan=lifespan,
    )


async def _page(insurers: Insurers, request: Request) -> Response:
    return HTMLResponse(page(insurers.all(), str(request.base_url).rstrip("/")))


async def _alive(request: Request) -> Response:
    del request
    return JSONResponse({"status": "ok"})


def _imt_operations(contracts: Contracts) -> list[Operation]:
    return [
        Operation(f"imt.{service}.{name}", bool(stated.get("effect")))
        for service, described in contracts.imt["services"].items()
        for name, stated in described["operations"].items()
    ]


def _imt_routes(contracts: Contracts, imt: Imt, faults: Faults) -> list[Route]:
    return [
        Route(
            described["path"] + stated["path"],
            _imt_endpoint(imt, faults, service, name, contracts.imt["auth"]["header"]),
            methods=[stated["method"]],
        )
        for service, described in contracts.imt["services"].items()
        for name, stated in described["operations"].items()
    ]


def _imt_endpoint(
    imt: Imt, faults: Faults, service: str, operation: str, header: str
) -> Callable[[Request], Awaitable[Response]]:
    async def called(request: Request) -> Response:
        try:
            body = await _body(request, _MOST_BYTES)
        except TooLarge:
            return PlainTextResponse("Too large", 413)
        call = Call(
            request.method,
            request.path_params["insurer"],
            request.path_params,
            request.query_params,
            request.headers.get(header, ""),
            body,
        )
        asked = imt.understand(operation, call)
        if isinstance(asked, Response):
            return asked
        fault = faults.pick(f"imt.{service}.{operation}", asked.biller, asked.subjects)
        return await wire.answer(asked, fault)

    return called


def _cloud_routes(contracts: Contracts, cloud: InvoiceCloud, faults: Faults) -> list[Route]:
    path = contracts.invoicecloud["soap"]["path"]

    async def wsdl(request: Request) -> Response:
        if "wsdl" not in (name.lower() for name in request.query_params):
            return PlainTextResponse("CloudInvoicing: the WSDL is at ?wsdl")
        address = str(request.url.replace(query=""))
        return Response(cloud.wsdl.at(address), media_type="text/xml")

    async def called(request: Request) -> Response:
        try:
            content = await _body(request, cloud.max_bytes)
        except TooLarge:
            return faulty("The message is too large")
        understood = cloud.understand(content)
        if isinstance(understood, Response):
            return understood
        asked = understood.asked
        fault = faults.pick(
            understood.operation, asked.biller, asked.subjects, each=asked.refuse_whole is None
        )
        return await wire.answer(asked, fault)

    return [Route(path, wsdl, methods=["GET"]), Route(path, called, methods=["POST"])]


async def _body(request: Request, most: int) -> bytes:
    """The whole body, of bounded size."""
    taken = bytearray()
    async for chunk in request.stream():
        taken += chunk
        if len(taken) > most:
            raise TooLarge
    return bytes(taken)
