"""What is set for the demo alone: billers' files with a cut-off that is near."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import yaml

VALID_DAYS = 3650
"""The bills in the repository grow older; their links should not expire for it."""


@dataclass(frozen=True)
class Day:
    """The day that closes: the instant of the cut-off, and its date in each biller's timezone."""

    cut_off: datetime
    days: Mapping[str, date]
    stale_allowed: set[str]


def move_cut_off(billers: Path, cut_off: datetime) -> Day:
    """Lets each biller's day end at `cut_off` (to the second), in its own timezone, from the next start."""
    cut_off = cut_off.replace(microsecond=0)
    days: dict[str, date] = {}
    stale = set()
    for path in sorted(billers.glob("*.yaml")):
        stated = yaml.safe_load(path.read_text(encoding="utf-8"))
        local = cut_off.astimezone(ZoneInfo(stated["timezone"]))
        stated["batch"]["cut_off"] = f"{local:%H:%M:%S}"
        stated["links"]["valid_days"] = VALID_DAYS
        path.write_text(yaml.safe_dump(stated, sort_keys=False), encoding="utf-8")
        days[stated["slug"]] = local.date()
        if stated.get("rtdr", {}).get("on_outage") == "stale":
            stale.add(stated["slug"])
    return Day(cut_off, days, stale)
