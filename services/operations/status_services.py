"""The services as they answer now: each replica's /readyz and /metrics, side by side and never for long."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

import httpx
from prometheus_client.parser import text_string_to_metric_families

ANSWER_S = 3.0
"""How long a replica may take for both answers; /readyz alone takes 2 s where a check does not end."""
LOOK_UP_S = 1.0
LARGEST_BYTES = 4 * 1024 * 1024
"""Of an answer; what is longer is not read."""
IPV6 = 6
MOST_REPLICAS = 64
"""Of one service; of more addresses the first are asked."""

State = Literal["ready", "not ready", "no answer"]
Sample = tuple[Mapping[str, str], float]
Samples = Mapping[str, Sequence[Sample]]
"""Labels and value by the sample's name."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What the metrics of one replica say, or of several together."""

    breakers: frozenset[tuple[str, str]] = frozenset()
    """Lane and biller whose partner is taken to be away."""
    halted: Mapping[str, int] = field(default_factory=dict)
    """Partitions by lane."""
    parked: Mapping[str, int] = field(default_factory=dict)
    """By biller, what was parked since the process began."""
    polled: Mapping[str, datetime] = field(default_factory=dict)
    """By biller, when IMT was last polled and answered (UTC)."""
    retention: Mapping[str, float] = field(default_factory=dict)
    """By lane, the age of the oldest unsettled record as a part of its topic's retention."""


@dataclass(frozen=True, kw_only=True)
class Replica:
    """One process of a service; `why` says what it lacks, or how it failed to answer."""

    service: str
    address: str
    state: State
    why: str = ""
    measured: Measured = Measured()


async def ask_services(
    addresses: Mapping[str, Sequence[str]], transport: httpx.AsyncBaseTransport | None = None
) -> list[Replica]:
    """Every replica behind the addresses of each service. Raises nothing for one that does not answer."""
    async with httpx.AsyncClient(timeout=ANSWER_S, trust_env=False, transport=transport) as http:
        asked = [_ask_service(http, name, url) for name, urls in addresses.items() for url in urls]
        found = await asyncio.gather(*asked)
    return [replica for replicas in found for replica in replicas]


async def _ask_service(http: httpx.AsyncClient, service: str, url: str) -> list[Replica]:
    try:
        async with asyncio.timeout(LOOK_UP_S):
            places = await _addresses(url)
    except TimeoutError:
        return [_unfound(service, url, f"its name was not found within {LOOK_UP_S:g} s")]
    except OSError:
        return [_unfound(service, url, "its name is not known here")]
    return list(await asyncio.gather(*(_ask(http, service, url, place) for place in places[:MOST_REPLICAS])))


def _unfound(service: str, url: str, why: str) -> Replica:
    return Replica(service=service, address=urlsplit(url).netloc, state="no answer", why=why)


async def _addresses(url: str) -> list[str]:
    """All addresses behind a name, each a replica; of both families one, where a name has both."""
    parts = urlsplit(url)
    with suppress(ValueError):
        number = ip_address(parts.hostname or "")
        return [f"[{number}]" if number.version == IPV6 else str(number)]
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    old = [str(address[0]) for family, *_, address in found if family == socket.AF_INET]
    new = [f"[{address[0]}]" for family, *_, address in found if family == socket.AF_INET6]
    return sorted(set(old or new))


async def _ask(http: httpx.AsyncClient, service: str, url: str, place: str) -> Replica:
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    base = f"{parts.scheme}://{place}{port}{parts.path.rstrip('/')}"
    host = parts.hostname or ""
    try:
        async with asyncio.timeout(ANSWER_S):
            (code, told), (_, text) = await asyncio.gather(
                _get(http, f"{base}/readyz", host), _get(http, f"{base}/metrics", host)
            )
    except (httpx.HTTPError, TimeoutError, OSError) as error:
        why = _why_not(error)
        return Replica(service=service, address=f"{place}{port}", state="no answer", why=why)
    state: State = "ready" if code == httpx.codes.OK else "not ready"
    why = "" if state == "ready" else _missing(code, told)
    try:
        measured = measured_of(samples_of(text.decode(errors="replace")))
    except ValueError:
        measured, why = Measured(), f"{why}; its metrics cannot be read".removeprefix("; ")
    return Replica(service=service, address=f"{place}{port}", state=state, why=why, measured=measured)


async def _get(http: httpx.AsyncClient, url: str, host: str) -> tuple[int, bytes]:
    read = bytearray()
    extensions = {"sni_hostname": host}
    async with http.stream("GET", url, headers={"Host": host}, extensions=extensions) as answer:
        async for part in answer.aiter_bytes():
            read += part
            if len(read) > LARGEST_BYTES:
                break
        return answer.status_code, bytes(read[:LARGEST_BYTES])


def _why_not(error: Exception) -> str:
    if isinstance(error, httpx.ConnectError | OSError) and not isinstance(error, TimeoutError):
        return "nobody listens there"
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return f"no answer within {ANSWER_S:g} s"
    return type(error).__name__


def _missing(code: int, told: bytes) -> str:
    """What /readyz names as missing: a problem of RFC 9457 with `missing`."""
    try:
        missing = httpx.Response(code, content=told).json()["missing"]
        return ", ".join(str(each) for each in missing)
    except (ValueError, KeyError, TypeError):
        return f"/readyz answers {code}"


# -- metrics -------------------------------------------------------------------------------------------


def samples_of(text: str) -> Samples:
    """The samples of billbus by name; raises ValueError where the text is none of Prometheus."""
    found: dict[str, list[Sample]] = {}
    for family in text_string_to_metric_families(_ours(text)):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def _ours(text: str) -> str:
    """Only what is looked at: parsing is slow, and most lines are buckets."""
    return "\n".join(line for line in text.splitlines() if line.startswith(WANTED)) + "\n"


BREAKERS, HALTED = "billbus_breaker_open", "billbus_lane_halted"
SETTLED, RETENTION = "billbus_lane_settled_total", "billbus_lane_retention_used_ratio"
POLLED_AT = "billbus_poll_ended_time_seconds"
WANTED = (BREAKERS, HALTED, SETTLED, RETENTION, POLLED_AT)


def measured_of(samples: Samples) -> Measured:
    """What of the samples an operator wants to see."""
    parked: dict[str, int] = {}
    for labels, value in samples.get(SETTLED, ()):
        if labels.get("state") == "parked" and value:
            biller = labels.get("biller", "")
            parked[biller] = parked.get(biller, 0) + int(value)
    return Measured(
        breakers=frozenset(
            (labels.get("lane", ""), labels.get("biller", ""))
            for labels, value in samples.get(BREAKERS, ())
            if value
        ),
        halted={labels.get("lane", ""): int(value) for labels, value in samples.get(HALTED, ()) if value},
        parked=parked,
        polled={
            labels.get("biller", ""): datetime.fromtimestamp(value, UTC)
            for labels, value in samples.get(POLLED_AT, ())
            if value and labels.get("result") != "failed"
        },
        retention={labels.get("lane", ""): value for labels, value in samples.get(RETENTION, ())},
    )


def together(replicas: Sequence[Replica]) -> Measured:
    """What all replicas say: a breaker open in one is open, counts add up, the newest poll counts."""
    halted: dict[str, int] = {}
    parked: dict[str, int] = {}
    polled: dict[str, datetime] = {}
    retention: dict[str, float] = {}
    for measured in (replica.measured for replica in replicas):
        for lane, count in measured.halted.items():
            halted[lane] = halted.get(lane, 0) + count
        for biller, count in measured.parked.items():
            parked[biller] = parked.get(biller, 0) + count
        for biller, at in measured.polled.items():
            polled[biller] = max(at, polled.get(biller, at))
        for lane, used in measured.retention.items():
            retention[lane] = max(used, retention.get(lane, used))
    breakers = frozenset(pair for replica in replicas for pair in replica.measured.breakers)
    return Measured(breakers=breakers, halted=halted, parked=parked, polled=polled, retention=retention)
