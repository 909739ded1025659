"""Asking the API server, and building a kustomization, with the same kubectl."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deploy.local.errors import LocalError

LIMIT_S = 300.0
Manifest = dict[str, Any]


@dataclass(frozen=True)
class Answer:
    """What a call printed, and whether it ended well."""

    ok: bool
    out: str
    refusals: tuple[str, ...]


class Kubectl:
    """One kubectl against one API server."""

    def __init__(self, program: Path, config: Path) -> None:
        self._program, self._config = program, config

    def ask(self, *arguments: str, given: Iterable[Manifest] | None = None) -> Answer:
        """Calls it; `given` is what `-f -` reads."""
        text = None
        if given is not None:
            text = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(given)})
        done = subprocess.run(
            [str(self._program), *arguments],
            input=text,
            env={**os.environ, "KUBECONFIG": str(self._config)},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        lines = [line for line in done.stderr.splitlines() if line and not line.startswith("Warning: ")]
        return Answer(done.returncode == 0, done.stdout, tuple(lines))

    def must(self, *arguments: str, given: Iterable[Manifest] | None = None) -> str:
        """The same; raises LocalError where it did not end well."""
        answer = self.ask(*arguments, given=given)
        if not answer.ok:
            raise LocalError(f"kubectl {' '.join(arguments)}:\n" + "\n".join(answer.refusals[-20:]))
        return answer.out

    def rendered(self, folder: Path) -> list[Manifest]:
        """The objects of a kustomization."""
        return [each for each in yaml.safe_load_all(self.must("kustomize", str(folder))) if each]

    def listed(self, kind: str, *options: str) -> Sequence[Manifest]:
        """What there is of a kind."""
        found = json.loads(self.must("get", kind, "-o", "json", *options))
        return list(found["items"])
