"""The client of IMT's `payments-due`: the balance of an account, and what changed since."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import structlog

from services.bus.biller import Biller
from services.bus.clock import Clock
from services.bus.log import mask_account
from services.bus.partner import PartnerHttp, Reply
from services.bus.secrets import Secrets
from services.bus.wire import Imt, WireError, instant, read_instant, read_money

log = structlog.get_logger()

SERVICE = "imt.payments_due"
ZERO = Decimal("0.00")


@dataclass(frozen=True, slots=True)
class Balance:
    """What IMT says an account owes, in USD; `as_of_assumed` where IMT named no instant."""

    account: str
    balance_due: Decimal
    past_due: Decimal
    current_charges: Decimal
    credit: Decimal
    as_of: datetime
    as_of_assumed: bool = False
    cause: str | None = None

    @property
    def minimum_due(self) -> Decimal:
        """Always the balance due (seed: Minimum Payment)."""
        return self.balance_due


@dataclass(frozen=True, slots=True)
class NoBalance:
    """IMT understood and has no balance to give; `code` is its reason."""

    code: str

    @property
    def unknown(self) -> bool:
        return self.code in {"unknown_account", "not_found"}


@dataclass(frozen=True, slots=True)
class Page:
    """A page of changes, oldest first; `after` leads to the next one, None when this was the last."""

    changes: tuple[Balance, ...]
    unreadable: int
    after: str | None


class PaymentsDue:
    """Raises PartnerError where IMT cannot be asked or does not make sense."""

    def __init__(self, http: PartnerHttp, wire: Imt, secrets: Secrets, clock: Clock) -> None:
        self._http = http
        self._imt = wire
        self._wire = wire.services.payments_due
        self._secrets = secrets
        self._clock = clock

    async def read_account(self, biller: Biller, account: str, deadline_s: float) -> Balance | NoBalance:
        """The balance of one account, by IMT's canonical number."""
        sent_at = self._clock.now()
        reply = await self._get(biller, "read_account", deadline_s, account=account)
        body = reply.json()
        if not reply.ok:
            return NoBalance(self._imt.errors.code(body) or f"http_{reply.status}")
        try:
            balance = self._balance(body, sent_at)
        except WireError as fault:
            raise reply.refused(str(fault)) from None
        if balance.account != account:
            raise reply.refused("the answer is for another account")
        return balance

    async def list_changes(
        self, biller: Biller, since: datetime, after: str | None, limit: int, deadline_s: float
    ) -> Page:
        """One page of what changed at or after `since`; an unreadable row is left out, logged and counted."""
        sent_at = self._clock.now()
        asked = {"since": instant(since), "after": after, "limit": str(limit)}
        reply = await self._get(biller, "list_changes", deadline_s, **asked)
        body = reply.json()
        if not reply.ok:
            raise reply.refused(f"answered {reply.status} to the poll")
        try:
            rows, more = self._wire.read(body, "items"), self._wire.read(body, "more")
            token = self._wire.read(body, "next")
        except WireError as fault:
            raise reply.refused(str(fault)) from None
        if not isinstance(rows, list):
            raise reply.refused("the changes are not a list")
        changes = [change for row in rows if (change := self._change(biller, row, sent_at))]
        going_on = str(token) if more and token is not None and str(token) != after else None
        return Page(tuple(changes), len(rows) - len(changes), going_on)

    async def _get(self, biller: Biller, operation: str, deadline_s: float, **values: str | None) -> Reply:
        asked = self._wire.operations[operation]
        token = self._secrets.get(biller.imt.token)
        return await self._http.request(
            asked.method,
            asked.url(str(biller.imt.payments_due), **values),
            biller=biller.slug,
            service=SERVICE,
            headers=self._imt.auth.headers(token),
            deadline_s=deadline_s,
        )

    def _change(self, biller: Biller, row: object, sent_at: datetime) -> Balance | None:
        try:
            return self._balance(row, sent_at)
        except WireError as fault:
            log.error(
                "balances.row_unreadable", biller=biller.slug, account=self._masked(row), reason=str(fault)
            )
            return None

    def _masked(self, row: object) -> str | None:
        """Enough of the account's number for a person who looks for the row at IMT."""
        try:
            return mask_account(str(self._wire.read(row, "account")))
        except WireError:
            return None

    def _balance(self, row: object, sent_at: datetime) -> Balance:
        """Raises WireError. A balance below zero is a credit, wherever IMT writes it."""
        account = self._wire.read(row, "account")
        if not isinstance(account, str) or not account:
            raise WireError("the account number is missing")
        due = self._money(row, "balance_due")
        credit = self._money(row, "credit", ZERO)
        owed = max(due, ZERO)
        past_due = self._money(row, "past_due", ZERO)
        as_of = self._wire.read(row, "as_of")
        return Balance(
            account=account,
            balance_due=owed,
            past_due=past_due,
            current_charges=self._money(row, "current_charges", owed - past_due),
            credit=max(abs(credit), -due, ZERO),
            as_of=sent_at if as_of is None else read_instant(as_of, "as-of"),
            as_of_assumed=as_of is None,
            cause=self._wire.cause(self._wire.read(row, "cause")),
        )

    def _money(self, row: object, name: str, default: Decimal | None = None) -> Decimal:
        raw: Any = self._wire.read(row, name)
        if raw is None and default is not None:
            return default
        return read_money(raw, name)


def as_fields(balance: Balance) -> Mapping[str, Any]:
    """What an event carries of a balance."""
    return {
        "account": balance.account,
        "balance_due": balance.balance_due,
        "minimum_due": balance.minimum_due,
        "past_due": balance.past_due,
        "current_charges": balance.current_charges,
        "credit": balance.credit,
        "as_of": balance.as_of,
        "as_of_assumed": balance.as_of_assumed,
    }
