"""Writes the BIF files of the demo's business day: deploy/local/day/*.bif and bad-rows.yaml.

`python tools/generate_day.py [--check]`. The same run gives the same bytes; `--check` writes nothing and
ends with 1 when a file differs. Every person, address and number is made up.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "deploy" / "local" / "day"
SEED = 20261120
BILL_DAY = date(2026, 11, 20)
COLUMNS = (
    "InvoiceNumber", "AccountNumber", "PolicyNumbers", "CustomerID", "CustomerName", "Address1", "Address2",
    "City", "State", "Zip", "Phone", "EmailAddress", "InvoiceDate", "InvoiceDueDate", "AutoPayCollectionDate",
    "PastDueAmount", "CurrentCharges", "BalanceDue", "MinimumAmountDue", "CreditAmount",
    "FirstNotifyRequestedDate", "SecondNotifyRequestedDate", "ThirdNotifyRequestedDate", "AutoPay",
    "PaperInvoices", "BillID", "AllowPartialPayments", "BlockPaymentsCC", "BlockPaymentsEFT",
    "AllowPastDuePayments", "BillingOption", "BillImageType", "ExpirationDate",
)  # fmt: skip
FIRST = (
    *("Ada", "Bo", "Cleo", "Dov", "Esme", "Finn", "Greta", "Hugo", "Ines", "Jun", "Kai", "Lotte", "Milo"),
    *("Nora", "Otis", "Pia", "Quill", "Runa", "Sven", "Tilda", "Ulf", "Vera", "Wim", "Xenia", "Yara", "Zeno"),
)
LAST = (
    *("Aldertree", "Bramblewick", "Copperfell", "Dunmoor", "Elderbrook", "Foxgate", "Grainger-Vale"),
    *("Hollowmere", "Inkpen-Marsh", "Juniperson", "Kestrelby", "Larkwhistle", "Mossgrove", "Nettlefield"),
    *("Oakenshaw", "Pebbleton"),
)
STREETS = ("Invented Lane", "Madeup Street", "Pretend Avenue", "Fable Road", "Nowhere Court")
Cells = dict[str, str]
Spoil = Callable[[Cells, "Book"], None]


@dataclass(frozen=True)
class Town:
    city: str
    state: str
    zip_from: int


@dataclass
class Book:
    """One insurer's file in the making."""

    slug: str
    code: str
    rows: int
    towns: tuple[Town, ...]
    number: Callable[[int], str]
    policy: str
    spoilt: tuple[tuple[str, str, Spoil], ...]
    """Column that the refusal names, words that it holds, and what is done to a good row."""
    late_bills: int = 0
    cells: list[Cells] = field(default_factory=list)


def put(**changes: str) -> Spoil:
    return lambda cells, _: cells.update(changes)


def off_by(column: str, cents: int) -> Spoil:
    def spoil(cells: Cells, _: Book) -> None:
        cells[column] = money(to_cents(cells[column]) + cents)

    return spoil


def unbalance(cells: Cells, _: Book) -> None:
    """The balance due is not what the parts add up to; the minimum follows it."""
    cells["BalanceDue"] = cells["MinimumAmountDue"] = money(to_cents(cells["BalanceDue"]) + 100)


def number_again(cells: Cells, book: Book) -> None:
    cells["InvoiceNumber"] = book.cells[0]["InvoiceNumber"]


def collect(days: int, since: str) -> Spoil:
    def spoil(cells: Cells, _: Book) -> None:
        day = date.fromisoformat(cells[since]) + timedelta(days=days)
        cells.update(AutoPay="T", AutoPayCollectionDate=day.isoformat())

    return spoil


def one_column_more(cells: Cells, _: Book) -> None:
    cells["ExpirationDate"] += "|stray"


def due_before_bill(cells: Cells, _: Book) -> None:
    due = date.fromisoformat(cells["InvoiceDate"]) - timedelta(days=1)
    cells["InvoiceDueDate"] = due.isoformat()


BOOKS = (
    Book(
        "acme",
        "ACME",
        900,
        (
            Town("Nowhere Falls", "IA", 50100),
            Town("Lower Fable", "IL", 60900),
            Town("Quiet Bend", "WI", 53500),
        ),
        lambda n: f"{4_700_000 + n * 37:010d}",
        "HO",
        (
            ("AllowPartialPayments", "Partial Payments", put(AllowPartialPayments="T")),
            ("BlockPaymentsCC", "Block Payment", put(BlockPaymentsCC="T")),
            ("MinimumAmountDue", "Minimum Payment", off_by("MinimumAmountDue", -500)),
            ("AutoPayCollectionDate", "not before the bill's date", collect(-3, "InvoiceDate")),
            ("AutoPayCollectionDate", "not after the due date", collect(2, "InvoiceDueDate")),
            ("AccountNumber", "account numbers", put(AccountNumber="47-11")),
            ("InvoiceDueDate", "a date as", put(InvoiceDueDate="2026-13-40")),
        ),
    ),
    Book(
        "birch",
        "BIRCH",
        700,
        (
            Town("Birch Hollow", "NY", 12900),
            Town("Upper Pretend", "PA", 16700),
            Town("Old Inkwell", "VT", 5600),
        ),
        lambda n: f"{30_000 + n * 53}",
        "BV",
        (
            ("BalanceDue", "Balance Forward", unbalance),
            ("CreditAmount", "Balance Forward", put(CreditAmount="12.00")),
            ("AllowPastDuePayments", "Past Due Payments", put(AllowPastDuePayments="T")),
            ("BillingOption", "Open Item Billing", put(BillingOption="open_item")),
            ("PastDueAmount", "two decimals", put(PastDueAmount="12,50")),
            ("InvoiceNumber", "once in a file", number_again),
            ("CustomerName", "a value", put(CustomerName="")),
        ),
    ),
    Book(
        "cedar",
        "CEDAR",
        400,
        (Town("Cedar Notch", "CO", 81200), Town("Dry Fable", "WY", 82500)),
        lambda n: f"CM-{10_000 + n * 7:X}A{n % 90 + 10}",
        "CP",
        (
            ("BillImageType", "PDF Extraction", put(BillImageType="extraction")),
            ("BillImageType", "Template", put(BillImageType="template")),
            ("ExpirationDate", "Expire Bill for Payment", put(ExpirationDate="2026-12-31")),
            ("AutoPay", "one of", put(AutoPay="maybe")),
            ("(row)", "33 columns", one_column_more),
            ("InvoiceDueDate", "not before the bill's date", due_before_bill),
        ),
        late_bills=4,
    ),
)  # fmt: skip


def to_cents(text: str) -> int:
    return round(float(text) * 100)


def money(cents: int) -> str:
    return f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def good_row(book: Book, n: int, account: str, random: Random, bill_day: date = BILL_DAY) -> Cells:
    town = random.choice(book.towns)
    first, last = random.choice(FIRST), random.choice(LAST)
    charges = random.randrange(2_500, 48_000)
    past_due = random.choice((0, 0, 0, 0, 1_500, 4_275, 12_000))
    if n % 40 == 39:  # in credit: nothing is due
        past_due = -charges - random.randrange(100, 9_000)
    net = charges + past_due
    due_day = bill_day + timedelta(days=random.randrange(18, 30))
    autopay = n % 6 == 0
    return dict.fromkeys(COLUMNS, "") | {
        "InvoiceNumber": f"{book.code[0]}{bill_day:%y%m}-{n:05d}",
        "AccountNumber": account,
        "PolicyNumbers": ";".join(f"{book.policy}-{n * 3 + k:06d}" for k in range(1 + n % 2)),
        "CustomerID": f"C{n:05d}",
        "CustomerName": f"{first} {last}",
        "Address1": f"{random.randrange(1, 900)} {random.choice(STREETS)}",
        "City": town.city,
        "State": town.state,
        "Zip": f"{town.zip_from + random.randrange(90):05d}",
        "Phone": f"555-01{random.randrange(100):02d}",
        "EmailAddress": f"{first}.{last}.{n}@mail.example".lower(),
        "InvoiceDate": bill_day.isoformat(),
        "InvoiceDueDate": due_day.isoformat(),
        "AutoPayCollectionDate": (due_day - timedelta(days=2)).isoformat() if autopay else "",
        "PastDueAmount": money(past_due),
        "CurrentCharges": money(charges),
        "BalanceDue": money(max(0, net)),
        "MinimumAmountDue": money(max(0, net)),
        "CreditAmount": money(-net) if net < 0 else "",
        "FirstNotifyRequestedDate": (bill_day + timedelta(days=1)).isoformat() if n % 10 == 0 else "",
        "AutoPay": "T" if autopay else "F",
        "PaperInvoices": "F" if n % 3 == 0 else "T",
        "BillID": f"{book.code[0]}B{bill_day:%y%m}{n:06d}",
        "AllowPartialPayments": "F",
        "BlockPaymentsCC": "F",
        "BlockPaymentsEFT": "F",
        "AllowPastDuePayments": "F",
        "BillingOption": "balance_forward",
        "BillImageType": "linking",
    }


def fill(book: Book, random: Random) -> dict[int, tuple[str, str]]:
    """Writes the book's rows; where each bad one stands (line of the file) and how it is bad."""
    numbers = count(1)
    for _ in range(book.rows - book.late_bills - (1 if book.slug == "birch" else 0)):
        n = next(numbers)
        book.cells.append(good_row(book, n, book.number(n), random))
    if book.slug == "birch":  # two accounts that differ by leading zeros alone
        twin = "00" + book.cells[10]["AccountNumber"]
        book.cells.append(good_row(book, next(numbers), twin, random))
    for k in range(book.late_bills):  # last month's bill of an account whose newer one went before
        account = book.cells[20 + k * 9]["AccountNumber"]
        book.cells.append(good_row(book, next(numbers), account, random, BILL_DAY - timedelta(days=30)))
    bad = {}
    step = (book.rows - 60) // len(book.spoilt)
    for k, (column, words, spoil) in enumerate(book.spoilt):
        place = 40 + k * step + random.randrange(5)
        while book.cells[place]["BalanceDue"] == "0.00":
            place += 1
        spoil(book.cells[place], book)
        bad[place + 3] = (column, words)  # two lines stand before the first row
    return bad


def bif(book: Book) -> str:
    total = sum(to_cents(cells["BalanceDue"]) for cells in book.cells)
    lines = [
        f"#BIF|layout=1|biller={book.code}|created={BILL_DAY.isoformat()}T06:00:00Z",
        "|".join(COLUMNS),
        *("|".join(cells[name] for name in COLUMNS) for cells in book.cells),
        f"#END|rows={len(book.cells)}|total={money(total)}",
    ]
    return "".join(f"{line}\n" for line in lines)


def bad_rows(bad: dict[str, dict[int, tuple[str, str]]]) -> str:
    lines = [
        "# Written by tools/generate_day.py: the rows of the BIF files beside it that must be refused,",
        "# by line of the file, with the column that the refusal names and words that it holds.",
    ]
    for slug, rows in bad.items():
        lines.append(f"{slug}:")
        lines += [
            f'  {line}: {{column: "{column}", says: "{words}"}}' for line, (column, words) in rows.items()
        ]
    return "".join(f"{line}\n" for line in lines)


def made() -> Iterator[tuple[str, str]]:
    random = Random(SEED)  # noqa: S311 - invents people
    bad = {}
    for book in BOOKS:
        bad[book.slug] = fill(book, random)
        yield f"{book.slug}.bif", bif(book)
    yield "bad-rows.yaml", bad_rows(bad)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether they are as they would be")
    check = parser.parse_args().check
    stale = []
    for name, content in made():
        path = FOLDER / name
        if check:
            stale += [name] if not path.exists() or path.read_text(encoding="utf-8") != content else []
        else:
            path.write_text(content, encoding="utf-8", newline="\n")
    if stale:
        print(f"{', '.join(stale)} differ; run `python tools/generate_day.py`")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
