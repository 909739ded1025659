"""The latest balance of every account: how it is folded, and the view that every replica answers from."""

from dataclasses import replace
from datetime import datetime
from typing import Literal

from services.balances.imt import Balance, as_fields
from services.bus.views import View
from services.events import BalanceChanged, BalanceCurrent

Cause = Literal["invoice", "payment", "adjustment", "poll", "rtdr"]


def keep_newest(current: BalanceCurrent | None, event: BalanceChanged) -> BalanceCurrent | None:
    """The state after an event: the older as-of never overwrites the newer, the poll's mark never goes back.

    None when nothing changes. Of two with the same as-of the one learned later counts.
    """
    polled = event.as_of if event.polled else None
    if current is None:
        return _state(event, polled)
    mark = max((at for at in (current.polled_as_of, polled) if at is not None), default=None)
    if (event.as_of, event.observed_at) >= (current.as_of, current.updated_at):
        return _state(event, mark)
    return replace(current, polled_as_of=mark) if mark != current.polled_as_of else None


def _state(event: BalanceChanged, polled: datetime | None) -> BalanceCurrent:
    return BalanceCurrent(
        biller=event.biller,
        account=event.account,
        balance_due=event.balance_due,
        minimum_due=event.minimum_due,
        past_due=event.past_due,
        current_charges=event.current_charges,
        credit=event.credit,
        as_of=event.as_of,
        polled_as_of=polled,
        updated_at=event.observed_at,
    )


def changed(
    biller: str, balance: Balance, cause: Cause, current: BalanceCurrent | None, now: datetime
) -> BalanceChanged | None:
    """The event of a change; None when it is known already, or older than what is known.

    An equal balance as of a later instant is an event: else what lies between the two would pass for newer.
    """
    if current is not None and (
        balance.as_of < current.as_of or (balance.as_of == current.as_of and _same(balance, current))
    ):
        return None
    return found(biller, balance, cause, current, now)


def found(
    biller: str,
    balance: Balance,
    cause: Cause,
    current: BalanceCurrent | None,
    now: datetime,
    *,
    polled: bool = False,
) -> BalanceChanged:
    """The event of a balance that IMT gave, be it new or not."""
    return BalanceChanged(
        biller=biller,
        **as_fields(balance),
        previous_balance_due=current.balance_due if current else None,
        cause=cause,
        polled=polled,
        observed_at=now,
    )


def _same(balance: Balance, current: BalanceCurrent) -> bool:
    return (balance.balance_due, balance.past_due, balance.current_charges, balance.credit) == (
        current.balance_due,
        current.past_due,
        current.current_charges,
        current.credit,
    )


class CurrentBalances(View[BalanceCurrent]):
    """Every account's latest balance, and how far each biller has been polled."""

    def __init__(self) -> None:
        self._balances: dict[tuple[str, str], BalanceCurrent] = {}
        self._polled: dict[str, datetime] = {}
        super().__init__(reads=BalanceCurrent, apply=self.take)

    def take(self, event: BalanceCurrent) -> None:
        """Enters the newest state of an account; an older one than was learned here changes nothing."""
        known = self._balances.get((event.biller, event.account))
        if known is None or (event.as_of, event.updated_at) >= (known.as_of, known.updated_at):
            self._balances[event.biller, event.account] = event
        self._move_mark(event)

    def learn(self, event: BalanceChanged) -> None:
        """Enters a change that the bus has acknowledged, before the topic brings it back as a state."""
        after = keep_newest(self.of(event.biller, event.account), event)
        if after is not None:
            self.take(after)

    def _move_mark(self, event: BalanceCurrent) -> None:
        known = self._polled.get(event.biller)
        if event.polled_as_of is not None and (known is None or event.polled_as_of > known):
            self._polled[event.biller] = event.polled_as_of

    def of(self, biller: str, account: str) -> BalanceCurrent | None:
        """The latest balance by canonical number."""
        return self._balances.get((biller, account))

    def polled_as_of(self, biller: str) -> datetime | None:
        """As-of of the newest change up to which the biller has been polled without a gap."""
        return self._polled.get(biller)
