"""The partners' words, from schemas/partners alone: the people of the day speak as IC and IMT would."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True)
class Contract:
    """Names and words on the wire; every mapping goes from our word to the partner's."""

    partners: Path

    @cached_property
    def cloud(self) -> dict[str, Any]:
        return self._read("invoicecloud")

    @cached_property
    def imt(self) -> dict[str, Any]:
        return self._read("imt")

    @cached_property
    def changes(self) -> dict[str, Any]:
        return self._read("changes")

    @cached_property
    def payment(self) -> dict[str, str]:
        form = self.cloud["payment_form"]
        return {**form["fields"], **form["assumed"]}

    @cached_property
    def change(self) -> dict[str, str]:
        return dict(self.changes["fields"])

    @cached_property
    def bank(self) -> dict[str, str]:
        """Headers of a bank's file."""
        return {ours: column["header"] for ours, column in self._read("bank_file")["columns"].items()}

    @cached_property
    def balance(self) -> dict[str, str]:
        """What a balance enquiry is answered with."""
        return dict(self._read("rtdr")["fields"])

    @cached_property
    def bif(self) -> dict[str, str]:
        """Columns of a BIF file."""
        columns = self._read("bif")["columns"]
        return {column["field"]: name for name, column in columns.items() if column.get("field")}

    @cached_property
    def products(self) -> dict[str, str]:
        """A product as IC writes it -> as our events say it."""
        surfaces = {
            s["value"]: row["slug"]
            for row in self._read("support")["rows"]
            for s in row["enforced_at"]
            if s["at"] == "payment_product"
        }
        return surfaces | dict(self.cloud["own_products"])

    @cached_property
    def row_names(self) -> dict[str, str]:
        """The support table's name of each row, by its slug."""
        return {row["slug"]: row["name"] for row in self._read("support")["rows"]}

    def posted(self, service: str) -> dict[str, str]:
        """The fields under which one of IMT's services keeps what it was sent."""
        return dict(self.imt["services"][service]["fields"])

    def word(self, value: bool) -> str:
        """IMT's T or F."""
        return str(self.imt["words"][value])

    def _read(self, name: str) -> dict[str, Any]:
        return dict(yaml.safe_load((self.partners / f"{name}.yaml").read_text(encoding="utf-8")))
