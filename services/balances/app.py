"""balances: what an account owes, from IMT's payments-due to everyone who asks."""

from functools import partial

from services.balances.current import CurrentBalances, keep_newest
from services.balances.handlers import Desk, poll_changes, refresh_after_payment
from services.balances.imt import PaymentsDue
from services.balances.intake import balance_routes, load_names
from services.balances.sharing import Announcements, Coalesced
from services.bus.accounts import AccountsView
from services.bus.lane import Lane, Settlement
from services.bus.service import BillerClock, Bus, Service
from services.bus.tables import Table
from services.bus.ticks import SideBySide
from services.bus.wire import load_wire
from services.events import BalanceChanged, BalanceCurrent, PaymentOutcome


def build(bus: Bus) -> Service:
    """Asked for by IC, polled, refreshed after a payment: each change is an event, the newest is kept."""
    imt = PaymentsDue(bus.partners, load_wire(bus.settings.schemas).imt, bus.secrets, bus.clock)
    balances = CurrentBalances()
    calls, announcements = Coalesced(bus.settings.concurrency_limit), Announcements(bus.publisher, balances)
    desk = Desk(imt, AccountsView(), balances, bus.publisher, bus.clock, calls, announcements)
    polls = SideBySide(partial(poll_changes, desk=desk))

    async def refresh(outcome: PaymentOutcome) -> Settlement:
        return await refresh_after_payment(outcome, bus.billers.get(outcome.biller), desk)

    return Service(
        name="balances",
        routers=[balance_routes(desk, load_names(bus.settings.schemas))],
        views=[desk.accounts, desk.balances],
        lanes=[Lane(name="balances.refresh", reads=PaymentOutcome, deliver=refresh, repeatable=True)],
        tables=[Table(reads=BalanceChanged, into=BalanceCurrent, fold=keep_newest)],
        clocks=[BillerClock("poll", every=lambda biller: biller.poll.every_s, tick=polls.tick)],
    )
