"""The errors that must be refused: each is one change of the manifests of production (planted.yaml)."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.k8s.check.kubectl import Manifest

FILE = Path(__file__).with_name("planted.yaml")
STUCK = Path(__file__).with_name("stuck.yaml")
"""Errors that every server takes, and that only a rollout shows."""
GONE = "gone"


@dataclass(frozen=True)
class Planted:
    """An error: in which object, where (a JSON pointer), which value, and what the refusal must say.

    A value that is not there means that the field is taken away.
    """

    name: str
    kind: str
    of: str
    at: str
    says: str
    value: Any = GONE

    def __str__(self) -> str:
        return self.name

    def into(self, objects: Sequence[Manifest]) -> tuple[list[Manifest], Manifest]:
        """The manifests with this error, and the changed one; raises LookupError where there is none such."""
        changed = deepcopy(list(objects))
        for each in changed:
            if (each["kind"], each["metadata"]["name"]) == (self.kind, self.of):
                _change(each, self.at, self.value)
                return changed, each
        raise LookupError(f"{self.name}: there is no {self.kind} {self.of}")


def load_planted(file: Path = FILE) -> list[Planted]:
    """All of them."""
    return [Planted(**each) for each in yaml.safe_load(file.read_text(encoding="utf-8"))]


def _change(place: Any, pointer: str, value: Any) -> None:
    *steps, last = (part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])
    for step in steps:
        place = place[int(step)] if isinstance(place, list) else place[step]
    key = int(last) if isinstance(place, list) else last
    if value == GONE:
        del place[key]
    else:
        place[key] = value
