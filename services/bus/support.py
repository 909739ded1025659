"""What the integration supports, row by row, and what it refuses by name (schemas/partners/support.yaml)."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from services.bus.settings import ConfigurationError

Kind = Literal["data", "product", "feature", "equipment"]
Place = Literal[
    "request",
    "bif_column",
    "payment_product",
    "payment_device",
    "payment_schedule",
    "change_type",
    "biller_field",
    "switch",
]
SECTIONS: dict[Kind, str] = {
    "data": "data",
    "product": "products",
    "feature": "features",
    "equipment": "equipment",
}


class Surface(BaseModel):
    """Where a row can really be asked for. `value` is a path, a column, a wire value or a field's value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    at: Place
    value: str
    assumed: bool = False

    def __str__(self) -> str:
        return f"{self.at.replace('_', ' ')} {self.value}"


class Row(BaseModel):
    """One row of the table of data structures, products, features and equipment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slug: str
    name: str
    kind: Kind
    status: Literal["supported", "custom", "not_supported"]
    detail: str = ""
    """The table's own words."""
    sentence: str
    """What it does; for a row that is not supported: why, and what to do instead."""
    optional: bool = False
    """A biller may leave it off: it works only where the biller's file switches it on."""
    enforced_at: tuple[Surface, ...]
    test: str

    @property
    def supported(self) -> bool:
        return self.status != "not_supported"

    @property
    def problem_type(self) -> str:
        """The `type` of the problem+json that refuses it."""
        return f"urn:billbus:unsupported:{self.slug}"

    @property
    def title(self) -> str:
        """The `title` of the problem+json that refuses it."""
        return f"Not supported: {self.name}"

    @property
    def surfaces(self) -> tuple[Surface, ...]:
        """Everywhere it can be asked for; the switch in a biller's file is always one of them."""
        return (*self.enforced_at, Surface(at="switch", value=f"{SECTIONS[self.kind]}.{self.slug}"))


class Unsupported(Exception):
    """Somebody asked for what is not supported; answered with the row's name and sentence."""

    def __init__(self, row: Row) -> None:
        self.row = row
        super().__init__(f"{row.title}. {row.sentence}")


class SupportMatrix:
    """The whole table, with look-ups by slug and by what a partner writes."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = tuple(rows)
        self._by_slug = {row.slug: row for row in self.rows}
        self._by_wire = {
            (surface.at, wire(surface.value)): row for row in self.rows for surface in row.surfaces
        }

    @classmethod
    def load(cls, path: Path) -> "SupportMatrix":
        """Reads the table; raises ConfigurationError with everything wrong in it."""
        try:
            stated = yaml.safe_load(path.read_text(encoding="utf-8"))["rows"]
        except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
            raise ConfigurationError([f"{path}: {error}"]) from None
        rows, problems = [], []
        for number, item in enumerate(stated, start=1):
            try:
                rows.append(Row.model_validate(item))
            except ValidationError as error:
                problems += [f"{path}: row {number}: {e['loc']}: {e['msg']}" for e in error.errors()]
        slugs = [row.slug for row in rows]
        problems += [f"{path}: {slug} twice" for slug in sorted(set(slugs)) if slugs.count(slug) > 1]
        if problems:
            raise ConfigurationError(problems)
        return cls(rows)

    def row(self, slug: str) -> Row:
        """The row of a slug; KeyError when there is none."""
        return self._by_slug[slug]

    def product(self, wire_value: str) -> Row | None:
        """The row of the product a payment names, in whatever case and punctuation; None: no such row."""
        return self.asked("payment_product", wire_value)

    def device(self, wire_value: str) -> Row | None:
        """The row of the device that a payment names; an unknown one counts as `other_emv_devices`."""
        if not wire(wire_value):
            return None
        return self.asked("payment_device", wire_value) or self.row("other_emv_devices")

    def schedule(self, wire_value: str) -> Row | None:
        """The row of the kind of schedule that a payment names."""
        return self.asked("payment_schedule", wire_value)

    def change(self, wire_value: str) -> Row | None:
        """The row of the type of change that IC's change log names."""
        return self.asked("change_type", wire_value)

    def asked(self, at: Place, value: str) -> Row | None:
        """The row that is asked for by a value at a place; None: that value asks for no row."""
        return self._by_wire.get((at, wire(value)))

    def switches(self, kind: Kind, switched: Mapping[str, bool]) -> list[str]:
        """What is wrong with one section of switches in a biller's file, a sentence each."""
        problems = []
        for slug, on in switched.items():
            row = self._by_slug.get(slug)
            if row is None or row.kind != kind:
                known = ", ".join(sorted(r.slug for r in self.rows if r.kind == kind))
                problems.append(f"{SECTIONS[kind]}.{slug}: unknown; known are {known}")
            elif on and not row.supported:
                problems.append(f"{SECTIONS[kind]}.{slug}: {row.title}. {row.sentence}")
            elif not on and row.supported and not row.optional:
                problems.append(
                    f"{SECTIONS[kind]}.{slug}: {row.name} belongs to every biller and cannot be switched off"
                )
        return problems


@lru_cache(maxsize=4096)
def wire(value: str) -> str:
    """A wire value as it is compared: letters and digits only, lower case; paths keep their slashes."""
    return re.sub(r"[^a-z0-9/{}=]", "", value.casefold())
