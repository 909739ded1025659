"""A payment at IMT: what is posted, what is not and why, what settles a doubt."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest

from services.bus.billers import Billers
from services.bus.lane import CannotSay, Found, NotFound, Parked, Posted, Rejected
from services.events import PaymentReceived
from services.payments.handlers import (
    find_payment,
    patience_with_imt,
    post_payment,
    resolve_account,
)
from services.payments.imt import Posting, guid_at_imt
from tests.unit.parts import FakeClock, a_biller
from tests.unit.payments_sample import ACCOUNT, ACME, a_form, a_payment, a_reader, accounts

BILLERS = Billers({"acme": ACME})


class FakeImt:
    """IMT that keeps what it is given."""

    def __init__(self, *, looks_up: bool = True, refuses: bool = False) -> None:
        self.ledger: dict[str, Posting] = {}
        self.can_look_up, self.refuses = looks_up, refuses

    async def post(self, payment: PaymentReceived, batch_day: date) -> Posting | Rejected:
        if self.refuses:
            return Rejected("unknown_account")
        posting = Posting(payment.account, payment.amount, "R-1", batch_day)
        self.ledger[guid_at_imt(payment)] = posting
        return posting

    async def find(self, biller: str, payment_guid: str) -> Posting | None:
        assert biller == "acme"
        return self.ledger.get(payment_guid)

    def patience_s(self, biller: str) -> float:
        assert biller == "acme"
        return 6.0

    def looks_up(self, biller: str) -> bool:
        assert biller == "acme"
        return self.can_look_up


async def test_a_payment_is_posted_into_the_batch_of_its_business_day() -> None:
    imt = FakeImt()
    after_cut_off = replace(a_payment(), received_at=datetime(2026, 11, 24, 1, 0, tzinfo=UTC))
    settled = await post_payment(after_cut_off, imt, BILLERS, FakeClock())
    assert settled == Posted("R-1", fields={"batch_day": date(2026, 11, 24)})
    assert imt.ledger["9B2F-01"].amount == Decimal("120.50")


@pytest.mark.parametrize(("rule", "day"), [("original", 23), ("open", 25)])
async def test_a_late_payment_goes_to_the_batch_that_the_billers_rule_names(rule: str, day: int) -> None:
    imt, biller = FakeImt(), a_biller(batch={"cut_off": "17:00", "late_payment": rule})
    received = replace(a_payment(), received_at=datetime(2026, 11, 23, 18, 0, tzinfo=UTC))
    two_days_on = FakeClock(datetime(2026, 11, 25, 18, 0, tzinfo=UTC))
    settled = await post_payment(received, imt, Billers({"acme": biller}), two_days_on)
    assert settled == Posted("R-1", fields={"batch_day": date(2026, 11, day)})


@pytest.mark.parametrize(
    ("fields", "kind", "reason"),
    [
        ({"Approved": "False"}, Rejected, "not_approved"),
        ({"Product": "Kiosk"}, Parked, "unsupported: Kiosk"),
        ({"AccountNumber": "777"}, Parked, "account_unknown"),
        ({"AccountNumber": ""}, Parked, "account_unknown"),
        ({"PaymentAmount": "0.00", "ScheduleKind": "PayInFull"}, Rejected, "nothing_due"),
    ],
)
async def test_what_is_not_for_imt_never_reaches_it(
    fields: dict[str, str], kind: type[Parked | Rejected], reason: str
) -> None:
    imt = FakeImt()
    settled = await post_payment(a_payment(None, **fields), imt, BILLERS, FakeClock())
    assert isinstance(settled, kind)
    assert settled.reason == reason
    assert imt.ledger == {}


async def test_imts_no_is_a_rejection_and_the_reason_is_kept() -> None:
    assert await post_payment(a_payment(), FakeImt(refuses=True), BILLERS, FakeClock()) == Rejected(
        "unknown_account"
    )


async def test_a_doubt_is_settled_by_account_and_amount() -> None:
    imt, payment = FakeImt(), a_payment()
    assert await find_payment(payment, imt, BILLERS) == NotFound()
    await post_payment(payment, imt, BILLERS, FakeClock())
    assert isinstance(await find_payment(payment, imt, BILLERS), Found)
    assert isinstance(await find_payment(replace(payment, payment_guid_as_sent=None), imt, BILLERS), NotFound)
    answer = await find_payment(a_payment(PaymentAmount="1.00"), imt, BILLERS)
    assert isinstance(answer, CannotSay)
    assert not answer.ever


async def test_an_imt_without_look_up_cannot_say() -> None:
    assert isinstance(await find_payment(a_payment(), FakeImt(looks_up=False), BILLERS), CannotSay)


def test_only_what_goes_to_imt_is_waited_for() -> None:
    assert patience_with_imt(a_payment(), FakeImt(), BILLERS) == 6.0
    assert patience_with_imt(a_payment(Approved="False"), FakeImt(), BILLERS) == 0.0


def test_invoice_and_number_must_mean_the_same_account() -> None:
    view = accounts(ACCOUNT, "0000054321")

    def resolved(**fields: str) -> tuple[str | None, str, tuple[str, ...]]:
        return resolve_account(a_reader().read(a_form(**fields), ACME), ACME, view)

    assert resolved(InvoiceNumber=f"INV-{ACCOUNT}")[:2] == (ACCOUNT, "matched")
    assert resolved(AccountNumber=" 1-2 345", InvoiceNumber="unheard of")[:2] == (ACCOUNT, "matched")
    assert resolved(InvoiceNumber="INV-0000054321") == (None, "ambiguous", (ACCOUNT, "0000054321"))
    assert resolved(AccountNumber="", InvoiceNumber="unheard of") == (None, "unknown", ())


def test_two_numbers_that_read_alike_are_never_guessed() -> None:
    view = accounts("0000012345", "12345")
    payment = a_payment(view, AccountNumber="012345")
    assert payment.resolution == "ambiguous"
    assert payment.account == "?9b2f-01"
    assert set(payment.candidates) == {"0000012345", "12345"}


def test_the_invoice_decides_between_accounts_that_a_typed_number_could_mean() -> None:
    view = accounts("0000012345", "12345", "777")
    decided = a_payment(view, AccountNumber="012345", InvoiceNumber="INV-12345")
    assert (decided.account, decided.resolution, decided.candidates) == ("12345", "matched", ())
    disagree = a_payment(view, AccountNumber="012345", InvoiceNumber="INV-777")
    assert (disagree.resolution, set(disagree.candidates)) == ("ambiguous", {"0000012345", "12345", "777"})


async def test_a_biller_that_is_gone_parks_its_payments() -> None:
    imt, nobody = FakeImt(), Billers({})
    settled = await post_payment(a_payment(), imt, nobody, FakeClock())
    assert isinstance(settled, Parked)
    assert (settled.reason, imt.ledger) == ("unknown_biller", {})
    assert patience_with_imt(a_payment(), imt, nobody) == 0.0
