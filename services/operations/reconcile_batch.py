"""The batch that was closed against the same day counted again from the log."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from services.events import BatchClosed
from services.operations.reconcile_words import BatchDifference, BatchState

LATE = timedelta(minutes=10)
"""So long after the cut-off a batch that is not closed is a fault."""


def check_batch(
    counted: BatchClosed, closed: BatchClosed | None, now: datetime, *, first: bool
) -> tuple[BatchState, tuple[BatchDifference, ...]]:
    """How the batch stands, and each figure of it that is not what the log gives now.

    Args:
        counted: the day as the log has it.
        closed: what was published, None where nothing was.
        first: it is the first batch of its biller, which begins with the log and not with the day.
    """
    if closed is not None:
        found = tuple(_differing(counted, closed, first=first))
        return ("differs" if found else "agrees"), found
    overdue = now - counted.closed_at > LATE and bool(counted.count or counted.declined)
    return ("not closed" if overdue else "open"), ()


def _differing(counted: BatchClosed, closed: BatchClosed, *, first: bool) -> Iterator[BatchDifference]:
    for what in ("count", "amount", "convenience_fee", "declined", "repeats", "closed_at"):
        ours, theirs = getattr(counted, what), getattr(closed, what)
        if ours != theirs:
            yield BatchDifference(what, str(ours), str(theirs))
    yield from _sums("total", _by_product(counted), _by_product(closed))
    yield from _sums("agent", _by_agent(counted), _by_agent(closed))
    places = {r.partition: (r.begin, r.end) for r in closed.ranges}
    for each in counted.ranges:
        begin, end = places.get(each.partition, (0, 0))
        if each.end != end or (each.begin != begin and not first):
            yield BatchDifference(f"partition {each.partition}", f"{each.begin}-{each.end}", f"{begin}-{end}")


def _by_product(batch: BatchClosed) -> dict[str, str]:
    return {f"{t.tender} {t.product}": f"{t.count}, {t.amount} USD" for t in batch.totals}


def _by_agent(batch: BatchClosed) -> dict[str, str]:
    return {agent.agent: f"{agent.count}, {agent.amount} USD" for agent in batch.agents}


def _sums(what: str, counted: dict[str, str], closed: dict[str, str]) -> Iterator[BatchDifference]:
    for name in sorted(counted.keys() | closed.keys()):
        if counted.get(name) != closed.get(name):
            yield BatchDifference(f"{what} {name}", counted.get(name, "none"), closed.get(name, "none"))
