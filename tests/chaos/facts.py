"""What the judge of a storm goes by, seen from outside: answers, ledger, topics, dead letters.

Instants are seconds since 1970 of the one machine on which everything runs; None: it never came to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NamedTuple

from deploy.local.day.facts import Id, Outcome

CONFLICT = "conflict"


class Place(NamedTuple):
    """Where a record stands on its topic."""

    partition: int
    offset: int


@dataclass(slots=True)
class Payment:
    """One payment that the client sends. `planted`: words in the reason for which it must be parked, else ''.

    A planted conflict has the GUID of another payment; what is known of it stands under `GUID#`.
    """

    biller: str
    guid: str
    account: str
    amount: Decimal
    planted: str = ""
    wire: dict[str, Any] = field(default_factory=dict)
    sent: float | None = None
    accepted: float | None = None
    refused: str = ""
    tries: int = 0

    @property
    def id(self) -> Id:
        return self.biller, self.guid + "#" * (self.planted == CONFLICT)


@dataclass(frozen=True, slots=True)
class Effect:
    """A row of the partner's ledger: a payment posted, or an indicator set by a change."""

    seq: int
    at: float
    biller: str
    id: str
    account: str
    amount: Decimal | None = None
    indicator: str = ""


@dataclass(slots=True)
class Change:
    """One change of an account's indicator; `instant` is IC's own, by which the newest wins."""

    biller: str
    id: str
    account: str
    indicator: str
    instant: float
    wire: dict[str, Any] = field(default_factory=dict)
    sent: float | None = None
    accepted: float | None = None
    refused: str = ""
    tries: int = 0


@dataclass(slots=True)
class Window:
    """What was injected, and how often, from `begin` until the next window begins.

    `bound_s`: how long accounts that are not in doubt may stand still; None: no such promise.
    `struck`: when it had certainly happened, if later than `begin`: a killed process was at work until then.
    """

    name: str
    begin: float
    injected: int = 1
    bound_s: float | None = None
    said: str = ""
    struck: float = 0.0


@dataclass
class Facts:
    """Everything that is known after a storm.

    `places`: where each payment's first record stands; `copies`: how many records there are of it.
    `poison`: undecodable records written; `dead`: those that the dead letters name.
    """

    windows: list[Window]
    payments: list[Payment]
    effects: list[Effect]
    places: Mapping[Id, Place]
    copies: Mapping[Id, int]
    outcomes: list[Outcome]
    poison: Mapping[Place, float] = field(default_factory=dict)
    dead: set[Place] = field(default_factory=set)
    changes: list[Change] = field(default_factory=list)
    settings: list[Effect] = field(default_factory=list)
