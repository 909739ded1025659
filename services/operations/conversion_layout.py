"""The layout of an autopay conversion, and what a cell of it may hold."""

import re
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

T = TypeVar("T")
Value = str | bool | date | Decimal | None
AccountRule = Callable[[str], str | None]
"""Gives the number as it is matched, or None when the biller's rule does not know such a number."""

_MONEY = re.compile(r"\d{1,10}\.\d{2}")
_DIGIT_RUN = re.compile(r"\d[\d -]{11,}\d")
_BANK_NUMBERS = re.compile(r"\d{9}[\s:/-]?\d{4,17}")


class LayoutError(Exception):
    """The layout file cannot be used; the message says where and why."""


class CellError(Exception):
    """A cell does not hold what the layout says. `reason` is a word for counting, `expected` for a person."""

    def __init__(self, reason: str, expected: str) -> None:
        super().__init__(f"{reason}: {expected}")
        self.reason = reason
        self.expected = expected


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class InputColumn(_Strict):
    header: str
    kind: Literal["text", "account", "indicator", "choice", "token", "date", "money"]
    required: bool = False
    pii: bool = False
    max_length: Annotated[int, Field(gt=0)] = 200
    pattern: str | None = None
    format: str = "%Y-%m-%d"
    words: Mapping[str, bool] = {}
    choices: Mapping[str, str] = {}

    def read(self, cell: str, account_rule: AccountRule) -> Value:
        """The cell's value; raises CellError."""
        text = cell.strip()
        if not text:
            if self.required:
                raise CellError("missing", f"{self.header} is required")
            return None
        if len(text) > self.max_length:
            raise CellError("too long", f"at most {self.max_length} characters")
        if self.pattern and not re.fullmatch(self.pattern, text):
            raise CellError("not as laid out", f"a value of the shape {self.pattern}")
        match self.kind:
            case "account":
                return _account(text, account_rule)
            case "indicator":
                return _one_of(text, self.words)
            case "choice":
                return _one_of(text, self.choices)
            case "token":
                return _token(text)
            case "date":
                return _day(text, self.format)
            case "money":
                return _money(text)
        return text


class Control(_Strict):
    mark: str
    required: bool = False


class Input(_Strict):
    encoding: Literal["utf-8"]
    delimiter: Annotated[str, Field(min_length=1, max_length=1)]
    max_record_chars: Annotated[int, Field(gt=0)]
    control: Control
    columns: Mapping[str, InputColumn]


class OutputColumn(_Strict):
    header: str
    source: Annotated[str | None, Field(alias="from")] = None
    biller: Literal["biller_guid"] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.source is None) == (self.biller is None):
            raise ValueError(f"{self.header}: give either from or biller")
        return self


class Output(_Strict):
    delimiter: Annotated[str, Field(min_length=1, max_length=1)]
    line_end: str
    date_format: str
    words: Mapping[bool, str]
    trailer_mark: str
    columns: tuple[OutputColumn, ...]

    def write(self, value: Value) -> str:
        if value is None:
            return ""
        if isinstance(value, bool):
            return self.words[value]
        if isinstance(value, date):
            return value.strftime(self.date_format)
        return str(value)


class ConversionLayout(_Strict):
    """What comes in, what goes out, and what is summed."""

    title: str
    version: int
    assumed: bool
    input: Input
    unique_by: str
    enrolled_by: str
    control_total: str
    counted_by: str
    output: Output

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        named = [self.unique_by, self.enrolled_by, self.control_total, self.counted_by]
        named += [column.source for column in self.output.columns if column.source]
        unknown = sorted(set(named) - set(self.input.columns))
        if unknown:
            raise ValueError(f"no input column is named {', '.join(unknown)}")
        return self


def mask(cell: str, column: InputColumn) -> str:
    """What stood in a cell, as far as a report may show it.

    Personal data keeps its last two characters at most, other text is cut at 40.
    """
    text = cell.strip()
    if not column.pii:
        return text[:40]
    tail = text[-2:] if len(text) > 6 else ""
    return f"{'*' * min(len(text) - len(tail), 8)}{tail}"


def load_layout(path: Path) -> ConversionLayout:
    """Read and check the layout; raises LayoutError."""
    try:
        return ConversionLayout.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as error:
        raise LayoutError(f"{path.name} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise LayoutError(f"{path.name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _account(text: str, rule: AccountRule) -> str:
    if rule(text) is None:
        raise CellError("not an account number", "a number as the biller's rule has it")
    return text


def _one_of(text: str, known: Mapping[str, T]) -> T:
    if text not in known:
        raise CellError("not a known value", f"one of {', '.join(known)}")
    return known[text]


def _token(text: str) -> str:
    for run in _DIGIT_RUN.findall(text):
        digits = [int(c) for c in run if c.isdigit()]
        if 13 <= len(digits) <= 19 and _passes_card_check(digits):
            raise CellError("card number", "a reference into a vault, never a card number")
    if _BANK_NUMBERS.fullmatch(text):
        raise CellError("bank account number", "a reference into a vault, never a bank account")
    return text


def _passes_card_check(digits: list[int]) -> bool:
    doubled = [d if i % 2 == 0 else sum(divmod(d * 2, 10)) for i, d in enumerate(reversed(digits))]
    return sum(doubled) % 10 == 0


@lru_cache(maxsize=4096)
def _day(text: str, pattern: str) -> date:
    try:
        return datetime.strptime(text, pattern).date()
    except ValueError as error:
        raise CellError("not a date", f"a day as {pattern}") from error


def _money(text: str) -> Decimal:
    if not _MONEY.fullmatch(text):
        raise CellError("not an amount", "USD with two decimals, such as 120.50")
    return Decimal(text)
