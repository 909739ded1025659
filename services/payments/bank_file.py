"""The file of an Online Bank Direct delivery: a bank's payments by account number as the bank has it."""

import csv
import io
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import yaml

from services.payments.notice import PaymentContract


class BrokenFile(ValueError):
    """The file as a whole cannot be believed; the message says why and where."""


class BankFileReader:
    """Reads files by schemas/partners/bank_file.yaml into IC's wire names.

    Only what makes the whole file doubtful is refused here (encoding, header, trailer, size); a record
    that does not read as agreed is left to the reader of notices, so that the good ones go on.
    """

    def __init__(self, partners: Path, contract: PaymentContract) -> None:
        self._layout: dict[str, Any] = yaml.safe_load((partners / "bank_file.yaml").read_text("utf-8"))
        self._wire = {
            column["header"]: contract.wire(name) for name, column in self._layout["columns"].items()
        }
        self._fixed = {
            contract.wire("product"): self._layout["product"],
            contract.wire("payment_type"): self._layout["payment_type"],
            contract.wire("approved"): contract.payment_form.words[True],
        }
        self._amount = self._layout["columns"]["amount"]["header"]

    def read(self, body: bytes) -> list[Mapping[str, object]]:
        """The records, in IC's wire names; raises BrokenFile."""
        try:
            text = body.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise BrokenFile(f"not {self._layout['encoding']} at byte {error.start}") from None
        if not text.strip():
            raise BrokenFile("the file is empty")
        try:
            rows = [row for row in csv.reader(io.StringIO(text), strict=True) if row]
        except csv.Error as error:
            raise BrokenFile(f"not delimited as agreed: {error}") from None
        header, records, trailer = rows[0], rows[1:-1], rows[-1]
        missing = [
            c["header"]
            for c in self._layout["columns"].values()
            if c.get("required") and c["header"] not in header
        ]
        if missing:
            raise BrokenFile(f"line 1: expected the columns {', '.join(missing)}")
        if len(records) > self._layout["limits"]["records"]:
            raise BrokenFile(f"more than {self._layout['limits']['records']} records")
        self._check_trailer(header, records, trailer)
        return [self._record(header, row) for row in records]

    def _check_trailer(self, header: list[str], records: list[list[str]], trailer: list[str]) -> None:
        mark = self._layout["trailer"]["mark"]
        if len(trailer) != 3 or trailer[0] != mark:
            raise BrokenFile(f"the last line is not {mark},count,total: the file is cut short")
        column = header.index(self._amount)
        try:
            total = sum((Decimal(row[column]) for row in records if len(row) > column), Decimal(0))
            stated = Decimal(trailer[2])
        except InvalidOperation:
            raise BrokenFile(
                f"{self._amount}: not every amount, or the trailer's total, is a number"
            ) from None
        if trailer[1] != str(len(records)) or stated != total:
            raise BrokenFile(
                f"the trailer says {trailer[1]} payments, total {trailer[2]}; "
                f"the file holds {len(records)}, total {total}"
            )

    def _record(self, header: list[str], row: list[str]) -> Mapping[str, object]:
        told = {
            self._wire[name]: value for name, value in zip(header, row, strict=False) if name in self._wire
        }
        return {**told, **self._fixed}
