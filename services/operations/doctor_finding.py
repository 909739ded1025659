"""What a check of `billbus doctor` says."""

from dataclasses import dataclass
from typing import Literal

State = Literal["fine", "note", "wrong", "unreachable"]
APPLY = "Run: billbus topics apply --yes"


@dataclass(frozen=True)
class Finding:
    """What one check found; `advice` says what to do where it is not fine."""

    check: str
    state: State
    what: str
    advice: str = ""
