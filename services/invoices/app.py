"""Invoices: IMT delivers a BIF file, IC gets each invoice.

upload, drop folder, CLI -> invoice.issued (a row each) and file.received
invoice.issued           -> IC UploadInvoice -> invoice.outcome
invoice.issued           -> account.current, by which every service resolves account numbers
"""

from functools import partial

from services.bus.batching import Batches
from services.bus.lane import Lane
from services.bus.service import Bus, Loop, Service
from services.bus.tables import Table
from services.events import AccountCurrent, InvoiceIssued
from services.invoices import handlers
from services.invoices.drop import DropFolder
from services.invoices.files import Files, Uploads
from services.invoices.intake import routes
from services.invoices.invoicecloud import InvoiceCloud, load_contract
from services.invoices.layout import load_layout
from services.invoices.taking import FileTaker

BATCHES = 2  # one at IC while the next is gathered: with fewer invoices in flight the calls are small


def build(bus: Bus) -> Service:
    layout = load_layout(bus.settings.partners / "bif.yaml")
    files, uploads = Files(), Uploads()
    taker = FileTaker(bus, layout, files, uploads)
    cloud = InvoiceCloud(bus.partners, bus.billers, bus.secrets, *load_contract(bus.settings.partners))
    return Service(
        name="invoices",
        routers=[routes(bus, taker, files, uploads)],
        lanes=[
            Lane(
                name="invoices.upload",
                reads=InvoiceIssued,
                deliver=Batches(
                    partial(handlers.upload_invoices, cloud=cloud, billers=bus.billers),
                    clock=bus.clock,
                    most=cloud.most_invoices,
                    most_bytes=cloud.most_bytes,
                    size=cloud.size_of,
                ),
                ask=partial(handlers.find_invoice, cloud=cloud, billers=bus.billers),
                patience=partial(handlers.patience_with_invoicecloud, cloud=cloud, billers=bus.billers),
                order=handlers.order_invoice,
                writes=handlers.record_outcome,
                in_flight=BATCHES * cloud.most_invoices,
            )
        ],
        tables=[
            Table(
                reads=InvoiceIssued,
                into=AccountCurrent,
                fold=partial(handlers.keep_account, billers=bus.billers),
            )
        ],
        views=[files, uploads],
        loops=[Loop("drop folder", every_s=1.0, run=DropFolder(bus, taker).look)],
    )
