"""A request in HTTP/1.1, written as bytes."""

import re
from collections.abc import Mapping
from functools import lru_cache

_OURS = frozenset({"connection", "content-length", "expect", "host", "te", "transfer-encoding", "upgrade"})
"""What frames a request; nobody else may name it."""
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class BrokenRequest(Exception):
    """What was to be sent would be read as something else; not a byte of it may leave."""


@lru_cache(maxsize=256)
def _start(name: str) -> str:
    if not _NAME.fullmatch(name) or name.lower() in _OURS:
        raise BrokenRequest("a header's name is not one that may be given")
    return f"{name}: "


def write_request(
    method: str, target: str, host: str, headers: Mapping[str, str], body: bytes | None
) -> bytes:
    """The request as it leaves. Raises BrokenRequest where a value would end its line or is not ASCII.

    `host` and `target` are as services.bus.http1.address reads them.
    """
    if not (method.isascii() and method.isalpha()):
        raise BrokenRequest("the method is not one")
    lines = [f"{method} {target} HTTP/1.1\r\nHost: {host}"]
    for name, value in headers.items():
        if not (value.isascii() and value.isprintable()):
            raise BrokenRequest("a header's value has a character that would break it")
        lines.append(_start(name) + value)
    if body is None:
        if method not in {"GET", "HEAD", "OPTIONS"}:
            lines.append("Content-Length: 0")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
    lines.append(f"Content-Length: {len(body)}\r\n\r\n")
    return "\r\n".join(lines).encode("ascii") + body
