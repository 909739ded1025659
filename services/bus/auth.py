"""Who may speak for a biller: Basic or Bearer per biller, compared in constant time."""

import base64
import binascii
from collections.abc import Mapping
from hmac import compare_digest
from typing import Annotated, Any

import structlog
from fastapi import Depends, Request
from fastapi.security import HTTPBasic, HTTPBearer

from services.bus.billers import Biller
from services.bus.problem import Problem
from services.bus.secrets import Secrets
from services.bus.settings import ConfigurationError

log = structlog.get_logger()

# The two schemes are declared for the OpenAPI document; the header itself is read here.
_basic = HTTPBasic(auto_error=False, scheme_name="basic", description="The biller's user and password.")
_bearer = HTTPBearer(auto_error=False, scheme_name="bearer", description="The biller's token.")


def wrong_credential() -> Problem:
    """The same answer for no credential, a wrong one, and a biller that does not exist."""
    return Problem(
        401,
        "Not authenticated",
        "Send the biller's own credential as Basic or Bearer.",
        headers={"WWW-Authenticate": 'Basic realm="billbus", Bearer'},
    )


def _secret(secrets: Secrets, name: str | None) -> bytes | None:
    if not name:
        return None
    try:
        return secrets.get(name).encode() or None
    except ConfigurationError:
        log.error("auth.secret_missing", secret=name)
        return None


def _same(given: bytes, wanted: bytes | None) -> bool:
    # Without a secret the comparison is made all the same, so that time tells nothing.
    return compare_digest(given, wanted if wanted is not None else b"\x00" + given) and wanted is not None


def _basic_pair(encoded: str) -> tuple[bytes, bytes]:
    try:
        user, _, password = base64.b64decode(encoded, validate=True).partition(b":")
    except (binascii.Error, ValueError):
        raise wrong_credential() from None
    return user, password


def _speaks_for(biller: Biller, secrets: Secrets, scheme: str, given: str) -> bool:
    if scheme == "bearer":
        return _same(given.encode("latin-1"), _secret(secrets, biller.intake.bearer))
    user, password = _basic_pair(given)
    user_ok = _same(user, biller.intake.user.encode() if biller.intake.user else None)
    return _same(password, _secret(secrets, biller.intake.password)) & user_ok


async def biller_of(
    request: Request,
    biller: str,
    _declared_basic: Annotated[Any, Depends(_basic)] = None,
    _declared_bearer: Annotated[Any, Depends(_bearer)] = None,
) -> Biller:
    """The biller named in the path, once the caller has proved to speak for it.

    Raises:
        Problem: 401 for a missing or wrong credential or an unknown biller; 403 for another biller's.
    """
    bus = request.app.state.bus
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    scheme, given = scheme.lower(), given.strip()
    if scheme not in ("basic", "bearer") or not given:
        raise wrong_credential()
    billers: Mapping[str, Biller] = bus.billers
    named = billers.get(biller)
    if named is not None and _speaks_for(named, bus.secrets, scheme, given):
        structlog.contextvars.bind_contextvars(biller=biller)
        return named
    if any(_speaks_for(other, bus.secrets, scheme, given) for other in billers.values()):
        raise Problem(403, "Not your biller", "The credential is valid, but for another biller.")
    raise wrong_credential()


async def speaker(request: Request, biller: str) -> Biller:
    """The same for a route that is called without the framework; raises its HTTPException besides."""
    if request.headers.get("authorization", "").lower().partition(" ")[0] == "basic":
        await _basic(request)  # as the framework does, it refuses what is no pair at all
    return await biller_of(request, biller)
