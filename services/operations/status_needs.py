"""What of a status needs a person: sentences, the most urgent first, each with the command to run next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.bus.pauses import ALL
from services.operations.status import BillerNow, Status, due_batch
from services.operations.status_broker import LaneLag

BEHIND_S = 300.0
"""A lane so far behind, for no reason that is known, is somebody's business."""
BATCH_LATE, POLL_LATE = timedelta(minutes=10), timedelta(minutes=5)
PAUSED_LONG = timedelta(hours=12)
"""IC expects IMT to have a payment within 24 hours."""
DEAD_SEEN = timedelta(days=7)
"""Dead letters whose newest is older have been seen; they lie there for 90 days."""
RETENTION_USED = 0.5


@dataclass(frozen=True, kw_only=True)
class Need:
    """One sentence, and what to run next."""

    what: str
    run: str


def needs_of(status: Status) -> list[Need]:
    """All that needs a person; empty where all is well."""
    return [
        *_reach(status),
        *_services(status),
        *_stopped(status),
        *_away(status),
        *_behind(status),
        *_late(status),
        *_parked(status),
        *_dead(status),
        *_paused(status),
    ]


def span(seconds: float, units: int = 2) -> str:
    """A length of time as a person says it, cut to its largest units."""
    parts = []
    left = round(seconds)
    for name, size in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        if left >= size:
            parts.append(f"{left // size} {name}")
            left %= size
        elif parts:
            break
    return " ".join(parts[:units]) or "0 s"


def _reach(status: Status) -> Iterator[Need]:
    if status.away:
        yield Need(what=f"{status.away}.", run="billbus doctor")
    for problem in status.problems:
        yield Need(what=f"{problem[0].upper()}{problem[1:]}.", run="billbus doctor")
    if status.missing:
        yield Need(what=f"The broker lacks {', '.join(status.missing)}.", run="billbus topics apply")


def _services(status: Status) -> Iterator[Need]:
    for replica in status.replicas:
        if replica.state == "no answer":
            what = f"{replica.service} does not answer at {replica.address}: {replica.why}."
            yield Need(what=what, run=f"billbus run {replica.service}")
        elif replica.state == "not ready":
            what = f"{replica.service} at {replica.address} is not ready: {replica.why}."
            yield Need(what=what, run="billbus doctor")


def _stopped(status: Status) -> Iterator[Need]:
    for lane, count in sorted(status.measured.halted.items()):
        what = f"{_some(count, 'partition')} of {lane} stopped for a fault that only a person can judge."
        yield Need(what=what, run="billbus doctor --read-only")
    for lag in status.lanes:
        if lag.lost:
            what = f"{lag.lane} has no offset on {_some(len(lag.lost), 'partition')} ({lag.lost[0]})."
            yield Need(what=what, run="billbus doctor --read-only")
    for lane, used in sorted(status.measured.retention.items()):
        if used >= RETENTION_USED:
            what = f"The oldest record of {lane} has used {used:.0%} of its topic's retention."
            yield Need(what=what, run="billbus doctor --read-only")


def _away(status: Status) -> Iterator[Need]:
    for now in status.billers:
        waits = [lane for lane in now.away if now.biller.slug not in _held(status, lane)]
        if waits:
            what = f"A partner of {now.biller.slug} is taken to be away, so this waits: {', '.join(waits)}."
            yield Need(what=what, run="billbus doctor --read-only")


def _held(status: Status, lane: str) -> set[str]:
    """The billers whose lane somebody has paused."""
    held = {biller for biller, pause in status.paused if pause.lane in (ALL, lane)}
    return held | {now.biller.slug for now in status.billers} if ALL in held else held


def _behind(status: Status) -> Iterator[Need]:
    for lag in status.lanes:
        oldest = min(_unexplained(status, lag), default=status.at)
        seconds = (status.at - oldest).total_seconds()
        if seconds >= BEHIND_S:
            count = lag.live + lag.replay + lag.behind_cursors
            what = f"{lag.lane} is {span(seconds)} behind, by {_some(count, 'record')} at most."
            yield Need(what=what, run="billbus doctor --read-only")


def _unexplained(status: Status, lag: LaneLag) -> Iterator[datetime]:
    """Stamps of first unsettled records of those who are neither paused nor behind a partner that is away."""
    away = {now.biller.slug for now in status.billers if lag.lane in now.away}
    held = _held(status, lag.lane) | away
    for head in lag.heads:
        if head.at is not None and head.biller not in held:
            yield head.at


def _late(status: Status) -> Iterator[Need]:
    for now in status.billers:
        due = due_batch(now, status.at)
        if due is not None and status.at - due > BATCH_LATE:
            late = span((status.at - due).total_seconds())
            what = f"The business day of {now.biller.slug} ended {late} ago and is not closed."
            yield Need(what=what, run="billbus doctor --read-only")
        if (late_s := _poll_late_s(status, now)) is not None:
            what = f"IMT was last polled for {now.biller.slug} {span(late_s)} ago."
            yield Need(what=what, run="billbus doctor --read-only")


def _poll_late_s(status: Status, now: BillerNow) -> float | None:
    """Seconds since the last poll that was answered, where that is too long and nobody wanted it so."""
    paused = any(
        pause.lane in (ALL, "poll") for biller, pause in status.paused if biller in (ALL, now.biller.slug)
    )
    if now.polled is None or paused:
        return None
    ago = status.at - now.polled
    limit = max(POLL_LATE, timedelta(seconds=3 * now.biller.poll.every_s))
    return ago.total_seconds() if ago > limit else None


def _parked(status: Status) -> Iterator[Need]:
    for now in status.billers:
        if now.parked:
            count = _some(now.parked, "delivery", "deliveries")
            what = f"Parked, for a person to decide: {count} of {now.biller.slug}."
            if status.parked_since_start:
                what = f"Parked since the services began: {count} of {now.biller.slug}."
            yield Need(what=what, run=f"billbus parked list --biller {now.biller.slug}")


def _dead(status: Status) -> Iterator[Need]:
    for dead in status.dead:
        if dead.records and (dead.newest is None or status.at - dead.newest < DEAD_SEEN):
            ago = f", the newest {span((status.at - dead.newest).total_seconds())} old" if dead.newest else ""
            what = f"{_some(dead.records, 'record')} could not be decoded, on {dead.topic}{ago}."
            short = dead.topic.removeprefix("billing.").replace(".v1.dlq", ".dlq")
            since = (dead.newest or status.at - DEAD_SEEN).date()
            yield Need(what=what, run=f"billbus tail {short} --since {since}")


def _paused(status: Status) -> Iterator[Need]:
    long: dict[str, list[str]] = defaultdict(list)
    for biller, pause in status.paused:
        if status.at - pause.since >= PAUSED_LONG:
            what = "everything" if pause.lane == ALL else pause.lane
            long[biller].append(f"{what} for {span((status.at - pause.since).total_seconds())}")
    for biller, held in long.items():
        whose, way = ("all billers", "--all") if biller == ALL else (biller, biller)
        yield Need(what=f"Of {whose} is still paused: {', '.join(held)}.", run=f"billbus resume {way}")


def _some(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"
