"""What the headers of a record on `.replay` or `.dlq` say of it, for a person."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.bus.replayed import ACT, ATTEMPT, ORIGIN_OFFSET, ORIGIN_PARTITION, REASON, RUN

LANE = "billbus_lane"
"""Header of a dead letter: which lane, or which table, could not read it."""


@dataclass(frozen=True, kw_only=True)
class Beside:
    """`origin` is partition@offset on the live topic; each is None where no header says it.

    Of a re-emitted record: run, act, attempt and reason. Of a dead letter: reason and lane.
    """

    origin: str | None
    reason: str | None
    run: str | None = None
    act: str | None = None
    attempt: str | None = None
    lane: str | None = None


def beside_of(headers: Mapping[str, str]) -> Beside:
    """Whatever the headers hold is text, never trusted to be a number."""
    partition, offset = headers.get(ORIGIN_PARTITION), headers.get(ORIGIN_OFFSET)
    return Beside(
        origin=f"{partition}@{offset}" if partition and offset else None,
        reason=headers.get(REASON),
        run=headers.get(RUN),
        act=headers.get(ACT),
        attempt=headers.get(ATTEMPT),
        lane=headers.get(LANE),
    )
