"""Rows of a BIF file: what is taken, and what is refused naming line, column and rule."""

from datetime import date
from decimal import Decimal
from typing import Any, Literal

import pytest

from services.bus.biller import Autopay, Biller, NotifyDate, NotifySchedule
from services.events import Refusal
from services.invoices.bif import Repeats
from services.invoices.rows import RowReader
from services.invoices.rules import moved
from tests import bif_sample
from tests.unit import invoices_sample

LAYOUT = invoices_sample.layout()
SUPPORT = invoices_sample.support()


def reader(biller: Biller | None = None, columns: tuple[str, ...] = bif_sample.COLUMNS) -> RowReader:
    return RowReader(LAYOUT, list(columns), biller or invoices_sample.biller(), SUPPORT, Repeats())


def read(biller: Biller | None = None, /, **changes: str) -> dict[str, Any] | list[Refusal]:
    cells = bif_sample.row(7, **changes)
    return reader(biller).read(9, "|".join(cells.values()))


def taken(biller: Biller | None = None, /, **changes: str) -> dict[str, Any]:
    values = read(biller, **changes)
    assert isinstance(values, dict), values
    return values


def refused(biller: Biller | None = None, /, **changes: str) -> Refusal:
    refusals = read(biller, **changes)
    assert isinstance(refusals, list), refusals
    assert len(refusals) == 1, refusals
    assert refusals[0].line == 9
    return refusals[0]


def test_a_good_row_is_taken_as_it_stands() -> None:
    values = taken(CustomerName="  Ines Foxgate ", Address2="")
    assert values["customer_name"] == "Ines Foxgate"
    assert values["address2"] is None
    assert values["policies"] == ("HO-000007", "AU-000007")
    assert values["invoice_date"] == date(2026, 11, 1)
    assert values["balance_due"] == values["minimum_due"] == Decimal("60.07")
    assert values["credit"] == 0
    assert len(values["content"]) == 16


def test_content_is_what_imt_sent_in_whatever_order_of_columns() -> None:
    columns = tuple(reversed(bif_sample.COLUMNS))
    cells = bif_sample.row(7)
    turned = reader(columns=columns).read(9, "|".join(cells[name] for name in columns))
    assert isinstance(turned, dict)
    assert turned["content"] == taken()["content"]
    assert taken(City="Elsewhere")["content"] != taken()["content"]


def test_content_is_not_what_the_billers_rule_adds() -> None:
    plain = invoices_sample.biller(notify=NotifySchedule())
    assert taken(plain)["first_notify_date"] is None
    assert taken(plain)["content"] == taken()["content"]


@pytest.mark.parametrize(
    ("column", "found", "expected"),
    [
        ("InvoiceNumber", "", "a value"),
        ("InvoiceNumber", "a b", "text like"),
        ("AccountNumber", "12345", "the biller's account numbers"),
        ("InvoiceDate", "11/01/2026", "a date as %Y-%m-%d"),
        ("InvoiceDate", "2026-11-1", "from 2000 to 2099"),
        ("InvoiceDate", "2026-02-30", "a date as"),
        ("InvoiceDate", "1026-11-01", "from 2000 to 2099"),
        ("CurrentCharges", "12,50", "USD with two decimals"),
        ("CurrentCharges", "1e3", "USD with two decimals"),
        ("CurrentCharges", "99999999.00", "USD from"),
        ("AutoPay", "maybe", "one of T, TRUE"),
        ("State", "Iowa", "at most 2 characters"),
        ("EmailAddress", "nobody", "text like"),
        ("PolicyNumbers", "A;;B", "separated by ;"),
        ("BillID", "../../etc", "text like"),
    ],
)
def test_a_cell_that_is_not_as_expected_is_named(column: str, found: str, expected: str) -> None:
    refusal = refused(**{column: found})
    assert refusal.column == column
    assert expected in refusal.expected


def test_personal_columns_never_show_what_stood_there() -> None:
    for column, found in (("EmailAddress", "jane.doe"), ("AccountNumber", "98765"), ("State", "Iowa")):
        assert refused(**{column: found}).found == f"({len(found)} characters, not shown)"
    assert refused(BillID="a b").found == "a b"


def test_everything_wrong_with_a_row_is_told_at_once() -> None:
    refusals = read(InvoiceDate="soon", BalanceDue="much", AllowPartialPayments="T")
    assert isinstance(refusals, list)
    assert [each.column for each in refusals] == ["InvoiceDate", "BalanceDue", "AllowPartialPayments"]


def test_a_row_with_a_column_too_few_and_control_characters() -> None:
    short = reader().read(4, "|".join(list(bif_sample.row(1).values())[:-1]))
    assert short == [Refusal(line=4, column="(row)", expected="33 columns", found="32")]
    refusal = refused(CustomerName="Ada\x07")
    assert (refusal.column, refusal.expected) == ("CustomerName", "no control characters")


def test_balance_forward_is_past_due_and_current_charges() -> None:
    refusal = refused(
        PastDueAmount="10.00", CurrentCharges="20.00", BalanceDue="20.00", MinimumAmountDue="20.00"
    )
    assert refusal.column == "BalanceDue"
    assert refusal.expected == "Balance Forward: past due plus current charges, 30.00"
    assert refusal.found == "20.00"


@pytest.mark.parametrize("shown", ["0.00", "-30.00"])
def test_a_credit_shows_as_nothing_due_with_the_credit_kept_apart(shown: str) -> None:
    amounts = {"PastDueAmount": "-50.00", "CurrentCharges": "20.00"}
    values = taken(**amounts, BalanceDue=shown, MinimumAmountDue=shown)
    assert (values["balance_due"], values["minimum_due"], values["credit"]) == (0, 0, Decimal("30.00"))
    assert values["past_due"] == Decimal("-50.00")
    refusal = refused(**amounts, BalanceDue="0.00", MinimumAmountDue="0.00", CreditAmount="31.00")
    assert refusal.expected == "Balance Forward: the credit is 30.00"


def test_minimum_payment_is_always_the_balance_due() -> None:
    refusal = refused(MinimumAmountDue="5.00")
    assert refusal.column == "MinimumAmountDue"
    assert refusal.expected.startswith("Minimum Payment: always the balance due")


@pytest.mark.parametrize(
    ("column", "found", "slug"),
    [
        ("AllowPartialPayments", "T", "partial_payments"),
        ("BlockPaymentsCC", "true", "block_payment"),
        ("BlockPaymentsEFT", "Y", "block_payment"),
        ("AllowPastDuePayments", "T", "past_due_payments"),
        ("BillingOption", "open_item", "open_item_billing"),
        ("BillingOption", "Open Item", "open_item_billing"),
        ("BillImageType", "extraction", "pdf_extraction"),
        ("BillImageType", "Template", "template"),
        ("ExpirationDate", "2026-12-24", "expire_bill_for_payment"),
    ],
)
def test_a_flag_that_is_not_supported_is_refused_by_the_rows_name(column: str, found: str, slug: str) -> None:
    reads = reader()
    refusals = reads.read(9, "|".join(bif_sample.row(7, **{column: found}).values()))
    assert isinstance(refusals, list)
    assert refusals[0].column == column
    assert SUPPORT.row(slug).name in refusals[0].expected
    assert SUPPORT.row(slug).sentence in refusals[0].expected
    assert reads.refused_by_name == {slug: 1}


def test_flags_may_be_left_out_and_an_unknown_value_is_refused() -> None:
    columns = bif_sample.COLUMNS[: bif_sample.COLUMNS.index("AllowPartialPayments")]
    cells = bif_sample.row(7)
    assert isinstance(reader(columns=columns).read(9, "|".join(cells[name] for name in columns)), dict)
    assert refused(BillingOption="sometimes").expected == "one of balance_forward, or nothing"
    assert taken(BillingOption="", BillImageType="", AllowPartialPayments="")["account"]


def test_paper_invoices_is_the_inverse_of_paperless() -> None:
    assert taken(PaperInvoices="T")["paperless"] is False
    assert taken(PaperInvoices="F")["paperless"] is True


def test_autopay_collects_between_the_bills_date_and_its_due_date() -> None:
    dates = {"InvoiceDate": "2026-11-01", "InvoiceDueDate": "2026-11-20"}
    assert taken(**dates, AutoPayCollectionDate="2026-11-20")["autopay_collection_date"] == date(2026, 11, 20)
    early = refused(**dates, AutoPayCollectionDate="2026-10-31")
    assert early.expected == "AutoPay Collection Date: not before the bill's date"
    late = refused(**dates, AutoPayCollectionDate="2026-11-21")
    assert late.expected == "AutoPay Collection Date: not after the due date"
    lenient = invoices_sample.biller(autopay=Autopay(collection_after_due=True))
    assert taken(lenient, **dates, AutoPayCollectionDate="2026-11-21")


def test_a_bill_is_not_due_before_its_date() -> None:
    assert refused(InvoiceDate="2026-11-02", InvoiceDueDate="2026-11-01").column == "InvoiceDueDate"


@pytest.mark.parametrize("said", ["Balance Forward", "balance-forward", "BALANCE_FORWARD"])
def test_what_billbus_does_anyway_may_be_said_in_whatever_spelling(said: str) -> None:
    assert taken(BillingOption=said, BillImageType="PDF Linking")["invoice_number"] == "INV-0000007"


@pytest.mark.parametrize("minimum", ["-15.00", "0.00"])
def test_the_minimum_of_a_credit_may_be_said_as_it_is_shown(minimum: str) -> None:
    amounts = {"PastDueAmount": "-20.00", "CurrentCharges": "5.00", "BalanceDue": "-15.00"}
    values = taken(MinimumAmountDue=minimum, **amounts)
    assert (values["balance_due"], values["minimum_due"], values["credit"]) == (0, 0, Decimal("15.00"))


def test_notices_come_from_the_row_else_from_the_billers_rule() -> None:
    schedule = NotifySchedule(
        first=NotifyDate(days=-14, weekend="before"), second=NotifyDate(days=-2, weekend="after")
    )
    # due on Monday 2026-11-23: 14 days before is a Monday, 2 days before is a Saturday
    values = taken(
        invoices_sample.biller(notify=schedule),
        InvoiceDueDate="2026-11-23",
        ThirdNotifyRequestedDate="2026-11-25",
    )
    assert values["first_notify_date"] == date(2026, 11, 9)
    assert values["second_notify_date"] == date(2026, 11, 23)
    assert values["third_notify_date"] == date(2026, 11, 25)


def test_a_notice_by_rule_is_never_before_the_bill() -> None:
    schedule = NotifySchedule(first=NotifyDate(days=-60))
    assert taken(invoices_sample.biller(notify=schedule))["first_notify_date"] == date(2026, 11, 1)


@pytest.mark.parametrize(
    ("day", "weekend", "expected"),
    [
        (20, "before", 20),
        (21, "before", 20),
        (22, "before", 20),
        (21, "after", 23),
        (22, "after", 23),
        (22, "none", 22),
        (23, "after", 23),
    ],
)
def test_weekends_are_moved_as_the_biller_chose(day: int, weekend: str, expected: int) -> None:
    assert moved(date(2026, 11, day), weekend) == date(2026, 11, expected)


@pytest.mark.parametrize(
    ("issued", "days", "weekend", "expected"),
    [
        ("2026-11-21", -30, "after", date(2026, 11, 23)),  # the bill's own day is a Saturday
        ("2026-11-21", -30, "before", date(2026, 11, 23)),  # the Friday before would be before the bill
        ("2026-11-20", -5, "before", date(2026, 11, 20)),  # Sunday the 22nd, moved to the bill's own Friday
        ("2026-11-21", -30, "none", date(2026, 11, 21)),
    ],
)
def test_a_notice_by_rule_is_moved_off_weekends_and_still_not_before_the_bill(
    issued: str, days: int, weekend: Literal["none", "before", "after"], expected: date
) -> None:
    schedule = NotifySchedule(first=NotifyDate(days=days, weekend=weekend))
    values = taken(invoices_sample.biller(notify=schedule), InvoiceDate=issued, InvoiceDueDate="2026-11-27")
    assert values["first_notify_date"] == expected


def test_an_invoice_number_comes_once_in_a_file() -> None:
    repeats = Repeats()
    reads = RowReader(LAYOUT, list(bif_sample.COLUMNS), invoices_sample.biller(), SUPPORT, repeats)
    for _ in range(2):
        repeats.mark(b"INV-0000007")
    text = "|".join(bif_sample.row(7).values())
    assert isinstance(reads.read(3, text), dict)
    again = reads.read(4, text)
    repeats.close()
    assert isinstance(again, list)
    assert again[0].column == "InvoiceNumber"
    assert "line 3 has it" in again[0].expected


def test_an_alphanumeric_biller_has_its_own_account_numbers() -> None:
    cedar = invoices_sample.biller("cedar")
    assert taken(cedar, AccountNumber="CM-10A22")["account"] == "CM-10A22"
    assert refused(AccountNumber="CM-10A22").column == "AccountNumber"
