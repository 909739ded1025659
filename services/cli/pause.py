"""`billbus pause` and `billbus resume`: holding deliveries back for a while, and letting them go on."""

import asyncio
import sys
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from services.bus.catalog import load_catalog
from services.bus.clock import Clock
from services.bus.pauses import ALL
from services.bus.settings import Settings, load_settings
from services.cli.acting import Reason, Yes, operator_of, require_reason
from services.cli.billers import named_biller
from services.cli.output import FINE, WRONG_USE, AsJson, print_json, stop
from services.cli.records import as_text, plain
from services.events import PausedLane

if TYPE_CHECKING:
    from services.operations.pausing import Change, Wish

PAUSE_EXAMPLES = """Two examples:

  billbus pause acme --reason "IMT maintenance until 06:00" --yes

  billbus pause --all --lane payments.post --reason "IMT restores a backup" --yes"""
RESUME_EXAMPLES = """Two examples:

  billbus resume acme --reason "IMT is back" --yes

  billbus resume --all --lane payments.post --reason "the backup is in place" --yes"""

OfBiller = Annotated[str, typer.Argument(metavar="[BILLER]", help="The biller's slug; or --all.")]
Every = Annotated[bool, typer.Option("--all", help="Every biller, also one that is new.")]
OfLane = Annotated[
    str,
    typer.Option(
        help="Only this lane, such as payments.post, or this clock: poll, recheck. Default: all that calls "
        "the biller's partners."
    ),
]


def pause_deliveries(
    biller: OfBiller = "",
    every: Every = False,
    lane: OfLane = "",
    reason: Reason = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Send nothing of a biller to its partners until it is resumed; what comes in is taken as ever.

    Exit code 0: paused, or was already, or shown; 2: wrong use; 3: unreachable.
    """
    _run(biller, every, lane, reason, yes, as_json, paused=True)


def resume_deliveries(
    biller: OfBiller = "",
    every: Every = False,
    lane: OfLane = "",
    reason: Reason = "",
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Let deliveries go on that were paused: each is made once, in order within an account.

    Without --lane every pause of the biller ends. Exit code 0: they go on, or did already, or shown; 2:
    wrong use; 3: unreachable.
    """
    _run(biller, every, lane, reason, yes, as_json, paused=False)


def _run(biller: str, every: bool, lane: str, reason: str, yes: bool, as_json: bool, *, paused: bool) -> None:
    from services.operations.pausing import wish_of

    if bool(biller) == every:
        stop(WRONG_USE, "Name one biller, or give --all for every one.")
    require_reason(yes=yes, reason=reason)
    settings = load_settings()
    wish = wish_of(settings, biller or ALL, lane or ALL, paused=paused)
    change = asyncio.run(_change(settings, wish, reason.strip(), yes))
    if as_json:
        print_json(_object(change))
    else:
        zone = named_biller(settings.billers, biller, settings.partners).timezone if biller else UTC
        console = Console(soft_wrap=not sys.stdout.isatty(), markup=False, highlight=False)
        for sentence in _sentences(change, zone):
            console.print(sentence)
    raise SystemExit(FINE)


async def _change(settings: Settings, wish: "Wish", reason: str, yes: bool) -> "Change":
    from services.operations.pausing import open_pauses

    async with open_pauses(settings, load_catalog(settings.schemas), Clock()) as desk:
        return await (desk.act(wish, operator_of(settings), reason) if yes else desk.look(wish))


def _object(change: "Change") -> dict[str, Any]:
    return {
        "biller": change.wish.biller,
        "lane": change.wish.lane,
        "wish": "pause" if change.wish.paused else "resume",
        "state": ("done" if change.done else "would be done") if change.needed else "nothing to do",
        "before": [pause_object(change.wish.biller, each) for each in change.before],
        "after": [pause_object(change.wish.biller, each) for each in change.after],
        "still_held_by": [pause_object(biller, each) for biller, each in change.still],
    }


def pause_object(biller: str, pause: PausedLane) -> dict[str, str]:
    """One pause for programs."""
    return {
        "biller": biller,
        "lane": pause.lane,
        "operator": pause.operator,
        "reason": pause.reason,
        "since": as_text(pause.since),
    }


def _sentences(change: "Change", zone: tzinfo) -> list[str]:
    wish = change.wish
    said = _pausing(change, zone) if wish.paused else [_resuming(change)]
    for biller, pause in change.still:
        said.append(f"It is still held: {_named(biller, pause.lane)} is paused{_why(pause, zone)}")
        said.append(f"That ends with: {_resume(biller, pause.lane)}")
    if change.needed and not change.done:
        said.append("Nothing was done; add --yes to do it.")
    return said


def _pausing(change: "Change", zone: tzinfo) -> list[str]:
    wish = change.wish
    (there,) = (each for each in change.after if each.lane == wish.lane)
    what = _named(wish.biller, wish.lane)
    if not change.needed:
        return [f"{what} is paused already{_why(there, zone)}"]
    if not change.done:
        return [f"{what} would be paused."]
    return [f"{what} is paused{_why(there, zone)}", f"That ends with: {_resume(wish.biller, wish.lane)}"]


def _resuming(change: "Change") -> str:
    wish = change.wish
    if not change.needed:
        return f"{_named(wish.biller, wish.lane)} is not paused."
    ended = [each for each in change.before if each not in change.after]
    what = ", ".join(_named(wish.biller, each.lane) for each in ended)
    return f"{what} {'goes on' if change.done else 'would go on'}."


def _named(biller: str, lane: str) -> str:
    return f"{'Everything' if lane == ALL else lane} of {'all billers' if biller == ALL else biller}"


def _resume(biller: str, lane: str) -> str:
    only = "" if lane == ALL else f" --lane {lane}"
    return f"billbus resume {'--all' if biller == ALL else biller}{only}"


def _why(pause: PausedLane, zone: tzinfo) -> str:
    """Who, when and why; what a person typed is shown with nothing in it that a terminal would obey."""
    told = f" by {plain(pause.operator)}" if pause.operator else ""
    reason = f": {plain(pause.reason)}" if pause.reason else ""
    return f"{told} since {as_text(pause.since, zone)}{reason}"
