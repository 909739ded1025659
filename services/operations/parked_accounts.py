"""The accounts that parked payments and settings may mean, found as the intakes find them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, replace

from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec

from services.bus.accounts import (
    MOST_CANDIDATES,
    AccountsView,
    Ambiguous,
    Match,
    normalise,
)
from services.bus.biller import Biller
from services.bus.catalog import Topic
from services.bus.clock import Clock
from services.bus.codec import Codec, Undecodable
from services.bus.groups import edge_offsets
from services.bus.log import mask_account
from services.bus.place import Place, Unreachable
from services.bus.registry import Registry, RegistryAway
from services.events import AccountCurrent, PaymentReceived, SettingChanged
from services.operations.parked_view import Told
from services.operations.topic_reader import TopicReader
from services.payments.handlers import resolve_account
from services.settings.handlers import find_account, number_at_imt

Unresolved = PaymentReceived | SettingChanged


@dataclass(frozen=True)
class _Loose:
    """Under this rule whatever any biller takes for equal is equal."""

    strip_leading_zeros: bool = True


@dataclass(frozen=True)
class NoAccount:
    """Why no account is meant; in words for a person."""

    why: str


class Wanted:
    """What accounts are looked for by: of which billers, by numbers as typed, by invoices."""

    def __init__(self, facts: Iterable[Unresolved], typed: str = "") -> None:
        self._billers: set[str] = set()
        self._numbers: set[str] = {_loose(typed), typed} if typed else set()
        self._invoices: set[str] = set()
        for fact in facts:
            self._billers.add(fact.biller)
            number = fact.account_as_sent if isinstance(fact, PaymentReceived) else fact.number
            if number:
                self._numbers |= {_loose(number), number}
            if isinstance(fact, PaymentReceived) and fact.invoice_number:
                self._invoices.add(fact.invoice_number)
        self._numbers.discard("")

    def of_biller(self, key: bytes | None) -> bool:
        """Whether a record with this key may be meant."""
        return (key or b"").decode(errors="replace").partition("/")[0] in self._billers

    def is_of(self, account: AccountCurrent) -> bool:
        """Whether one of the numbers or invoices names it."""
        named = {account.account, _loose(account.account), *map(_loose, account.policies)}
        return not (
            self._numbers.isdisjoint(named)
            and self._invoices.isdisjoint({account.invoice_number, *account.invoices})
        )


async def read_accounts(
    place: Place, registry: Registry, topic: Topic, clock: Clock, wanted: Wanted, told: Told
) -> AccountsView:
    """The accounts that may be meant, out of all on the topic; memory grows with those alone.

    Raises Unreachable, and ConfigurationError where the broker lacks the topic.
    """
    view = AccountsView()
    codec = Codec({topic.name: topic.schema}, registry)
    with TopicReader(place, topic.name, clock) as reader:
        ends = reader.ends()
        parts = [TopicPartition(topic.name, partition) for partition in ends]
        firsts = edge_offsets(place.admin, parts, OffsetSpec.earliest())
        starts = {p.partition: offset for p, offset in firsts.items()}
        reader.read(starts, ends)
        done, total = 0, sum(ends.values()) - sum(starts.values())
        while not reader.finished:
            records = await asyncio.to_thread(reader.fetch)
            for record in records:
                if record.value() is None or not wanted.of_biller(record.key()):
                    continue
                try:
                    event = await codec.decode(topic.name, record.value())
                except Undecodable:
                    continue  # as the services' own view does
                except RegistryAway as error:
                    raise Unreachable(f"The schema registry does not answer: {error}") from None
                if isinstance(event, AccountCurrent) and _counts(event, wanted, view):
                    view.take(event)
            told(done := done + len(records), total)
    return view


def resolve(
    fact: Unresolved, biller: Biller, accounts: AccountsView, typed: str = ""
) -> Unresolved | NoAccount:
    """The fact with its account: the one that `typed` names, else the one that the intake would find today.

    What the partner sent, and so content and ids, does not change.
    """
    account = _said(fact, biller, accounts, typed) if typed else _found(fact, biller, accounts)
    if isinstance(account, NoAccount):
        return account
    if isinstance(fact, PaymentReceived):
        return replace(fact, account=account, resolution="matched", candidates=())
    number = number_at_imt(fact, account, biller, accounts)
    return replace(fact, account=account, imt_number=number, resolution="matched", candidates=())


def _said(fact: Unresolved, biller: Biller, accounts: AccountsView, typed: str) -> str | NoAccount:
    found = accounts.find_typed(biller, typed)
    if isinstance(found, Ambiguous):
        return NoAccount(f"--account means {len(found.candidates)} accounts: give IMT's own number")
    if not isinstance(found, Match):
        return NoAccount(
            f"no account of {biller.slug} is known by the number given: its BIF row must come first"
        )
    whole = len(fact.candidates) < MOST_CANDIDATES
    if fact.resolution == "ambiguous" and whole and found.account not in fact.candidates:
        told = ", ".join(map(mask_account, fact.candidates))
        return NoAccount(f"--account is none of its candidates ({told})")
    return found.account


def _found(fact: Unresolved, biller: Biller, accounts: AccountsView) -> str | NoAccount:
    if isinstance(fact, PaymentReceived):
        account, resolution, candidates = resolve_account(fact, biller, accounts)
        if account is not None:
            return account
        several = len(candidates) if resolution == "ambiguous" else 0
    else:
        whose = find_account(fact, biller, accounts)
        if isinstance(whose, Match):
            return whose.account
        several = len(whose.candidates) if isinstance(whose, Ambiguous) else 0
    if several:
        return NoAccount(f"{several} accounts could be meant: say which with --account")
    return NoAccount("still no account is known by what was given: wait for its BIF row, or use --account")


def _counts(event: AccountCurrent, wanted: Wanted, view: AccountsView) -> bool:
    """Also one that was named by an earlier record of it, so that the newest one decides."""
    return wanted.is_of(event) or view.by_account(event.biller, event.account) is not None


def _loose(number: str) -> str:
    return normalise(number, _Loose())
