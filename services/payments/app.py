"""Payments: IC tells of a payment, IMT gets it once, and at the cut-off the biller's day closes.

IC form, batch, bank file -> payment.received -> IMT DataPump Payments -> payment.outcome
the biller's cut-off      -> batch.closed
"""

from functools import partial

from services.bus.accounts import AccountsView
from services.bus.lane import Lane
from services.bus.service import BillerClock, Bus, Service
from services.bus.wire import load_wire
from services.events import PaymentReceived
from services.payments import handlers
from services.payments.bank_file import BankFileReader
from services.payments.batches import BatchClock, ClosedBatches
from services.payments.imt import DataPump
from services.payments.intake import routes
from services.payments.notice import NoticeReader, load_contract


def build(bus: Bus) -> Service:
    contract = load_contract(bus.settings.partners)
    accounts, closed = AccountsView(), ClosedBatches()
    imt = DataPump(bus.partners, bus.billers, bus.secrets, load_wire(bus.settings.schemas).imt)
    return Service(
        name="payments",
        routers=[
            routes(
                bus,
                accounts,
                NoticeReader(contract, bus.support),
                BankFileReader(bus.settings.partners, contract),
            )
        ],
        lanes=[
            Lane(
                name="payments.post",
                reads=PaymentReceived,
                stamped="received_at",  # it decides the business day
                deliver=partial(handlers.post_payment, imt=imt, billers=bus.billers, clock=bus.clock),
                ask=partial(handlers.find_payment, imt=imt, billers=bus.billers),
                patience=partial(handlers.patience_with_imt, imt=imt, billers=bus.billers),
                exact=handlers.someone_cannot_be_asked(bus.billers),
                writes=handlers.record_outcome,
            )
        ],
        views=[accounts, closed],
        clocks=[
            BillerClock(
                "cut-off", every=lambda _: 1.0, tick=BatchClock(bus, closed).close_due, calls_partner=False
            )
        ],
    )
