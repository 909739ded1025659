"""The BIF's layout: schemas/partners/bif.yaml, and a parser for each of its columns."""

import re
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.bus.settings import ConfigurationError
from services.events import InvoiceIssued

Parse = Callable[[str], Any]
_MONEY = re.compile(r"-?[0-9]{1,10}\.[0-9]{2}")
_OURS = frozenset(InvoiceIssued.__dataclass_fields__)


class Bad(ValueError):
    """What stands in a cell is not what the layout expects; the text says what that is."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Column(_Strict):
    """One column of the file; see bif.yaml for what each setting means."""

    field: str | None = None
    type: Literal["text", "date", "money", "boolean", "list"]
    required: bool = False
    optional: bool = False
    max: Decimal = Decimal(0)
    min: Decimal = Decimal(0)
    items: int = 1
    pattern: str | None = None
    inverse: bool = False
    pii: bool = False


class FirstLine(_Strict):
    """Names in the first line."""

    mark: str = Field(min_length=1)
    layout: str
    biller: str
    created: str


class LastLine(_Strict):
    """Names in the last line; no total where `total` is None."""

    mark: str = Field(min_length=1)
    rows: str
    total: str | None = None


class Layout(_Strict):
    """The whole layout."""

    title: str
    layout: int
    assumed: bool
    encoding: str
    delimiter: str = Field(min_length=1, max_length=1)
    max_line_bytes: int = Field(ge=256)
    max_rows: int = Field(ge=1)
    first_line: FirstLine
    last_line: LastLine
    total_column: str
    date_format: str
    words: dict[bool, tuple[str, ...]]
    list_separator: str = Field(min_length=1, max_length=1)
    columns: dict[str, Column]
    always_false: dict[str, str]
    as_supported: dict[str, tuple[str, ...]]

    @model_validator(mode="after")
    def _holds_together(self) -> "Layout":
        fields = [column.field for column in self.columns.values() if column.field]
        problems = [f"field {name} is none of invoice.issued" for name in fields if name not in _OURS]
        problems += [f"field {name} twice" for name in sorted({n for n in fields if fields.count(n) > 1})]
        flags = {self.total_column, *self.always_false, *self.as_supported}
        problems += [f"column {name} is not defined" for name in sorted(flags - set(self.columns))]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def column_of(self, field: str) -> str:
        """The column that holds one of our fields, or the field's own name where the file has none."""
        return next((name for name, column in self.columns.items() if column.field == field), field)

    @property
    def needed(self) -> list[str]:
        """Columns without which a file is refused."""
        return [name for name, column in self.columns.items() if not column.optional]


def load_layout(path: Path) -> Layout:
    """Reads bif.yaml; raises ConfigurationError with everything wrong in it."""
    try:
        return Layout.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        problems = [f"{path}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    except (OSError, yaml.YAMLError) as error:
        problems = [f"{path}: {error}"]
    raise ConfigurationError(problems)


def parser_of(layout: Layout, column: Column, account_pattern: str) -> Parse:
    """A function from a cell that is not empty to its value; it raises Bad."""
    make = {"text": text, "date": day, "money": money, "boolean": boolean, "list": several}[column.type]
    return make(layout, column, account_pattern)


def text(_: Layout, column: Column, account_pattern: str) -> Parse:
    longest = int(column.max) or 200
    by_account = column.pattern == "account"
    pattern = account_pattern if by_account else column.pattern
    matches = re.compile(pattern).fullmatch if pattern else None

    def parse(found: str) -> str:
        if len(found) > longest:
            raise Bad(f"at most {longest} characters")
        if matches is not None and not matches(found):
            raise Bad("the biller's account numbers" if by_account else f"text like {pattern}")
        return found

    return parse


def several(layout: Layout, column: Column, _: str) -> Parse:
    longest, most, separator = int(column.max) or 200, column.items, layout.list_separator

    def parse(found: str) -> tuple[str, ...]:
        items = tuple(item.strip() for item in found.split(separator))
        if len(items) > most or any(not item or len(item) > longest for item in items):
            raise Bad(f"at most {most} of at most {longest} characters each, separated by {separator}")
        return items

    return parse


def money(_: Layout, column: Column, __: str) -> Parse:
    low, high = column.min, column.max

    def parse(found: str) -> Decimal:
        if not _MONEY.fullmatch(found):
            raise Bad("USD with two decimals, like 12.50")
        amount = Decimal(found)
        if not low <= amount <= high:
            raise Bad(f"USD from {low} to {high}")
        return amount

    return parse


def boolean(layout: Layout, column: Column, _: str) -> Parse:
    values = {
        word.upper(): said is not column.inverse for said, words in layout.words.items() for word in words
    }

    def parse(found: str) -> bool:
        value = values.get(found.upper())
        if value is None:
            raise Bad(f"one of {', '.join(values)}")
        return value

    return parse


def day(layout: Layout, _: Column, __: str) -> Parse:
    written = layout.date_format

    @lru_cache(4096)  # a file has few different dates
    def parse(found: str) -> date:
        try:
            value = datetime.strptime(found, written).date()
        except ValueError:
            raise Bad(f"a date as {written}") from None
        if not 2000 <= value.year < 2100 or value.strftime(written) != found:
            raise Bad(f"a date as {written}, from 2000 to 2099")
        return value

    return parse
