"""Whose records a trace is about: from what somebody typed to the keys that it has on the topics."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from services.bus.accounts import normalise
from services.bus.biller import Biller
from services.bus.catalog import DLQ, REPLAY
from services.bus.trace import parse
from services.events import (
    AccountCurrent,
    BalanceChanged,
    BillLinked,
    InvoiceIssued,
    InvoiceOutcome,
    PaymentOutcome,
    PaymentReceived,
    SettingChanged,
    SettingOutcome,
)
from services.operations.day import Window
from services.operations.personal_data import masked_key
from services.operations.trace_log import Log, Part, Seen
from services.operations.trace_scan import Told

Kind = Literal["payment", "invoice", "account", "trace"]
KINDS: tuple[Kind, ...] = ("payment", "invoice", "account", "trace")
MOST_KEYS = 20
"""Accounts that one trace tells of; a whole file of invoices has one trace id."""
GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TRACE_ID = re.compile(r"[0-9a-f]{32}")
FIRST = (PaymentReceived.TOPIC, SettingChanged.TOPIC, InvoiceIssued.TOPIC)
THEN = (
    PaymentOutcome.TOPIC,
    SettingOutcome.TOPIC,
    InvoiceOutcome.TOPIC,
    BalanceChanged.TOPIC,
    BillLinked.TOPIC,
)

Fits = Callable[[Seen, str], bool]


class NotClear(Exception):
    """More than one thing could be meant; the message names them and says what to add."""


@dataclass(frozen=True)
class Subject:
    """What is traced: `text` as it stands on the log, and the record keys of all that is about it."""

    kind: Kind
    text: str
    keys: tuple[str, ...]


def guid_of(typed: str) -> str:
    """A PaymentGUID as the intake keeps it: without braces, in lower case."""
    return typed.strip().removeprefix("{").removesuffix("}").lower()


def trace_id_of(typed: str) -> str:
    """The trace id in what was typed, alone or as a traceparent; '' where there is none."""
    text = typed.strip().lower()
    found = parse(text)
    return found.trace_id if found else text if TRACE_ID.fullmatch(text) else ""


def kinds_of(typed: str) -> tuple[Kind, ...]:
    """What it can be by its looks, the likeliest first."""
    if trace_id_of(typed):
        return ("trace", "payment")
    if GUID.fullmatch(guid_of(typed)):
        return ("payment",)
    return ("account", "invoice", "payment")


class Finder:
    """Finds the subject of a trace.

    Args:
        billers: those that can be meant, by slug.
        looks: the stretches of time in which the record may have come in, searched one after the other.
        personal_data: whether a question to the operator may name whole account numbers.
    """

    def __init__(
        self,
        log: Log,
        billers: Mapping[str, Biller],
        looks: Sequence[Window],
        told: Told | None,
        *,
        personal_data: bool,
    ) -> None:
        self._log = log
        self._billers = billers
        self._looks = looks
        self._told = told
        self._personal_data = personal_data

    async def subject(self, typed: str, kinds: Collection[Kind], account: str) -> Subject | None:
        """None where nothing is found. Raises NotClear, Unreachable, KafkaException."""
        keys = await self._one_account(account) if account else ()
        if account and not keys:
            return None
        for kind in kinds:
            found = await self._of_kind(kind, typed, keys)
            if found is not None:
                return found
        return None

    async def _of_kind(self, kind: Kind, typed: str, keys: tuple[str, ...]) -> Subject | None:
        if kind == "account":
            found = await self._one_account(typed)
            text = typed
        elif kind == "invoice":
            text = typed.strip()
            found = keys or await self._by_invoice(text)
        elif kind == "payment":
            text = guid_of(typed)
            found = keys or await self._by_guid(text)
        else:
            text = trace_id_of(typed)
            found = keys or await self._by_trace(text)
        return Subject(kind, text, found) if found else None

    async def _one_account(self, typed: str) -> tuple[str, ...]:
        """The key of the account that is meant by each biller's own rule for numbers."""
        slug, slash, number = typed.strip().partition("/")
        billers = dict(self._billers)
        if slash and slug in billers:
            billers, typed = {slug: billers[slug]}, number
        typed = typed.strip()
        wanted = {slug: normalise(typed, biller.accounts) for slug, biller in billers.items()}
        found: dict[str, None] = {}
        whole = [Part(AccountCurrent.TOPIC, None)]
        async for seen in self._log.find(whole, {*wanted.values(), typed}, self._told):
            event = seen.event
            if isinstance(event, AccountCurrent) and event.biller in billers:
                as_matched = wanted[event.biller]
                number = normalise(event.account, billers[event.biller].accounts)
                if event.account == typed or (as_matched and number == as_matched):
                    found[seen.key] = None
        if len(found) > 1:
            raise NotClear(self._which(found))
        return tuple(found) or await self._unknown_account(typed, billers)

    async def _unknown_account(self, typed: str, billers: Collection[str]) -> tuple[str, ...]:
        """An account without an invoice: where anything stands under the number as it was typed."""
        found = set()
        for slug in billers:
            key = f"{slug}/{typed}"
            parts = [Part(name, look, key) for name in (*FIRST, *THEN) for look in self._looks]
            async for seen in self._log.find(parts, [key]):
                if seen.key == key:
                    found.add(key)
        if len(found) > 1:
            raise NotClear(self._which(found))
        return tuple(found)

    def _which(self, keys: Iterable[str]) -> str:
        told = ", ".join(key if self._personal_data else masked_key(key) for key in sorted(keys)[:MOST_KEYS])
        return (
            f"The number can mean {told}. Name the biller (--biller), or type the number with its zeros "
            "exactly as IMT has it."
        )

    async def _by_guid(self, guid: str) -> tuple[str, ...]:
        for look in self._looks:
            if keys := await self._keys([Part(PaymentReceived.TOPIC, look)], guid, _is_payment):
                return keys
        rest = (PaymentOutcome.TOPIC, PaymentReceived.TOPIC + REPLAY, PaymentReceived.TOPIC + DLQ)
        return await self._keys(
            [Part(name, look) for name in rest for look in self._looks], guid, _is_payment
        )

    async def _by_invoice(self, number: str) -> tuple[str, ...]:
        if keys := await self._keys([Part(AccountCurrent.TOPIC, None)], number, _is_invoice):
            return keys
        rest = (InvoiceIssued.TOPIC, PaymentReceived.TOPIC)
        parts = [Part(name, look) for name in rest for look in self._looks]
        return await self._keys(parts, number, _is_invoice)

    async def _by_trace(self, trace_id: str) -> tuple[str, ...]:
        for look in self._looks:
            for names in (FIRST, THEN):
                if keys := await self._keys([Part(name, look) for name in names], trace_id, _is_trace):
                    return keys
        return ()

    async def _keys(self, parts: Sequence[Part], text: str, fits: Fits) -> tuple[str, ...]:
        keys: dict[str, None] = {}
        async for seen in self._log.find(parts, [text], self._told):
            if seen.key.partition("/")[0] in self._billers and fits(seen, text):
                keys[seen.key] = None
                if len(keys) > MOST_KEYS:
                    raise NotClear(
                        f"More than {MOST_KEYS} accounts have records with {text}: it belongs to a whole "
                        "file or batch. Name one account: --biller acme --account 0001234567."
                    )
        return tuple(keys)


def _is_payment(seen: Seen, guid: str) -> bool:
    if isinstance(seen.event, PaymentReceived):
        return seen.event.payment_guid == guid
    if isinstance(seen.event, PaymentOutcome):
        return seen.event.natural_id.partition("#")[0] == guid
    return seen.dead


def _is_invoice(seen: Seen, number: str) -> bool:
    if isinstance(seen.event, AccountCurrent):
        return number == seen.event.invoice_number or number in seen.event.invoices
    return isinstance(seen.event, InvoiceIssued | PaymentReceived) and seen.event.invoice_number == number


def _is_trace(seen: Seen, trace_id: str) -> bool:
    return seen.trace_id == trace_id
