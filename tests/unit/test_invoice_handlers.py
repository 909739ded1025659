"""What the handlers of invoices decide."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.bus.lane import Found, NotFound, Parked, Posted, Rejected, Settled
from services.bus.partner import Unknown
from services.events import InvoiceIssued
from services.invoices import handlers
from services.invoices.invoicecloud import Uploaded, Viewed
from tests.unit import invoices_sample
from tests.unit.test_invoicecloud import invoice

BILLERS: Any = {"acme": invoices_sample.biller()}


class Cloud:
    """IC as the handlers see it."""

    def __init__(self, uploaded: Uploaded | None = None, viewed: Viewed | None = None) -> None:
        self.uploaded = uploaded
        self.viewed = viewed

    async def upload(self, invoices: Sequence[InvoiceIssued]) -> Sequence[Uploaded | Unknown]:
        if self.uploaded is None:
            raise Unknown(invoices[0].biller, "ic.invoices", "no answer")
        without = Unknown(invoices[0].biller, "ic.invoices", "no result")
        return [self.uploaded, *[without] * (len(invoices) - 1)]

    async def view(self, biller_slug: str, invoice_number: str) -> Viewed | None:
        assert (biller_slug, invoice_number) == ("acme", "INV-4711")
        return self.viewed

    def patience_s(self, biller: str) -> float:
        return {"acme": 15.0}[biller]


async def test_an_upload_is_posted_with_its_reference_or_rejected_with_the_reason() -> None:
    posted = await handlers.upload_invoices([invoice()], Cloud(Uploaded(True, "I1")), BILLERS)
    assert posted == [Posted("I1")]
    rejected = await handlers.upload_invoices([invoice()], Cloud(Uploaded(False, said="closed")), BILLERS)
    assert rejected == [Rejected("refused_by_invoicecloud", "closed")]
    with pytest.raises(Unknown):
        await handlers.upload_invoices([invoice()], Cloud(), BILLERS)


async def test_an_invoice_without_a_result_is_in_doubt_by_itself() -> None:
    first, second = await handlers.upload_invoices([invoice()] * 2, Cloud(Uploaded(True, "I1")), BILLERS)
    assert first == Posted("I1")
    assert isinstance(second, Unknown)


async def test_an_invoice_of_a_biller_that_is_gone_is_parked_and_never_sent() -> None:
    gone = invoice(biller="gone")
    (settled,) = await handlers.upload_invoices([gone], Cloud(), BILLERS)
    assert isinstance(settled, Parked)
    assert settled.never_sent
    assert await handlers.find_invoice(gone, Cloud(), BILLERS) == NotFound()
    assert handlers.patience_with_invoicecloud(gone, Cloud(), BILLERS) == 0
    assert handlers.patience_with_invoicecloud(invoice(), Cloud(), BILLERS) == 15


async def test_found_means_found_with_this_content() -> None:
    same = Viewed(invoice().content, {}, "I1")
    assert await handlers.find_invoice(invoice(), Cloud(viewed=same), BILLERS) == Found("I1")
    other = Viewed("another", {}, "I1")
    assert await handlers.find_invoice(invoice(), Cloud(viewed=other), BILLERS) == NotFound()
    assert await handlers.find_invoice(invoice(), Cloud(), BILLERS) == NotFound()


def test_a_newer_bill_or_a_later_correction_of_an_account_ranks_higher() -> None:
    first = invoice()
    scope, rank = handlers.order_invoice(first)
    later = handlers.order_invoice(replace(first, invoice_date=date(2026, 12, 1)))
    corrected = handlers.order_invoice(replace(first, issued_at=first.issued_at + timedelta(milliseconds=5)))
    assert scope == first.account == later[0]
    assert rank < corrected[1] < later[1]
    assert handlers.order_invoice(replace(first, biller="acme"))[1] == rank


def test_an_outcome_names_the_invoice_and_its_file() -> None:
    settled = Settled(
        settlement=Posted("I1"),
        event_id=UUID(int=1),
        natural_id="INV-4711/0123456789abcdef",
        attempt=1,
        looked_up=False,
        never_sent=False,
        scope="0000004711",
        rank="r",
        topic=InvoiceIssued.TOPIC,
        partition=3,
        offset=9,
        at=datetime(2026, 11, 3, tzinfo=UTC),
    )
    outcome = handlers.record_outcome(invoice(), settled)
    assert (outcome.state, outcome.partner_reference, outcome.content) == ("posted", "I1", "0123456789abcdef")
    assert (outcome.invoice_number, outcome.file_id) == ("INV-4711", "f" * 64)


def numbered(number: int, days: int = 0, **changes: Any) -> InvoiceIssued:
    base = invoice()
    return replace(
        base,
        invoice_number=f"N{number}",
        invoice_date=base.invoice_date + timedelta(days=days),
        issued_at=base.issued_at + timedelta(hours=number),
        **changes,
    )


def kept(*events: InvoiceIssued) -> Any:
    current = None
    for event in events:
        current = handlers.keep_account(current, event, BILLERS) or current
    return current


def test_an_account_knows_its_newest_invoice_and_the_ones_before() -> None:
    account = kept(numbered(1, policies=("HO-1",)), numbered(2, 30, policies=("HO-2",)))
    assert (account.invoice_number, account.invoices) == ("N2", ("N2", "N1"))
    assert account.policies == ("HO-2",)
    assert account.normalised == "4711"
    assert account.account == "0000004711"


def test_an_older_invoice_that_comes_late_is_known_but_not_the_newest() -> None:
    account = kept(numbered(1, 30, policies=("HO-1",)), numbered(2, 0, policies=("HO-2",)))
    assert (account.invoice_number, account.invoices) == ("N1", ("N1", "N2"))
    assert account.policies == ("HO-1",)


def test_the_same_invoices_again_change_nothing() -> None:
    events = [numbered(1), numbered(2), numbered(3, 30), numbered(4, 10)]
    once = kept(*events)
    assert kept(*events, *events) == once
    assert all(handlers.keep_account(once, event, BILLERS) in (None, once) for event in events)


def test_at_most_sixty_invoices_are_kept_newest_first() -> None:
    account = kept(*(numbered(number, number) for number in range(70)))
    assert len(account.invoices) == 60
    assert account.invoices[0] == "N69"
    assert account.invoices[-1] == "N10"


def test_a_biller_that_is_gone_keeps_no_account() -> None:
    assert handlers.keep_account(None, invoice(biller="gone"), BILLERS) is None
