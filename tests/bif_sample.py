"""BIF files of invented people, for tests and benchmarks."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

COLUMNS = (
    "InvoiceNumber", "AccountNumber", "PolicyNumbers", "CustomerID", "CustomerName", "Address1", "Address2",
    "City", "State", "Zip", "Phone", "EmailAddress", "InvoiceDate", "InvoiceDueDate", "AutoPayCollectionDate",
    "PastDueAmount", "CurrentCharges", "BalanceDue", "MinimumAmountDue", "CreditAmount",
    "FirstNotifyRequestedDate", "SecondNotifyRequestedDate", "ThirdNotifyRequestedDate", "AutoPay",
    "PaperInvoices", "BillID", "AllowPartialPayments", "BlockPaymentsCC", "BlockPaymentsEFT",
    "AllowPastDuePayments", "BillingOption", "BillImageType", "ExpirationDate",
)  # fmt: skip
FIRST_NAMES = ("Ada", "Bo", "Cleo", "Dov", "Esme", "Finn", "Greta", "Hugo", "Ines", "Jun")
LAST_NAMES = ("Aldertree", "Bramblewick", "Copperfell", "Dunmoor", "Elderbrook", "Foxgate", "Grainger-Vale")


def row(number: int, account: str = "", **changes: str) -> dict[str, str]:
    """A good row; `changes` replace cells by column name."""
    bill_day = date(2026, 11, 1)
    charges = Decimal(4000 + number % 9000) / 100
    past_due = Decimal(number % 5) * 10
    due = f"{charges + past_due:.2f}"
    cells = dict.fromkeys(COLUMNS, "") | {
        "InvoiceNumber": f"INV-{number:07d}",
        "AccountNumber": account or f"{number:010d}",
        "PolicyNumbers": f"HO-{number:06d};AU-{number:06d}",
        "CustomerID": f"C{number}",
        "CustomerName": f"{FIRST_NAMES[number % 10]} {LAST_NAMES[number % 7]}",
        "Address1": f"{number % 900 + 1} Invented Lane",
        "City": "Nowhere Falls",
        "State": "IA",
        "Zip": f"{50000 + number % 900:05d}",
        "Phone": f"555-01{number % 100:02d}",
        "EmailAddress": f"customer{number}@mail.example",
        "InvoiceDate": bill_day.isoformat(),
        "InvoiceDueDate": (bill_day + timedelta(days=20 + number % 10)).isoformat(),
        "PastDueAmount": f"{past_due:.2f}",
        "CurrentCharges": f"{charges:.2f}",
        "BalanceDue": due,
        "MinimumAmountDue": due,
        "AutoPay": "F",
        "PaperInvoices": "F" if number % 3 == 0 else "T",
        "BillID": f"B{number:09d}",
        "AllowPartialPayments": "F",
        "BlockPaymentsCC": "F",
        "BlockPaymentsEFT": "F",
        "BillingOption": "balance_forward",
        "BillImageType": "linking",
    }
    return cells | changes


def lines(
    rows: Iterable[dict[str, str]], code: str = "ACME", columns: Sequence[str] = COLUMNS
) -> Iterator[str]:
    """A whole file, line by line, with a last line that is right."""
    yield f"#BIF|layout=1|biller={code}|created=2026-11-01T06:00:00Z"
    yield "|".join(columns)
    count, total = 0, Decimal("0.00")
    for cells in rows:
        count += 1
        try:
            total += Decimal(cells["BalanceDue"])
        except ArithmeticError:
            total += 0
        yield "|".join(cells[name] for name in columns)
    yield f"#END|rows={count}|total={total}"


def content(rows: Iterable[dict[str, str]], code: str = "ACME", columns: Sequence[str] = COLUMNS) -> bytes:
    return "".join(f"{line}\n" for line in lines(rows, code, columns)).encode()


def write(path: Path, rows: Iterable[dict[str, str]], code: str = "ACME") -> Path:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(f"{line}\n" for line in lines(rows, code))
    return path
