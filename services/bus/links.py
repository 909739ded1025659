"""Bill links: signed per biller, expiring, not guessable, the same for the same bill every time."""

import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal, Protocol
from urllib.parse import quote

from itsdangerous import BadData, Signer
from itsdangerous.encoding import base64_decode, base64_encode

LONGEST = 1024
_SALT = "billbus.bill-link.v1"


class HasLinkKey(Protocol):
    """A biller, as far as its links need it."""

    @property
    def slug(self) -> str: ...
    @property
    def links(self) -> "LinkRule": ...


class LinkRule(Protocol):
    """`key` names the secret that signs the biller's links."""

    @property
    def key(self) -> str: ...


class ReadsSecrets(Protocol):
    def get(self, name: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Claims:
    """What a link says: one bill of one biller, until an instant (UTC)."""

    biller: str
    invoice_number: str
    bill_id: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class BadLink:
    """Why a link opens nothing. The claims of an expired one are its own, those of a forged one nobody's."""

    reason: Literal["forged", "expired"]


def mint(
    biller: HasLinkKey,
    secrets: ReadsSecrets,
    base_url: str,
    invoice_number: str,
    bill_id: str,
    expires_at: datetime,
) -> str:
    """The address under which a customer opens a bill.

    The same bill and expiry give the same address, so that a file taken twice changes nothing. `expires_at`
    is cut to the second. Raises ConfigurationError when the biller's key is missing.
    """
    claims = [invoice_number, bill_id, int(expires_at.timestamp())]
    said = json.dumps(claims, separators=(",", ":"), ensure_ascii=False).encode()
    token = _signer_of(biller, secrets).sign(base64_encode(said)).decode()
    return f"{base_url.rstrip('/')}/bills/{quote(biller.slug, safe='')}/{token}"


def read(biller: HasLinkKey, secrets: ReadsSecrets, token: str, now: datetime) -> Claims | BadLink:
    """What a token says, if this biller's key signed it and it has not expired at `now`.

    Raises ConfigurationError when the biller's key is missing.
    """
    if len(token) > LONGEST or not token.isascii():
        return BadLink("forged")
    try:
        said = base64_decode(_signer_of(biller, secrets).unsign(token))
        invoice_number, bill_id, until = json.loads(said)
    except (BadData, TypeError, ValueError):
        return BadLink("forged")
    expires_at = datetime.fromtimestamp(until, UTC)
    if now >= expires_at:
        return BadLink("expired")
    return Claims(biller.slug, invoice_number, bill_id, expires_at)


def _signer_of(biller: HasLinkKey, secrets: ReadsSecrets) -> Signer:
    return _signer(biller.slug, secrets.get(biller.links.key))


@lru_cache(256)  # a file of a million bills is signed with one key
def _signer(slug: str, key: str) -> Signer:
    # The slug is part of what is signed: one biller's link is never another's, even under an equal key.
    derived = hmac.digest(key.encode(), f"{_SALT}.{slug}".encode(), "sha256")
    return Signer(derived, key_derivation="none", digest_method=hashlib.sha256)
