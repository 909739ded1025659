"""The differences of a day as plain values, and as a CSV file that a spreadsheet may open."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from services.bus.log import mask_account
from services.operations.reconcile_words import WORDS, Difference, Summary

COLUMNS = tuple(field.name for field in fields(Difference))
STARTS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def shown(
    differences: Iterable[Difference], summary: Summary, *, personal_data: bool
) -> Iterator[dict[str, Any]]:
    """Each difference with what it means and what to do; accounts masked without `personal_data`."""
    biller, day = summary.biller.slug, summary.day
    for difference in differences:
        values = asdict(difference)
        if not personal_data:
            masked = ((name, values[name]) for name in ("account", "imt_account"))
            values |= {name: account and mask_account(account) for name, account in masked}
        means, advice = WORDS[difference.kind]
        advice = advice.format(biller=biller, day=day, guid=difference.payment_guid)
        yield values | {"means": means, "what_to_do": advice}


def write_csv(path: Path, differences: Iterable[Difference], summary: Summary, *, personal_data: bool) -> int:
    """Writes one row a difference, readable to its owner alone; how many. Raises OSError.

    A cell that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    count = 0
    path.touch(mode=0o600)
    path.chmod(0o600)  # also one that was there
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow((*COLUMNS, "means", "what_to_do"))
        for values in shown(differences, summary, personal_data=personal_data):
            writer.writerow([cell(value) for value in values.values()])
            count += 1
    return count


def cell(value: object) -> str:
    """A value as the text of a cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(STARTS_A_FORMULA) else text
