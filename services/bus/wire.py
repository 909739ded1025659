"""IMT's wire names, from schemas/partners/imt.yaml: all of it is assumed, so no name stands in code."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.bus.settings import ConfigurationError

_C = TypeVar("_C", bound=BaseModel)
_CENT = Decimal("0.01")
_CODE = re.compile(r"[0-9A-Za-z_.-]{1,60}")
_LARGEST = Decimal("9999999999.99")


class WireError(ValueError):
    """A partner's answer that does not read as agreed; the message names the field, never its value."""


class Malformed(ValueError):
    """A field of a partner's request that does not read as agreed: its wire name, and what was expected."""

    def __init__(self, field: str, expected: str) -> None:
        super().__init__(f"{field}: expected {expected}")
        self.field = field
        self.expected = expected


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Operation(_Frozen):
    """One operation: where it stands below the service's address."""

    method: str
    path: str
    query: dict[str, str] = {}
    effect: bool = False

    def url(self, base: str, **values: str | int | None) -> str:
        """The address of one call: path parts quoted whole, known query values under their wire names.

        A value of None is left out of the query. Raises ValueError for a path part that is empty or only
        dots, which would name another resource.
        """
        if not values and "{" not in self.path:
            return base.rstrip("/") + self.path
        path = re.sub(r"\{(\w+)\}", lambda part: _path_part(str(values[part[1]])), self.path)
        asked = {wire: value for name, wire in self.query.items() if (value := values.get(name)) is not None}
        return base.rstrip("/") + path + ("?" + urlencode(asked) if asked else "")


class WireService(_Frozen):
    """One of IMT's services. Every mapping goes from our word to the wire's."""

    operations: dict[str, Operation]
    names: dict[str, str] = Field({}, alias="fields")
    required: tuple[str, ...] = ()
    reply: dict[str, str] = {}
    envelope: dict[str, str] = {}
    limits: dict[str, int] = {}
    causes: dict[str, str] = {}
    indicators: dict[str, str] = {}
    content_type: str = "application/json"

    def out(self, **values: object) -> dict[str, object]:
        """A body for IMT from our names, None left out; raises KeyError for a name that IMT does not have."""
        return {self.names[name]: value for name, value in values.items() if value is not None}

    def read(self, record: object, name: str) -> Any:
        """A field of an answer by our name, None where it is missing or null; WireError for no object."""
        if not isinstance(record, Mapping):
            raise WireError("an object was expected")
        return record.get(self.names.get(name) or self.reply.get(name) or self.envelope[name])

    def cause(self, word: object) -> str | None:
        """Our word for a cause that IMT names, if it is a known one."""
        return next((ours for ours, wire in self.causes.items() if wire == word), None)


class Errors(_Frozen):
    """How IMT says no."""

    names: dict[str, str] = Field(alias="fields")
    statuses: dict[str, int]
    codes: dict[str, str]

    def code(self, body: object) -> str | None:
        """Our word for the code in an error body; the wire's own word where it is not a known one.

        None where there is no code, or a text that is none and so could hold anything.
        """
        word = body.get(self.names["code"]) if isinstance(body, Mapping) else None
        if not isinstance(word, str) or not _CODE.fullmatch(word):
            return None
        return next((ours for ours, wire in self.codes.items() if wire == word), word)


class Auth(_Frozen):
    header: str
    scheme: str

    def headers(self, token: str) -> dict[str, str]:
        """The header that carries the insurer's token."""
        return {self.header: f"{self.scheme} {token}".strip()}


class ImtServices(_Frozen):
    payments_due: WireService
    datapump: WireService
    settings: WireService
    bills: WireService


class Imt(_Frozen):
    """IMT's four services on the wire."""

    auth: Auth
    words: dict[bool, str]
    errors: Errors
    services: ImtServices

    def flag(self, value: bool) -> str:
        """IMT's word for a T/F indicator."""
        return self.words[value]

    def read_flag(self, word: object, name: str) -> bool:
        """The value of a T/F indicator; raises WireError naming the field."""
        for value, wire in self.words.items():
            if word == wire:
                return value
        raise WireError(f"{name} is neither {self.words[True]} nor {self.words[False]}")


class Wire(_Frozen):
    """What the partners' contracts call things."""

    imt: Imt


def load_wire(schemas: Path) -> Wire:
    """Reads the partners' wire names; raises ConfigurationError saying everything that is wrong."""
    return Wire(imt=read_contract(schemas / "partners" / "imt.yaml", Imt))


def read_contract(path: Path, kind: type[_C]) -> _C:
    """One of the partners' contracts; raises ConfigurationError saying everything that is wrong in it."""
    try:
        return kind.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, yaml.YAMLError) as fault:
        raise ConfigurationError([f"{path.name}: cannot be read ({type(fault).__name__})"]) from None
    except ValidationError as fault:
        raise ConfigurationError(
            [f"{path.name}: {'.'.join(map(str, item['loc']))}: {item['msg']}" for item in fault.errors()]
        ) from None


def money(amount: Decimal) -> str:
    """USD as text with two places."""
    return str(amount.quantize(_CENT))


def read_money(raw: object, name: str) -> Decimal:
    """USD to the cent, from text or a number; raises WireError naming the field."""
    if isinstance(raw, bool) or not isinstance(raw, str | int | Decimal):
        raise WireError(f"{name} is not an amount")
    try:
        amount = Decimal(raw)
        exact = amount.quantize(_CENT) if amount.is_finite() and abs(amount) <= _LARGEST else None
    except InvalidOperation:
        exact = None
    if exact is None or exact != amount:
        raise WireError(f"{name} is not an amount to the cent")
    return exact


def instant(at: datetime) -> str:
    """UTC with milliseconds and Z."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def read_instant(raw: object, name: str) -> datetime:
    """An instant in UTC, cut to the millisecond; raises WireError for one without an offset."""
    try:
        at = datetime.fromisoformat(raw) if isinstance(raw, str) else None
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise WireError(f"{name} is not an instant with an offset")
    try:
        utc = at.astimezone(UTC)
    except OverflowError:
        raise WireError(f"{name} is beyond the calendar") from None
    return utc.replace(microsecond=utc.microsecond // 1000 * 1000)


def read_date(raw: object, name: str) -> date:
    """A business day; raises WireError naming the field."""
    try:
        return date.fromisoformat(raw if isinstance(raw, str) else "")
    except ValueError:
        raise WireError(f"{name} is not a date") from None


def _path_part(value: str) -> str:
    if not value.strip("."):
        raise ValueError("a path part that is empty or only dots")
    return quote(value, safe="")
