"""A status for people, at any width, and the same for programs."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from services.bus.pauses import ALL
from services.cli.pause import pause_object
from services.cli.records import as_text, plain
from services.operations.status import BillerNow, Status, seconds_behind
from services.operations.status_broker import LaneLag
from services.operations.status_needs import Need, span

SIDE_BY_SIDE = 150
"""Characters from which on the two halves stand beside each other."""
MOST_NEEDS, MOST_ROWS = 20, 40
"""So many are shown; --json has all."""
GOOD, BAD, HELD = "green", "bold red", "yellow"


def screen(status: Status, needs: Sequence[Need], width: int) -> RenderableType:
    """Everything, what needs a person first."""
    left = [_services(status), _lanes(status), _dead(status)]
    right = [_billers(status), _pauses(status)]
    if width < SIDE_BY_SIDE:
        return Group(_head(status, needs), *_spaced([*left, *right]))
    halves = Table.grid(padding=(0, 4))
    halves.add_row(Group(*_spaced(left)), Group(*_spaced(right)))
    return Group(_head(status, needs), halves)


def _spaced(parts: Iterable[RenderableType]) -> list[RenderableType]:
    return [each for part in parts for each in (Text(""), part)]


def _head(status: Status, needs: Sequence[Need]) -> RenderableType:
    at = status.at.replace(microsecond=0).isoformat().replace("+00:00", "Z")
    if not needs:
        return Text.assemble((f"billbus at {at}: ", "bold"), ("all is well", GOOD))
    count = "one thing needs" if len(needs) == 1 else f"{len(needs)} things need"
    lines = Table.grid(padding=(0, 1))
    for need in needs[:MOST_NEEDS]:
        lines.add_row(Text("  !", BAD), Text(plain(need.what)))
        lines.add_row("", Text(need.run, "cyan"))
    if len(needs) > MOST_NEEDS:
        lines.add_row("", f"... and {len(needs) - MOST_NEEDS} more; --json has all")
    return Group(Text.assemble((f"billbus at {at}: ", "bold"), (f"{count} a person", BAD)), lines)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=None)
    for column in columns:
        right = column in ("records", "replay", "parked")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    return table


def _services(status: Status) -> RenderableType:
    table = _table("Services", "service", "ready", "what it lacks")
    for name in dict.fromkeys(replica.service for replica in status.replicas):
        ours = [replica for replica in status.replicas if replica.service == name]
        ready = sum(replica.state == "ready" for replica in ours)
        lacks = "; ".join(
            f"{each.address}: {each.why or each.state}" for each in ours if each.state != "ready" or each.why
        )
        style = GOOD if ready == len(ours) else BAD
        table.add_row(name, Text(f"{ready} of {len(ours)}", style), Text(plain(lacks)))
    return table


def _lanes(status: Status) -> RenderableType:
    if not status.lanes:
        return Text("Lanes: not known, the broker does not answer", BAD)
    table = _table("Lanes", "lane", "records", "replay", "behind", "cursors", "stopped")
    for lag in status.lanes:
        behind = seconds_behind(lag, status.at)
        told = "not known" if behind is None else span(behind) if lag.heads else "-"
        halted = status.measured.halted.get(lag.lane, 0) + len(lag.lost)
        stopped = Text(f"{halted} partitions", BAD) if halted else Text("-")
        table.add_row(lag.lane, f"{lag.live:,}", f"{lag.replay:,}", told, _cursors(lag), stopped)
    return table


def _cursors(lag: LaneLag) -> str:
    return f"{lag.cursors}, {lag.behind_cursors:,} records at most" if lag.cursors else "-"


def _dead(status: Status) -> RenderableType:
    there = [dead for dead in status.dead if dead.records]
    if not there:
        return Text("Dead letters: not known" if status.away and not status.dead else "Dead letters: none")
    table = _table("Dead letters", "topic", "records", "newest")
    for dead in there:
        age = span((status.at - dead.newest).total_seconds()) + " ago" if dead.newest else "not known"
        table.add_row(dead.topic, f"{dead.records:,}", age)
    return table


def _billers(status: Status) -> RenderableType:
    known = any(replica.state != "no answer" for replica in status.replicas)
    table = _table("Billers", "biller", "last batch", "next cut-off", "last poll", "parked", "partners")
    for now in sorted(status.billers, key=_quiet)[:MOST_ROWS]:
        polled = span((status.at - now.polled).total_seconds(), 1) + " ago" if now.polled else "-"
        parked = "-" if now.parked is None else f"{now.parked:,}"
        partners = _partners(now) if known or now.paused else Text("-")
        table.add_row(now.biller.slug, _batch(now), _cut_off(now, status.at), polled, parked, partners)
    if len(status.billers) > MOST_ROWS:
        table.add_row(f"... {len(status.billers) - MOST_ROWS} more")
    return table


def _quiet(now: BillerNow) -> tuple[bool, str]:
    return not (now.away or now.paused or now.parked), now.biller.slug


def _batch(now: BillerNow) -> str:
    return f"{now.batch.batch_day}: {now.batch.count:,}" if now.batch else "-"


def _cut_off(now: BillerNow, at: datetime) -> str:
    local = now.next_cut_off.astimezone(now.biller.timezone)
    return f"{local:%H:%M %Z} in {span((now.next_cut_off - at).total_seconds(), 1)}"


def _partners(now: BillerNow) -> Text:
    if now.paused:
        return Text("paused", HELD)
    if now.away:
        return Text(f"away: {', '.join(now.away)}", BAD)
    return Text("there", GOOD)


def _pauses(status: Status) -> RenderableType:
    if not status.paused:
        return Text("Pauses: not known" if status.away else "Pauses: none")
    zones = {now.biller.slug: now.biller.timezone for now in status.billers}
    table = _table("Pauses", "of", "what", "since", "by", "why")
    for biller, pause in status.paused[:MOST_ROWS]:
        since = pause.since.astimezone(zones.get(biller, UTC))
        table.add_row(
            "all billers" if biller == ALL else biller,
            Text("everything" if pause.lane == ALL else pause.lane, HELD),
            f"{since:%Y-%m-%d %H:%M %Z}",
            Text(plain(pause.operator)),
            Text(plain(pause.reason)),
        )
    return table


# -- for programs --------------------------------------------------------------------------------------


def as_object(status: Status, needs: Sequence[Need]) -> dict[str, Any]:
    """As docs/operators/status.md has it; instants in UTC."""
    return {
        "at": as_text(status.at),
        "needs": [{"what": need.what, "run": need.run} for need in needs],
        "away": status.away or None,
        "services": [
            {"service": each.service, "address": each.address, "state": each.state, "why": each.why or None}
            for each in status.replicas
        ],
        "lanes": [_lane_object(status, lag) for lag in status.lanes],
        "breakers": [{"lane": lane, "biller": biller} for lane, biller in sorted(status.measured.breakers)],
        "pauses": [pause_object(biller, pause) for biller, pause in status.paused],
        "billers": [_biller_object(now) for now in status.billers],
        "parked_since_start": status.parked_since_start,
        "dead_letters": [
            {"topic": each.topic, "records": each.records, "newest": _instant(each.newest)}
            for each in status.dead
        ],
    }


def _lane_object(status: Status, lag: LaneLag) -> dict[str, Any]:
    return {
        "lane": lag.lane,
        "records": lag.live,
        "replay": lag.replay,
        "seconds_behind": seconds_behind(lag, status.at),
        "cursors": lag.cursors,
        "behind_cursors": lag.behind_cursors,
        "halted": status.measured.halted.get(lag.lane, 0),
        "without_offset": list(lag.lost),
    }


def _biller_object(now: BillerNow) -> dict[str, Any]:
    batch = now.batch
    return {
        "biller": now.biller.slug,
        "timezone": str(now.biller.timezone),
        "next_cut_off": as_text(now.next_cut_off),
        "last_batch": None
        if batch is None
        else {
            "day": str(batch.batch_day),
            "count": batch.count,
            "amount": str(batch.amount),
            "closed_at": as_text(batch.closed_at),
        },
        "last_poll": _instant(now.polled),
        "parked": now.parked,
    }


def _instant(at: datetime | None) -> str | None:
    return None if at is None else as_text(at)
