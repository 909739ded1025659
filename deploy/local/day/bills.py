"""The bills of the day, as IMT's people know them: read from the BIF files beside this module."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import yaml

from deploy.local.day.contract import Contract

FOLDER = Path(__file__).parent
LINES_BEFORE = 2
"""Lines of a BIF file before its first row."""


@dataclass(frozen=True, slots=True)
class Bad:
    """How a row is bad: the column that a refusal names, and words that it says."""

    column: str
    says: str


@dataclass(frozen=True, slots=True)
class Bill:
    """One row of a BIF file; money in USD. `superseded`: a newer bill of its account stands before it."""

    biller: str
    line: int
    invoice_number: str
    account: str
    policies: tuple[str, ...]
    customer_name: str
    past_due: Decimal
    current_charges: Decimal
    balance_due: Decimal
    bill_id: str
    bad: Bad | None = None
    superseded: bool = False


@dataclass(frozen=True)
class BifFile:
    """A BIF file as it lies in the repository, and its rows."""

    biller: str
    path: Path
    bills: tuple[Bill, ...]

    @property
    def good(self) -> tuple[Bill, ...]:
        return tuple(bill for bill in self.bills if bill.bad is None)


def read_files(contract: Contract, folder: Path = FOLDER) -> list[BifFile]:
    """The BIF files of the day, by biller."""
    bad = yaml.safe_load((folder / "bad-rows.yaml").read_text(encoding="utf-8"))
    return [_read(path, contract.bif, bad.get(path.stem, {})) for path in sorted(folder.glob("*.bif"))]


def _read(path: Path, names: dict[str, str], bad: dict[int, dict[str, str]]) -> BifFile:
    lines = path.read_text(encoding="utf-8").splitlines()
    header = lines[1].split("|")
    bills: list[Bill] = []
    newest: dict[str, str] = {}
    for number, text in enumerate(lines[LINES_BEFORE:-1], start=LINES_BEFORE + 1):
        cells = dict(zip(header, text.split("|"), strict=False))
        account, day = cells[names["account"]], cells[names["invoice_date"]]
        wrong = Bad(**bad[number]) if number in bad else None
        bills.append(_bill(path.stem, number, cells, names, wrong, superseded=newest.get(account, "") > day))
        if wrong is None:
            newest[account] = max(newest.get(account, ""), day)
    return BifFile(path.stem, path, tuple(bills))


def _bill(
    biller: str, line: int, cells: dict[str, str], names: dict[str, str], bad: Bad | None, *, superseded: bool
) -> Bill:
    past_due, current, due = (
        _money(cells[names[field]]) for field in ("past_due", "current_charges", "balance_due")
    )
    return Bill(
        biller=biller,
        line=line,
        invoice_number=cells[names["invoice_number"]],
        account=cells[names["account"]],
        policies=tuple(cells[names["policies"]].split(";")),
        customer_name=cells[names["customer_name"]],
        past_due=past_due,
        current_charges=current,
        balance_due=due,
        bill_id=cells[names["bill_id"]],
        bad=bad,
        superseded=superseded and bad is None,
    )


def _money(text: str) -> Decimal:
    """What a cell says; the cells of bad rows may say anything."""
    return Decimal(text.replace(",", ".") or "0")


def lonely(files: list[BifFile]) -> list[Bill]:
    """Good bills whose account has no other bill, and no other account's number beside leading zeros."""
    good = [bill for file in files for bill in file.good]
    loose = Counter((bill.biller, bill.account.lstrip("0")) for bill in good)
    return [bill for bill in good if loose[bill.biller, bill.account.lstrip("0")] == 1]
