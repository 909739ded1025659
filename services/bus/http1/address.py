"""What of a partner's address goes where: to whom to connect, and what to ask there."""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit

from services.bus.http1.dial import Origin

_PORTS = {"http": 80, "https": 443}


class BadAddress(ValueError):
    """It names no host that can be asked over HTTP."""


@dataclass(frozen=True, slots=True)
class Address:
    """`host` and `target` are as the request has them; `here` is that it stays on this machine."""

    origin: Origin
    host: str
    target: str
    here: bool


@lru_cache(maxsize=1024)
def read_address(url: str) -> Address:
    """The address exactly as given: quoted parts stay quoted. Raises BadAddress."""
    if not url.isascii() or not url.isprintable() or " " in url:
        raise BadAddress
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise BadAddress from None
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc or port == 0:
        raise BadAddress
    target = (parts.path or "/") + ("?" + parts.query if parts.query else "")
    origin = Origin(parts.scheme == "https", parts.hostname, port or _PORTS[parts.scheme])
    return Address(origin, parts.netloc, target, _loopback(parts.hostname))


def _loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
