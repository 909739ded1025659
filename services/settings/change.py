"""What IC tells of one change: read by the names and words of schemas/partners/changes.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.bus.identity import digest
from services.bus.support import SupportMatrix, Unsupported
from services.bus.wire import Malformed, read_contract
from services.events import Indicator, NumberKind


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Sets(_Part):
    """What a change of one type sets: a value of its own, or that of a field, as it is or inverted.

    `everywhere`: on all of the account's numbers, whichever of them was named.
    """

    indicator: Indicator
    value: bool | None = None
    value_of: str | None = None
    inverse: bool = False
    cause: str | None = None
    id_suffix: str = ""
    everywhere: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.value is None) == (self.value_of is None):
            raise ValueError("give either value or value_of")
        return self


class ChangeType(_Part):
    sets: tuple[Sets, ...] = Field(min_length=1)


class Names(_Part):
    """The wire names of a change's fields."""

    id: str
    changed_at: str
    type: str
    account: str
    policy: str
    biller_guid: str


class ChangeContract(_Part):
    """How IC's change log is written; all of it assumed."""

    title: str
    version: int
    assumed: bool
    envelope: str
    max_items: int = Field(gt=0)
    names: Names = Field(alias="fields")
    changed_at_required: bool
    max_id_length: int = Field(gt=0)
    max_number_length: int = Field(gt=0)
    words: Mapping[str, bool]
    types: Mapping[str, ChangeType]
    not_supported: Mapping[str, str]


def load_contract(partners: Path) -> ChangeContract:
    """Reads changes.yaml; raises ConfigurationError with everything wrong in it."""
    return read_contract(partners / "changes.yaml", ChangeContract)


@dataclass(frozen=True, slots=True)
class Change:
    """One setting as IC changed it, in our words; `changed_at` in UTC. `number` stands as it was sent."""

    change_id: str
    number: str
    number_kind: NumberKind
    indicator: Indicator
    value: bool
    changed_at: datetime | None
    cause: str | None
    everywhere: bool = False

    @property
    def content(self) -> str:
        """Digest of what makes it this change."""
        at = self.changed_at.isoformat() if self.changed_at else None
        return digest(self.number, self.number_kind, self.indicator, self.value, at, self.cause)


class ChangeReader:
    """Reads the changes of one contract."""

    def __init__(self, contract: ChangeContract, support: SupportMatrix) -> None:
        self.contract = contract
        self._support = support

    def read(self, told: object, biller_guid: str, timezone: ZoneInfo) -> list[Change]:
        """The settings that one change makes; the first one carries IC's own id.

        Raises:
            Malformed: naming the first field that does not read as agreed.
            Unsupported: the type asks for a row that is not supported.
        """
        if not isinstance(told, Mapping):
            raise Malformed("change", "an object")
        names = self.contract.names
        change_id = self._text(told, names.id, self.contract.max_id_length)
        kind = self._type(told)
        if str(told.get(names.biller_guid) or biller_guid).lower() != biller_guid.lower():
            raise Malformed(names.biller_guid, "the GUID of the biller in the path")
        number, number_kind = self._number(told)
        at = self._instant(told, timezone)
        return [
            Change(
                change_id=change_id + sets.id_suffix,
                number=number,
                number_kind=number_kind,
                indicator=sets.indicator,
                value=self._value(told, sets),
                changed_at=at,
                cause=sets.cause,
                everywhere=sets.everywhere,
            )
            for sets in kind.sets
        ]

    def named(self, told: object) -> str | None:
        """The id under which an answer names the change, as far as it can be repeated."""
        told_id = told.get(self.contract.names.id) if isinstance(told, Mapping) else None
        if not isinstance(told_id, str) or not told_id.isprintable():
            return None
        return told_id if len(told_id) <= self.contract.max_id_length else None

    def _type(self, told: Mapping[str, object]) -> ChangeType:
        names, types = self.contract.names, self.contract.types
        word = told.get(names.type)
        if isinstance(word, str):
            if word in types:
                return types[word]
            slug = self.contract.not_supported.get(word)
            row = self._support.row(slug) if slug else self._support.change(word)
            if row is not None and not row.supported:
                raise Unsupported(row)
        raise Malformed(names.type, f"one of {', '.join(types)}")

    def _number(self, told: Mapping[str, object]) -> tuple[str, NumberKind]:
        names, longest = self.contract.names, self.contract.max_number_length
        if told.get(names.account) not in (None, ""):
            return self._text(told, names.account, longest), "account"
        if told.get(names.policy) not in (None, ""):
            return self._text(told, names.policy, longest), "policy"
        raise Malformed(names.account, f"an account number, or a policy number in {names.policy}")

    def _text(self, told: Mapping[str, object], field: str, longest: int) -> str:
        value = told.get(field)
        if not isinstance(value, str) or not value.strip() or len(value) > longest or not value.isprintable():
            raise Malformed(field, f"text of 1 to {longest} characters")
        return value

    def _value(self, told: Mapping[str, object], sets: Sets) -> bool:
        if sets.value_of is None:
            assert sets.value is not None
            return sets.value
        word = told.get(sets.value_of)
        value = word if isinstance(word, bool) else self.contract.words.get(str(word).strip().lower())
        if value is None:
            raise Malformed(sets.value_of, "True or False")
        return not value if sets.inverse else value

    def _instant(self, told: Mapping[str, object], timezone: ZoneInfo) -> datetime | None:
        field = self.contract.names.changed_at
        text = told.get(field)
        if text in (None, "") and not self.contract.changed_at_required:
            return None
        try:
            at = datetime.fromisoformat(text if isinstance(text, str) else "")
        except ValueError:
            at = None
        if at is None or not 1990 <= at.year <= 2200:
            raise Malformed(field, "an instant such as 2026-11-20T14:03:00Z")
        utc = (at if at.tzinfo else at.replace(tzinfo=timezone)).astimezone(UTC)
        return utc.replace(microsecond=utc.microsecond // 1000 * 1000)
