"""The kinds in which a partner can fail, told apart by what may have happened.

    PartnerError
    ├── Retryable   certainly no effect; try this one again
    ├── Unknown     the partner may have acted: look up before sending again
    └── Outage      the partner as a whole is away; certainly no effect

What was certainly never sent (no connection, no free place in our own pool) carries `never_sent`. A
request that only reads cannot have an effect, so its time-outs and broken answers are Retryable.
"""

import socket
import ssl
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TypeVar

_READS = frozenset({"GET", "HEAD", "OPTIONS"})


still_ours: ContextVar[Callable[[], bool] | None] = ContextVar("billbus_still_ours", default=None)
"""Whether the record at work is still this process's to deliver; None outside a lane."""


class NotOurs(Exception):
    """Another process has, or may have, the record by now: nothing of it may leave here."""


def require_ours() -> None:
    """Called right before the first byte of a request; raises NotOurs."""
    ours = still_ours.get()
    if ours is not None and not ours():
        raise NotOurs


class PartnerError(Exception):
    """A partner did not answer the question.

    `reason` is one short sentence without values; `never_sent` is True when no byte of the request left;
    `retry_after` is the partner's own wish in seconds, where it named one; `status` is of the HTTP answer;
    `sent_at` the monotonic instant of the request, where it left later than its caller knows.
    """

    def __init__(
        self,
        biller: str,
        service: str,
        reason: str,
        *,
        never_sent: bool = False,
        retry_after: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(f"{biller} {service}: {reason}")
        self.biller = biller
        self.service = service
        self.reason = reason
        self.never_sent = never_sent
        self.retry_after = retry_after
        self.status = status
        self.sent_at: float | None = None


class Retryable(PartnerError):
    """Certainly no effect: this one can be tried again."""


class Unknown(PartnerError):
    """The request may have taken effect."""


class Outage(PartnerError):
    """The partner as a whole is away; this request was never sent or certainly had no effect."""


P = TypeVar("P", bound=PartnerError)


@dataclass(slots=True)
class Call:
    """One request on its way: what is known decides how a fault is named."""

    method: str
    biller: str
    service: str
    sent: bool = False
    status: int | None = None

    @property
    def reads(self) -> bool:
        return self.method in _READS

    def _error(self, kind: type[P], reason: str, retry_after: float | None = None) -> P:
        return kind(
            self.biller,
            self.service,
            reason,
            never_sent=not self.sent,
            retry_after=retry_after,
            status=self.status,
        )

    def outage(self, reason: str, retry_after: float | None = None) -> Outage:
        return self._error(Outage, reason, retry_after)

    def retryable(self, reason: str, retry_after: float | None = None) -> Retryable:
        return self._error(Retryable, reason, retry_after)

    def doubt(self, reason: str) -> Retryable | Unknown:
        """The fault of a request that was sent: only one that reads is certainly without effect."""
        if self.reads:
            return self.retryable(reason)
        return self._error(Unknown, reason)

    def away(self, reason: str) -> Outage | Unknown:
        """A page instead of an answer: a proxy before the partner, unless it may have acted first."""
        return self.outage(reason) if self.reads else self._error(Unknown, reason)

    def broken(self, fault: Exception) -> PartnerError:
        """The fault of a transport that broke, by whether the request had left."""
        if self.sent:
            return self.doubt("the connection broke after the request was sent")
        if isinstance(fault, ssl.SSLCertVerificationError):
            return self.outage("its TLS certificate is not accepted")
        return self.outage("no connection: " + _transport(fault))


def _transport(fault: Exception) -> str:
    if isinstance(fault, socket.gaierror):
        return "its name is not known"
    if isinstance(fault, ssl.SSLError):
        return "TLS could not be agreed on"
    if isinstance(fault, ConnectionRefusedError):
        return "refused"
    return "it broke off before the request was sent"
