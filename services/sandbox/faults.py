"""Faults that a partner can be told to have: which of its operations, how often, and for whom."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

FaultKind = Literal[
    "slow",  # waits delay_s, then answers
    "apply_then_hang",  # the effect, then no answer: the connection ends after delay_s
    "hang_then_apply",  # waits delay_s whoever still listens, then the effect, never an answer
    "error",  # 500 before any effect
    "error_after",  # 500 after the effect
    "reset",  # the connection is reset, `when` before or after the effect
    "reject",  # the partner's own no: a business 4xx, or Success=false
    "refuse_whole",  # the partner's no to a call of many items, without a word on any of them
    "omit_result",  # the effect of an item, then an answer without a result for it
    "maintenance",  # 503 and a page
    "wrong_content_type",  # 200 and a page, as a proxy answers; `when` says whether there was an effect
    "wrong_body",  # the right content type, but not what it says; after the effect
    "truncated",  # the effect, then half of the answer
    "empty_success",  # the effect, then its status without a body
]
KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
# Meant for what takes effect; look-ups have them only when they are named or have no sibling with an effect.
_OF_EFFECTS = frozenset(
    {
        "apply_then_hang",
        "hang_then_apply",
        "error_after",
        "reject",
        "refuse_whole",
        "omit_result",
        "truncated",
        "empty_success",
    }
)
_OF_ITEMS = frozenset({"reject", "omit_result"})
_DELAYS = {"slow": 0.5, "apply_then_hang": 30.0, "hang_then_apply": 30.0}
_AFTER = frozenset({"reset"})


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation of a partner, such as imt.datapump.post_payment."""

    name: str
    effect: bool = False


class FaultSpec(BaseModel):
    """A fault as it is asked for."""

    model_config = ConfigDict(extra="forbid")

    service: str = Field(description="imt, imt.datapump, imt.datapump.post_payment, ic, ic.soap, ...")
    kind: FaultKind
    operation: str | None = None
    biller: str | None = Field(default=None, description="Only this insurer's calls.")
    subject: str | None = Field(
        default=None, description="Only calls about this GUID, invoice, account, number or bill."
    )
    fraction: float = Field(default=1.0, ge=0, le=1, description="How many of the calls, drawn at random.")
    count: int | None = Field(
        default=None, ge=1, description="At most so many calls; none: until it is taken away."
    )
    skip: int = Field(default=0, ge=0, description="The first calls that it would have hit go well.")
    delay_s: Annotated[float, Field(ge=0, le=3600)] | None = None
    when: Literal["before", "after"] | None = Field(
        default=None, description="Of reset and wrong_content_type."
    )
    seed: int = Field(default=1, description="The same seed draws the same calls.")


class UnknownOperation(ValueError):
    """No operation of that name; the message lists those that there are."""


@dataclass(slots=True)
class Fault:
    """A fault that is switched on."""

    id: int
    spec: FaultSpec
    operations: frozenset[str]
    random: Random
    matched: int = 0
    hits: int = 0

    @property
    def kind(self) -> FaultKind:
        return self.spec.kind

    @property
    def delay_s(self) -> float:
        """Seconds that it waits."""
        given = self.spec.delay_s
        return _DELAYS.get(self.kind, 0.0) if given is None else given

    @property
    def after_effect(self) -> bool:
        """Of a kind that can be either: whether the effect is made first."""
        default = "after" if self.kind in _AFTER else "before"
        return (self.spec.when or default) == "after"

    def fires(self, operation: str, biller: str, subjects: Iterable[str]) -> bool:
        """Whether this call is hit; counts."""
        spec = self.spec
        if operation not in self.operations or (spec.biller is not None and spec.biller != biller):
            return False
        if spec.subject is not None and spec.subject.lower() not in map(str.lower, subjects):
            return False
        if spec.count is not None and self.hits >= spec.count:
            return False
        self.matched += 1
        if self.matched <= spec.skip or (spec.fraction < 1 and self.random.random() >= spec.fraction):
            return False
        self.hits += 1
        return True

    def shown(self) -> dict[str, object]:
        """As the control API shows it."""
        return {
            "id": self.id,
            **self.spec.model_dump(exclude_none=True),
            "delay_s": self.delay_s,
            "operations": sorted(self.operations),
            "matched": self.matched,
            "hits": self.hits,
        }


@dataclass(slots=True)
class Faults:
    """The faults that are on, in the order they were switched on; the first that fires is the one."""

    operations: tuple[Operation, ...]
    on: list[Fault] = field(default_factory=list)
    _ids: "count[int]" = field(default_factory=lambda: count(1))

    def add(self, spec: FaultSpec) -> Fault:
        """Switches a fault on; raises UnknownOperation."""
        fault = Fault(next(self._ids), spec, self._meant(spec), Random(spec.seed))  # noqa: S311 - draws faults
        self.on.append(fault)
        return fault

    def remove(self, fault_id: int) -> bool:
        """Switches one off; whether it was on."""
        left = [fault for fault in self.on if fault.id != fault_id]
        was_on = len(left) < len(self.on)
        self.on = left
        return was_on

    def clear(self) -> int:
        """Switches all off; how many were on."""
        were_on, self.on = len(self.on), []
        return were_on

    def pick(
        self, operation: str, biller: str, subjects: Iterable[str], *, each: bool = True, whole: bool = True
    ) -> Fault | None:
        """The fault that hits this call, if any.

        A call of many items is asked for as a `whole`, and `each` item by itself: some kinds hit items.
        """
        for fault in self.on:
            fits = each if fault.kind in _OF_ITEMS else whole
            if fits and fault.fires(operation, biller, subjects):
                return fault
        return None

    def _meant(self, spec: FaultSpec) -> frozenset[str]:
        scope = spec.service if spec.operation is None else f"{spec.service}.{spec.operation}"
        scope = scope.replace("-", "_").lower()
        named = [one for one in self.operations if one.name == scope or one.name.startswith(scope + ".")]
        if not named:
            raise UnknownOperation(f"no operation {scope}; there are {', '.join(_names(self.operations))}")
        with_effect = [one for one in named if one.effect]
        return frozenset(_names(with_effect if with_effect and spec.kind in _OF_EFFECTS else named))


def _names(operations: Iterable[Operation]) -> list[str]:
    return [one.name for one in operations]
