"""bills: the link of an invoice is checked at IMT before a customer clicks it, and opened when one does."""

from functools import partial

from services.bills.handlers import Desk, check_bill, recheck_bills
from services.bills.imt import Bills
from services.bills.intake import bill_routes
from services.bills.linked import LinkedBills
from services.bus.lane import Lane, Settlement
from services.bus.service import BillerClock, Bus, Loop, Service
from services.bus.ticks import SideBySide
from services.bus.wire import load_wire
from services.events import InvoiceIssued

RECHECK_EVERY_S = 60
FORGET_EVERY_S = 3600


def build(bus: Bus) -> Service:
    """Issued: is its PDF there? bill.linked says so. Opened: the PDF, unless expired or revoked."""
    imt = Bills(bus.partners, load_wire(bus.settings.schemas).imt, bus.secrets)
    desk = Desk(imt, LinkedBills(), bus.publisher, bus.secrets, bus.clock)
    rechecks = SideBySide(partial(recheck_bills, desk=desk))

    async def check(invoice: InvoiceIssued) -> Settlement:
        return await check_bill(invoice, bus.billers.get(invoice.biller), desk)

    async def forget() -> None:
        desk.linked.forget_expired(bus.clock.now())

    return Service(
        name="bills",
        routers=[bill_routes(desk)],
        views=[desk.linked],
        lanes=[Lane(name="bills.check", reads=InvoiceIssued, deliver=check, repeatable=True)],
        clocks=[BillerClock("recheck", every=lambda _: RECHECK_EVERY_S, tick=rechecks.tick)],
        loops=[Loop("forget_expired", FORGET_EVERY_S, forget)],
    )
