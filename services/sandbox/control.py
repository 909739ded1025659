"""The control API: seed IMT's books, read the ledger, switch faults, let IC's side play."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.sandbox.accounts import Account, Accounts
from services.sandbox.amounts import Malformed, cents, instant, money
from services.sandbox.faults import KINDS as FAULT_KINDS
from services.sandbox.faults import Faults, FaultSpec, UnknownOperation
from services.sandbox.insurers import Insurers
from services.sandbox.ledger import KINDS, Filter, Kind, Ledger
from services.sandbox.play import BankFile, CannotPlay, Enrol, InvoiceCloudSide, Ivr, Open, Pay, Rtdr

_MOST_ROWS = 100_000


class SeededBill(BaseModel):
    """A bill that IMT has; `bytes` is the least size of its PDF."""

    model_config = ConfigDict(extra="forbid")

    bill_id: str = Field(min_length=1, max_length=200)
    bytes: int = Field(default=0, ge=0, le=64 * 1024 * 1024)


class SeededAccount(BaseModel):
    """An account as IMT's books have it from now on; money in USD."""

    model_config = ConfigDict(extra="forbid")

    account: str = Field(min_length=1, max_length=200)
    past_due: str | float = "0.00"
    current_charges: str | float = "0.00"
    credit: str | float = "0.00"
    policies: list[str] = []
    bills: list[str | SeededBill] = []
    closed: bool = False
    cause: str = Field("adjustment", pattern="^(invoice|payment|adjustment)$")


class Seed(BaseModel):
    """Accounts of one insurer."""

    model_config = ConfigDict(extra="forbid")

    biller: str
    accounts: list[SeededAccount] = Field([], max_length=100_000)
    bills_gone: list[str] = []


class Amended(BaseModel):
    """What a partner has otherwise than it was sent; money in USD."""

    model_config = ConfigDict(extra="forbid")

    fields: dict[str, str | bool] = Field({}, max_length=50)
    amount: str | None = None
    account: str | None = Field(None, min_length=1, max_length=200)


class Options(BaseModel):
    """What can be switched while it runs."""

    model_config = ConfigDict(extra="forbid")

    unknown_accounts: str = Field(pattern="^(refuse|open)$")


Endpoint = Callable[[Request], Awaitable[Response]]


class Control:
    """The endpoints below /control. They ask for no credential: keep the sandbox on a private address."""

    def __init__(
        self,
        ledger: Ledger,
        accounts: Accounts,
        faults: Faults,
        insurers: Insurers,
        side: InvoiceCloudSide,
    ) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._faults = faults
        self._insurers = insurers
        self._side = side

    def routes(self) -> list[Route]:
        """All of them."""
        routes: list[tuple[str, str, Endpoint]] = [
            ("GET", "/control/billers", self.billers),
            ("POST", "/control/accounts", self.seed),
            ("GET", "/control/accounts/{biller}/{account}", self.account),
            ("DELETE", "/control/accounts", self.forget_accounts),
            ("PUT", "/control/options", self.options),
            ("GET", "/control/ledger", self.overview),
            ("DELETE", "/control/ledger", self.forget_ledger),
            ("GET", "/control/ledger/{kind}", self.read_ledger),
            ("DELETE", "/control/ledger/{kind}", self.forget_ledger),
            ("PATCH", "/control/ledger/{kind}", self.amend_ledger),
            ("POST", "/control/ledger/{kind}/repeat", self.repeat_ledger),
            ("GET", "/control/faults", self.read_faults),
            ("PUT", "/control/faults", self.add_faults),
            ("DELETE", "/control/faults", self.clear_faults),
            ("DELETE", "/control/faults/{id:int}", self.remove_fault),
            ("POST", "/control/play/{what}", self.play),
        ]
        return [Route(path, _told(endpoint), methods=[method]) for method, path, endpoint in routes]

    async def billers(self, request: Request) -> Response:
        del request
        return JSONResponse(
            [
                {
                    "slug": one.slug,
                    "name": one.name,
                    "biller_guid": one.biller_guid,
                    "secrets_missing": [
                        name
                        for name in (
                            one.web_service_key,
                            one.imt_token,
                            one.intake_password,
                            one.intake_bearer,
                        )
                        if self._insurers.secret(name) is None
                    ],
                }
                for one in self._insurers.all()
            ]
        )

    async def seed(self, request: Request) -> Response:
        given = Seed.model_validate_json(await request.body())
        with self._ledger.effect():
            at = self._ledger.tick()
            for one in given.accounts:
                self._seed_one(given.biller, one, at)
            for bill_id in given.bills_gone:
                self._accounts.remove_bill(given.biller, bill_id)
        return JSONResponse({"accounts": len(given.accounts), "as_of": instant(at)})

    def _seed_one(self, biller: str, one: SeededAccount, at: int) -> None:
        past_due, current, credit = (
            cents(getattr(one, name), name) for name in ("past_due", "current_charges", "credit")
        )
        state = Account(one.account, past_due, current, credit, at, one.closed)
        self._accounts.write(biller, state, one.cause)
        self._accounts.add_numbers(biller, one.account, one.policies)
        for bill in one.bills:
            made = SeededBill(bill_id=bill) if isinstance(bill, str) else bill
            self._accounts.add_bill(biller, made.bill_id, one.account, made.bytes)

    async def account(self, request: Request) -> Response:
        state = self._accounts.read(request.path_params["biller"], request.path_params["account"])
        if state is None:
            return _problem(404, "no such account")
        return JSONResponse(
            {
                "account": state.account,
                "balance_due": money(state.balance_due),
                "past_due": money(state.past_due),
                "current_charges": money(state.current),
                "credit": money(state.credit),
                "as_of": instant(state.as_of),
                "closed": state.closed,
            }
        )

    async def forget_accounts(self, request: Request) -> Response:
        self._accounts.forget_all(request.query_params.get("biller"))
        return Response(status_code=204)

    async def options(self, request: Request) -> Response:
        given = Options.model_validate_json(await request.body())
        self._accounts.opens_unknown = given.unknown_accounts == "open"
        return JSONResponse(given.model_dump())

    async def overview(self, request: Request) -> Response:
        where = _filter(request.query_params)
        totals = {kind: self._ledger.totals(kind, where) for kind in KINDS}
        return JSONResponse(totals | {"books": self._accounts.counts()})

    async def read_ledger(self, request: Request) -> Response:
        kind = _kind(request)
        where = _filter(request.query_params)
        by = [name for name in request.query_params.get("by", "").split(",") if name]
        shown: dict[str, Any] = {"kind": kind, **self._ledger.totals(kind, where)}
        if by:
            shown["groups"] = self._ledger.groups(kind, where, by)
        shown["rows"] = [row.shown() for row in self._ledger.rows(kind, where)]
        return JSONResponse(shown)

    async def forget_ledger(self, request: Request) -> Response:
        where = _filter(request.query_params)
        kinds = [_kind(request)] if "kind" in request.path_params else KINDS
        return JSONResponse({kind: self._ledger.forget(kind, where) for kind in kinds})

    async def amend_ledger(self, request: Request) -> Response:
        given = Amended.model_validate_json(await request.body())
        amount = None if given.amount is None else cents(given.amount, "amount")
        where, kind = _filter(request.query_params), _kind(request)
        return JSONResponse({kind: self._ledger.amend(kind, where, given.fields, amount, given.account)})

    async def repeat_ledger(self, request: Request) -> Response:
        where, kind = _filter(request.query_params), _kind(request)
        return JSONResponse({kind: self._ledger.repeat(kind, where)})

    async def read_faults(self, request: Request) -> Response:
        del request
        return JSONResponse(
            {
                "on": [fault.shown() for fault in self._faults.on],
                "kinds": FAULT_KINDS,
                "operations": [one.name for one in self._faults.operations],
            }
        )

    async def add_faults(self, request: Request) -> Response:
        given = json.loads(await request.body())
        specs = [FaultSpec.model_validate(one) for one in (given if isinstance(given, list) else [given])]
        added = [self._faults.add(spec).shown() for spec in specs]
        return JSONResponse(added if isinstance(given, list) else added[0])

    async def clear_faults(self, request: Request) -> Response:
        del request
        return JSONResponse({"cleared": self._faults.clear()})

    async def remove_fault(self, request: Request) -> Response:
        gone = self._faults.remove(request.path_params["id"])
        return Response(status_code=204) if gone else _problem(404, "no such fault")

    async def play(self, request: Request) -> Response:
        body, side = await request.body(), self._side
        match request.path_params["what"]:
            case "pay":
                played = await side.pay(Pay.model_validate_json(body))
            case "enrol":
                played = await side.enrol(Enrol.model_validate_json(body))
            case "rtdr":
                played = await side.rtdr(Rtdr.model_validate_json(body))
            case "ivr":
                played = await side.ivr(Ivr.model_validate_json(body))
            case "open":
                played = await side.open(Open.model_validate_json(body))
            case "bank_file":
                played = await side.bank_file(BankFile.model_validate_json(body))
            case _:
                return _problem(404, "there are pay, enrol, rtdr, ivr, open and bank_file")
        return JSONResponse(played)


def _told(endpoint: Endpoint) -> Endpoint:
    """The endpoint, with what is wrong in a request told in one sentence."""

    async def called(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ValidationError as wrong:
            said = (f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in wrong.errors())
            return _problem(422, "; ".join(said))
        except (CannotPlay, Malformed, UnknownOperation) as wrong:
            return _problem(422, str(wrong))
        except json.JSONDecodeError:
            return _problem(422, "the body is not JSON")

    return called


def _problem(status: int, detail: str) -> Response:
    return JSONResponse({"detail": detail}, status)


def _kind(request: Request) -> Kind:
    asked = request.path_params["kind"]
    for kind in KINDS:
        if kind == asked:
            return kind
    raise Malformed(f"there is no ledger of {asked}; there are {', '.join(KINDS)}")


def _filter(query: Mapping[str, str]) -> Filter:
    return Filter(
        biller=query.get("biller"),
        natural_id=query.get("natural_id"),
        account=query.get("account"),
        after=_number(query, "after", 0, 2**62),
        limit=_number(query, "limit", 1000, _MOST_ROWS),
        field=_field(query.get("field")),
    )


def _number(query: Mapping[str, str], name: str, default: int, most: int) -> int:
    given = query.get(name, str(default))
    if not (given.isascii() and given.isdigit() and len(given) <= 19 and int(given) <= most):
        raise Malformed(f"{name} is not a number from 0 to {most}")
    return int(given)


def _field(given: str | None) -> tuple[str, str] | None:
    if given is None:
        return None
    name, given_value, value = given.partition(":")
    if not name or not given_value:
        raise Malformed("field is not NAME:VALUE")
    return name, value
