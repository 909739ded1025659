"""Secrets of the demo billers: made up at random on this machine, never committed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path

KINDS = ("imt-token", "ic-key", "intake-password", "intake-bearer", "link-key")


def make_secrets(folder: Path, billers: Iterable[str]) -> None:
    """Writes a file for each secret of each biller (by slug) that has none yet, for its owner's eyes only."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for slug in billers:
        for kind in KINDS:
            _write_once(folder / f"{slug}-{kind}", secrets.token_urlsafe(32))


def _write_once(path: Path, value: str) -> None:
    if path.exists():
        return
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(value)
    part.replace(path)
