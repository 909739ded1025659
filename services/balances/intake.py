"""What IC and others ask of a balance over HTTP."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from fastapi import APIRouter, Depends
from starlette.responses import JSONResponse

from services.balances.handlers import (
    Away,
    Desk,
    Fresh,
    Known,
    Refused,
    Stale,
    TooMany,
    Unknown,
    answer_enquiry,
    find_by_ivr,
)
from services.balances.imt import Balance
from services.bus.auth import biller_of
from services.bus.biller import Biller
from services.bus.problem import Problem
from services.bus.settings import ConfigurationError
from services.bus.wire import instant, money
from services.events import BalanceCurrent

OurBiller = Annotated[Biller, Depends(biller_of)]
NO_STORE = {"Cache-Control": "no-store"}
AMOUNTS = ("balance_due", "minimum_due", "past_due", "current_charges", "credit")
FIELDS = (*AMOUNTS, "account", "as_of", "stale", "invoice_number")


def load_names(schemas: Path) -> dict[str, str]:
    """What IC calls the fields of an answer; raises ConfigurationError for a name that is missing."""
    path = schemas / "partners" / "rtdr.yaml"
    try:
        names: dict[str, str] = yaml.safe_load(path.read_text(encoding="utf-8"))["fields"]
        missing = [name for name in FIELDS if not isinstance(names.get(name), str)]
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as fault:
        raise ConfigurationError([f"{path.name}: cannot be read ({type(fault).__name__})"]) from None
    if missing:
        raise ConfigurationError([f"{path.name}: fields.{name} is missing" for name in missing])
    return names


def balance_routes(desk: Desk, names: Mapping[str, str]) -> APIRouter:
    """RTDR, IVR, and the local view."""
    router = APIRouter(tags=["balances"])

    @router.get("/ic/{biller}/balances/{account}", summary="RTDR: IMT's own balance, asked now")
    async def rtdr(biller: OurBiller, account: str) -> JSONResponse:
        answer = await answer_enquiry(biller, account, desk)
        if isinstance(answer, Fresh):
            return told(names, as_told(answer.balance, stale=False))
        if isinstance(answer, Stale):
            return told(names, as_told(answer.current, stale=True), answer.current)
        raise refusal(answer)

    @router.get("/ic/{biller}/ivr/{typed}", summary="IVR: an account by its number as a person types it")
    async def ivr(biller: OurBiller, typed: str) -> JSONResponse:
        if not biller.offers("ivr"):
            raise Problem(403, "IVR not switched on", "This biller's file does not switch IVR on.")
        answer = find_by_ivr(biller, typed, desk)
        if not isinstance(answer, Known):
            raise refusal(answer)
        account = {"account": answer.account.account, "invoice_number": answer.account.invoice_number}
        known = as_told(answer.balance, stale=True) if answer.balance else dict.fromkeys((*AMOUNTS, "as_of"))
        return told(names, known | account, answer.balance)

    @router.get("/billers/{biller}/balances/{account}", summary="The latest balance the bus knows")
    async def current(biller: OurBiller, account: str) -> JSONResponse:
        if not desk.balances.ready:
            raise refusal(Away(1))
        known = desk.balances.of(biller.slug, account)
        if known is None:
            raise refusal(Unknown())
        shown = {"updated_at": instant(known.updated_at)} | as_told(known, stale=True)
        return told({}, shown, known)

    return router


def as_told(balance: Balance | BalanceCurrent, *, stale: bool) -> dict[str, Any]:
    """A balance under our own names."""
    amounts = {name: money(getattr(balance, name)) for name in AMOUNTS}
    return {"account": balance.account, **amounts, "as_of": instant(balance.as_of), "stale": stale}


def told(
    names: Mapping[str, str], values: Mapping[str, Any], stale: BalanceCurrent | None = None
) -> JSONResponse:
    """The answer under the wire's names; what was not asked of IMT just now says so in headers too."""
    headers = NO_STORE | ({"Billbus-Stale-Since": instant(stale.as_of)} if stale else {})
    return JSONResponse({names.get(name, name): value for name, value in values.items()}, headers=headers)


def refusal(answer: Away | Unknown | TooMany | Refused) -> Problem:
    """Why there is no balance, without repeating what was asked."""
    match answer:
        case Away(retry_after):
            return Problem(503, "Balance not available", "IMT cannot be asked now.", retry_after=retry_after)
        case Unknown():
            return Problem(404, "Unknown account", "No account is known by this number.")
        case TooMany():
            return Problem(
                409, "Ambiguous account", "More than one account matches this number; give it in full."
            )
        case Refused(code):
            return Problem(502, "No balance from IMT", "IMT refused to give a balance.", code=code)
