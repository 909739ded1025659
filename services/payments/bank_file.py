"""The file of an Online Bank Direct delivery: a bank's payments by account number as the bank has it."""

import csv
import io
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from services.bus.wire import read_contract
from services.payments.notice import AMOUNT, PaymentContract

BOM = "\ufeff"


class BrokenFile(ValueError):
    """The file as a whole cannot be believed; the message says why and where."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(_Part):
    header: str
    required: bool = False
    format: str | None = None


class Trailer(_Part):
    mark: str
    values: tuple[Literal["mark", "count", "total"], ...]


class Limits(_Part):
    records: int = Field(gt=0)
    bytes: int = Field(gt=0)


class Layout(_Part):
    """bank_file.yaml."""

    title: str
    version: int
    assumed: bool
    content_type: str
    encoding: str
    delimiter: str = Field(min_length=1, max_length=1)
    product: str
    payment_type: str
    columns: dict[str, Column]
    trailer: Trailer
    limits: Limits


def load_layout(partners: Path) -> Layout:
    """Reads bank_file.yaml; raises ConfigurationError with everything wrong in it."""
    return read_contract(partners / "bank_file.yaml", Layout)


class BankFileReader:
    """Reads files by schemas/partners/bank_file.yaml into IC's wire names.

    Only what makes the whole file doubtful is refused here (encoding, header, trailer, size); a record
    that does not read as agreed is left to the reader of notices, so that the good ones go on.
    """

    def __init__(self, partners: Path, contract: PaymentContract) -> None:
        self.layout = load_layout(partners)
        columns = self.layout.columns
        self._wire = {
            column.header: contract.wire(name) for name, column in columns.items() if contract.has(name)
        }
        self._fixed = {
            contract.wire("product"): self.layout.product,
            contract.wire("payment_type"): self.layout.payment_type,
            contract.wire("approved"): contract.payment_form.words[True],
        }
        self._amount = columns["amount"].header
        self._dates = {
            column.header: column.format for column in columns.values() if column.format is not None
        }

    def read(self, body: bytes) -> list[Mapping[str, object]]:
        """The records, in IC's wire names; raises BrokenFile."""
        rows = self._rows(body)
        header, records, trailer = rows[0], rows[1:-1], rows[-1]
        needed = [column.header for column in self.layout.columns.values() if column.required]
        if missing := [name for name in needed if name not in header]:
            raise BrokenFile(f"line 1: expected the columns {', '.join(missing)}")
        if len(records) > self.layout.limits.records:
            raise BrokenFile(f"more than {self.layout.limits.records} records")
        self._check_trailer(header, records, trailer)
        return [self._record(header, row) for row in records]

    def _rows(self, body: bytes) -> list[list[str]]:
        try:
            text = body.decode(self.layout.encoding).removeprefix(BOM)
        except UnicodeDecodeError as error:
            raise BrokenFile(f"not {self.layout.encoding} at byte {error.start}") from None
        if not text.strip():
            raise BrokenFile("the file is empty")
        try:
            reader = csv.reader(io.StringIO(text), strict=True, delimiter=self.layout.delimiter)
            return [row for row in reader if row]
        except csv.Error as error:
            raise BrokenFile(f"not delimited as agreed: {error}") from None

    def _check_trailer(self, header: list[str], records: list[list[str]], trailer: list[str]) -> None:
        names = self.layout.trailer.values
        told = dict(zip(names, trailer, strict=False))
        if len(trailer) != len(names) or told["mark"] != self.layout.trailer.mark:
            line = self.layout.delimiter.join(self.layout.trailer.mark if n == "mark" else n for n in names)
            raise BrokenFile(f"the last line is not {line}: the file is cut short")
        if not AMOUNT.fullmatch(told["total"]):
            raise BrokenFile(f"the trailer's total, {told['total'][:20]!r}, is no amount")
        column = header.index(self._amount)
        amounts = [row[column].strip() if len(row) > column else "" for row in records]
        readable = all(AMOUNT.fullmatch(amount) for amount in amounts)
        total = sum(map(Decimal, amounts), Decimal(0)) if readable else None
        if told["count"] != str(len(records)) or total not in (None, Decimal(told["total"])):
            raise BrokenFile(
                f"the trailer says {told['count'][:20]} payments, total {told['total']}; "
                f"the file holds {len(records)}" + ("" if total is None else f", total {total}")
            )

    def _record(self, header: list[str], row: list[str]) -> Mapping[str, object]:
        told = {
            self._wire[name]: self._dated(name, value)
            for name, value in zip(header, row, strict=False)
            if name in self._wire
        }
        return {**told, **self._fixed}

    def _dated(self, name: str, value: str) -> str:
        """A date in ISO's form; as it is where it does not read as the layout says."""
        if name not in self._dates:
            return value
        try:
            return datetime.strptime(value.strip(), self._dates[name]).isoformat()
        except ValueError:
            return value
