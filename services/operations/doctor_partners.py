"""Checks of the partners: whether each service answers with our key, its certificate, its clock."""

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from urllib.parse import urlsplit

from services.bus.billers import Biller, Billers
from services.bus.clock import Clock
from services.bus.settings import Settings
from services.operations.doctor_finding import Finding
from services.operations.partner_checks import Answer, ask_partners

SOON_DAYS = 14
SKEW_LIMIT_S = 60
"""A partner's clock is told in whole seconds, and its answer took a while."""
HANDSHAKE_S = 10.0
HAS_RUN_OUT = 10
"""OpenSSL's number for it."""
CLOSED = "answered 503"


async def check_partners(settings: Settings, billers: Mapping[str, Biller], clock: Clock) -> list[Finding]:
    """Whether every partner service answers a call that changes nothing, with the biller's own key."""
    answers, certificates = await asyncio.gather(
        ask_partners(settings, Billers(dict(billers)), clock), check_certificates(billers, clock)
    )
    found = [finding for name, answer in answers.items() for finding in _partner(name, answer)]
    return found + certificates


def _partner(name: str, answer: Answer) -> Iterator[Finding]:
    trouble = answer.trouble
    if trouble is None:
        yield Finding("partner", "fine", f"{name} answers")
    elif trouble.reason.startswith(CLOSED):
        advice = "Closed just now (maintenance?): ask the partner; what waits goes out by itself."
        yield Finding("partner", "wrong", f"{name}: {trouble.reason}", advice)
    elif trouble.reached:
        advice = f"Check that secret {answer.secret} is the partner's newest key, and the address."
        yield Finding("partner", "wrong", f"{name}: {trouble.reason}", advice)
    else:
        advice = "Check the address in the biller's file and the network; ask the partner if both are right."
        yield Finding("partner", "unreachable", f"{name}: {trouble.reason}", advice)
    if answer.ahead_s is not None and abs(answer.ahead_s) > SKEW_LIMIT_S:
        way = "ahead of" if answer.ahead_s > 0 else "behind"
        what = f"{name}: its clock is {abs(answer.ahead_s):.0f} s {way} ours"
        advice = "Tell the partner; what it stamps (as-of, batch dates) is off by as much."
        yield Finding("partner clock", "note", what, advice)


async def check_certificates(billers: Mapping[str, Biller], clock: Clock) -> list[Finding]:
    """How long the certificate of each partner's host is good."""
    hosts = sorted({place for biller in billers.values() for place in _hosts(biller)})
    return list(await asyncio.gather(*(_certificate(host, port, clock) for host, port in hosts)))


def _hosts(biller: Biller) -> Iterator[tuple[str, int]]:
    imt = biller.imt
    for url in (biller.invoice_cloud.url, imt.payments_due, imt.datapump, imt.settings, imt.bills):
        parts = urlsplit(url)
        if parts.scheme == "https" and parts.hostname:
            yield parts.hostname, parts.port or 443


async def _certificate(host: str, port: int, clock: Clock) -> Finding:
    name = f"{host}:{port}"
    try:
        ends = await _good_until(host, port)
    except ssl.SSLCertVerificationError as error:
        why = "has run out" if error.verify_code == HAS_RUN_OUT else f"is not trusted: {error.verify_message}"
        advice = "Tell the partner; nothing is sent to it until its certificate is right."
        return Finding("certificate", "wrong", f"{name}: its certificate {why}", advice)
    except (OSError, TimeoutError) as error:
        advice = "Check the address in the biller's file and the network."
        return Finding("certificate", "unreachable", f"{name}: no TLS ({type(error).__name__})", advice)
    left = (ends - clock.now()).days
    what = f"{name}: its certificate is good until {ends:%Y-%m-%d %H:%M} UTC, {left} days"
    if left < SOON_DAYS:
        return Finding("certificate", "note", what, "Ask the partner for the new one before that day.")
    return Finding("certificate", "fine", what)


async def _good_until(host: str, port: int) -> datetime:
    async with asyncio.timeout(HANDSHAKE_S):
        _, writer = await asyncio.open_connection(host, port, ssl=ssl.create_default_context())
    try:
        told = writer.get_extra_info("peercert")
    finally:
        writer.close()
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(told["notAfter"]), UTC)
