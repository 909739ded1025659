"""What the tests of payments share: a reader of notices, accounts, a payment; all invented."""

from datetime import UTC, date, datetime

from deploy.local.processes import ROOT
from services.bus.accounts import AccountsView
from services.bus.biller import Biller
from services.bus.support import SupportMatrix
from services.events import AccountCurrent, PaymentReceived
from services.payments.bank_file import BankFileReader
from services.payments.handlers import receive_payment
from services.payments.notice import NoticeReader, load_contract
from tests.unit.parts import NOON, a_biller

PARTNERS = ROOT / "schemas" / "partners"
ACCOUNT = "0000012345"
ACME: Biller = a_biller(products={"agent_connect": True, "ivr": True, "online_bank_direct": True})


def a_reader() -> NoticeReader:
    return NoticeReader(load_contract(PARTNERS), SupportMatrix.load(PARTNERS / "support.yaml"))


def a_bank_file_reader() -> BankFileReader:
    return BankFileReader(PARTNERS, load_contract(PARTNERS))


def a_form(**fields: str) -> dict[str, object]:
    """IC's form of one payment; `fields` in wire names replace or add."""
    form = {
        "BillerGUID": "guid",
        "PaymentGUID": "9B2F-01",
        "PaymentDate": "2026-11-23T11:59:00Z",
        "Approved": "True",
        "AccountNumber": ACCOUNT,
        "PaymentAmount": "120.50",
        "ConvenienceFee": "2.95",
        "PaymentTypeID": "1",
        "CardType": "Visa",
    }
    return {name: value for name, value in (form | fields).items() if value != ""}


def accounts(*numbers: str) -> AccountsView:
    view = AccountsView()
    for number in numbers or (ACCOUNT,):
        view.take(
            AccountCurrent(
                biller="acme",
                account=number,
                normalised=number.lstrip("0"),
                invoice_number=f"INV-{number}",
                invoice_date=date(2026, 11, 1),
                invoices=(f"INV-{number}",),
                updated_at=datetime(2026, 11, 1, tzinfo=UTC),
            )
        )
    return view


def a_payment(view: AccountsView | None = None, /, **fields: str) -> PaymentReceived:
    notice = a_reader().read(a_form(**fields), ACME)
    return receive_payment(notice, ACME, view or accounts(), "form", NOON)
