"""Which account is meant: verbatim in, matched normalised, ambiguity never guessed."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from services.bus.views import View
from services.events import AccountCurrent

LONGEST = 64
MOST_CANDIDATES = 10
_DASHES = frozenset("-‐‑‒–—―−﹣－")


class AccountRule(Protocol):
    """How a biller's numbers are matched, from its file."""

    @property
    def strip_leading_zeros(self) -> bool: ...


class SpokenRule(AccountRule, Protocol):
    """The same, with the IVR's switch for letters."""

    @property
    def alphanumeric(self) -> bool: ...


class HasAccountRule(Protocol):
    """A biller, as far as looking up an account needs it."""

    @property
    def slug(self) -> str: ...
    @property
    def accounts(self) -> SpokenRule: ...


@dataclass(frozen=True, slots=True)
class Match:
    """Exactly one account is meant; `account` is IMT's canonical number."""

    account: str


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """More than one account could be meant; the first ten, canonical."""

    candidates: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class NoMatch:
    """No account is known by this number."""


Found = Match | Ambiguous | NoMatch


def normalise(typed: str, rule: AccountRule) -> str:
    """The number as it is matched: no spaces and dashes, upper case, no leading zeros if the rule says so.

    Returns '' for what is compared verbatim alone, if at all: any other character than letters and digits,
    nothing at all, or more than 64 characters.
    """
    bare = _bare(typed)
    return _without_zeros(bare) if rule.strip_leading_zeros else bare


def _bare(typed: str) -> str:
    if len(typed) > LONGEST:
        return ""
    if typed.isascii() and typed.isalnum():
        return typed.upper()
    wide = unicodedata.normalize("NFKC", typed)
    bare = "".join(sign for sign in wide if not sign.isspace() and sign not in _DASHES).upper()
    return bare if bare.isascii() and bare.isalnum() else ""


def _without_zeros(bare: str) -> str:
    return bare.lstrip("0") or bare[:1]


def _loose(number: str) -> str:
    """Under which a number is filed: whatever any biller's rule takes for equal has the same one."""
    return _without_zeros(_bare(number))


@dataclass(slots=True)
class _Book:
    """The accounts of one biller, and the ways to find one."""

    accounts: dict[str, AccountCurrent] = field(default_factory=dict)
    by_number: dict[str, tuple[str, ...]] = field(default_factory=dict)
    by_policy: dict[str, tuple[str, ...]] = field(default_factory=dict)
    by_invoice: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def take(self, new: AccountCurrent) -> None:
        old = self.accounts.get(new.account)
        self.accounts[new.account] = new
        if old is None:
            _file(self.by_number, {_loose(new.account)}, new.account)
        for index, was, now in (
            (self.by_policy, _policies(old), _policies(new)),
            (self.by_invoice, _invoices(old), _invoices(new)),
        ):
            _unfile(index, was - now, new.account)
            _file(index, now - was, new.account)


def _policies(event: AccountCurrent | None) -> set[str]:
    return {_loose(policy) for policy in event.policies} - {""} if event else set()


def _invoices(event: AccountCurrent | None) -> set[str]:
    return {event.invoice_number, *event.invoices} if event else set()


def _file(index: dict[str, tuple[str, ...]], under: Iterable[str], account: str) -> None:
    for name in under:
        index[name] = (*index.get(name, ()), account)


def _unfile(index: dict[str, tuple[str, ...]], under: Iterable[str], account: str) -> None:
    for name in under:
        left = tuple(other for other in index[name] if other != account)
        if left:
            index[name] = left
        else:
            del index[name]


class AccountsView(View[AccountCurrent]):
    """Every account known to the bus, whole in each replica.

    Memory grows with the number of accounts alone: an account has at most 60 invoices on its record.
    """

    def __init__(self) -> None:
        self._books: dict[str, _Book] = {}
        super().__init__(reads=AccountCurrent, apply=self.take)

    def take(self, event: AccountCurrent) -> None:
        """Enters the newest state of an account."""
        self._books.setdefault(event.biller, _Book()).take(event)

    def find_typed(self, biller: HasAccountRule, typed: str) -> Found:
        """The account that a person, a bank or a partner means by what was typed."""
        wanted = normalise(typed, biller.accounts)
        book = self._books.get(biller.slug)
        if book is None:
            return NoMatch()
        if not wanted:
            return Match(typed) if typed in book.accounts else NoMatch()
        near = book.by_number.get(_without_zeros(wanted), ())
        return _one_of(account for account in near if normalise(account, biller.accounts) == wanted)

    def find_spoken(self, biller: HasAccountRule, typed: str) -> Found:
        """The account that a caller of the IVR means: letters count where the biller switched them on."""
        if not biller.accounts.alphanumeric and not _bare(typed).isdigit():
            return NoMatch()
        return self.find_typed(biller, typed)

    def by_invoice(self, biller: str, number: str) -> Found:
        """The account of an invoice number, verbatim."""
        book = self._books.get(biller)
        return _one_of(book.by_invoice.get(number, ()) if book else ())

    def by_policy(self, biller: str, policy: str) -> Found:
        """The account on which a policy is billed; spaces, dashes, case and leading zeros do not matter."""
        book = self._books.get(biller)
        return _one_of(book.by_policy.get(_loose(policy), ()) if book else ())

    def by_account(self, biller: str, account: str) -> AccountCurrent | None:
        """The account of a canonical number, verbatim."""
        book = self._books.get(biller)
        return book.accounts.get(account) if book else None


def _one_of(accounts: Iterable[str]) -> Found:
    candidates = tuple(accounts)
    if not candidates:
        return NoMatch()
    return Match(candidates[0]) if len(candidates) == 1 else Ambiguous(candidates[:MOST_CANDIDATES])
