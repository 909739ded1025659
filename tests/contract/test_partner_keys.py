"""What stands in the partners' contracts is read: a key that no code reads promises what nobody does."""

import ast
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from deploy.local.processes import ROOT

PARTNERS = ROOT / "schemas" / "partners"
TEXT = {"title", "version", "assumed", "formats", "detail"}
"""For people: what is assumed, and how something is written."""
READERS = {
    "autopay-conversion.yaml": ("services/operations/conver*.py",),
    "bank_file.yaml": ("services/payments/*.py", "services/sandbox/*.py"),
    "bif.yaml": ("services/invoices/*.py",),
    "changes.yaml": ("services/settings/*.py", "services/sandbox/*.py"),
    "imt.yaml": (
        "services/bus/wire.py",
        "services/*/imt.py",
        "services/*/handlers.py",
        "services/sandbox/*.py",
        "services/operations/partner_checks.py",
    ),
    "invoicecloud.yaml": (
        "services/payments/*.py",
        "services/invoices/*.py",
        "services/sandbox/*.py",
    ),
    "rtdr.yaml": ("services/balances/*.py",),
    "support.yaml": ("services/bus/support.py", "services/cli/support.py"),
}
DATA = {
    "autopay-conversion.yaml": {
        "input.columns",
        "input.columns.*.words",
        "input.columns.*.choices",
        "output.words",
    },
    "bif.yaml": {"words", "columns", "always_false", "as_supported"},
    "changes.yaml": {"words", "types", "not_supported"},
    "imt.yaml": {"words", "services.payments_due.causes", "services.settings.indicators"},
    "invoicecloud.yaml": {
        *("payment_form.words", "payment_types", "schedule_kinds", "own_products", "soap.customer"),
    },
}
"""Mappings that are gone through whole: their keys are words of a partner's or columns of a file."""


def keys(stated: Any, data: set[str], path: str = "") -> Iterator[str]:
    """The path of every key; `*` for one of a mapping that is data, and for the items of a list."""
    if isinstance(stated, list):
        for item in stated:
            yield from keys(item, data, path)
    if isinstance(stated, dict):
        for name, value in stated.items():
            place = "*" if path in data else str(name)
            where = f"{path}.{place}" if path else place
            if place in TEXT:
                continue
            if place != "*":
                yield where
            yield from keys(value, data, where)


def words_of(patterns: tuple[str, ...]) -> set[str]:
    """Attributes that are read, and texts, in the code of some files; a model's field alone is none."""
    words: set[str] = set()
    for path in (path for pattern in patterns for path in ROOT.glob(pattern)):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute):
                words.add(node.attr)
            elif isinstance(node, ast.keyword) and node.arg:
                words.add(node.arg)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                words.add(node.value)
    return words


def test_every_contract_has_its_readers() -> None:
    assert {path.name for path in PARTNERS.glob("*.yaml")} - {"imt.openapi.yaml"} == READERS.keys()


@pytest.mark.parametrize("name", READERS)
def test_every_key_of_a_contract_is_read(name: str) -> None:
    stated = yaml.safe_load((PARTNERS / name).read_text(encoding="utf-8"))
    words = words_of(READERS[name])
    unread = {path for path in keys(stated, DATA.get(name, set())) if path.rsplit(".", 1)[-1] not in words}
    assert unread == set()
