"""`billbus parked retry` and `dismiss`: shown first, done with --yes, and what came of each is told."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from services.bus.clock import Clock
from services.bus.settings import Settings, load_settings
from services.cli.acting import Reason, Yes, operator_of, require_reason
from services.cli.output import FINE, FOUND, WRONG_USE, stop
from services.cli.parked_choosing import (
    Kind,
    OfBiller,
    OlderThan,
    ParkedAs,
    filters_of,
    named,
    opened,
    refresh,
)
from services.cli.parked_screens import came_object, plan_object, print_line, show_came, show_plan
from services.cli.progress import progress
from services.operations.parked_records import Filters, ParkedRecord

if TYPE_CHECKING:
    from services.operations.parked_acts import Wish
    from services.operations.parked_plan import Choice
    from services.operations.parked_view import ParkedView

RETRY_EXAMPLES = """Two examples:

  billbus parked retry 7d1f0c1e-2b7e-4a55-9d6e-0c3a5d1e9f10 --account 0001234567

  billbus parked retry --all --biller acme --parked-as account_unknown"""
DISMISS_EXAMPLES = """Two examples:

  billbus parked dismiss 7d1f0c1e-2b7e-4a55-9d6e-0c3a5d1e9f10 --yes --reason "posted by hand at IMT, R-8841"

  billbus parked dismiss --all --biller acme --parked-as unsupported"""

MostAtOnce = Annotated[
    int, typer.Option("--most", min=1, max=1000, help="The oldest so many at once; the rest the next time.")
]
Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ID]...", help="PaymentGUID, invoice number or change id, as `list` shows it."),
]
All = Annotated[bool, typer.Option("--all", help="All that match the filters, instead of ids.")]
Wait = Annotated[float, typer.Option("--wait", min=0, max=3600, help="Seconds to wait for what comes of it.")]
LinesOfJson = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to be done with which: those named, or all that match `filters`; `account` for a retry."""

    wish: Wish
    names: Sequence[str]
    filters: Filters | None
    biller: str
    account: str
    most: int
    wait_s: float


def retry_parked(
    names: Ids = None,
    every: All = False,
    biller: OfBiller = "",
    account: Annotated[
        str,
        typer.Option(
            help="With ids: the account for those whose own is not known. With --all: only this account's."
        ),
    ] = "",
    parked_as: ParkedAs = "",
    kind: Kind = "",
    older_than: OlderThan = "",
    most: MostAtOnce = 1000,
    wait: Wait = 60,
    yes: Yes = False,
    reason: Reason = "",
    as_json: LinesOfJson = False,
) -> None:
    """Deliver parked ones again: where a request may have left, the partner is asked first.

    An account that was not known is looked for again, as the intake does. Exit code 0: all are done, or can
    be; 1: some are not; 2: wrong use; 3: unreachable.
    """
    asked = Asked(
        wish="retry",
        names=names or [],
        filters=_filters(names, every, biller, account if every else "", parked_as, kind, older_than),
        biller=biller,
        account="" if every else account,
        most=most,
        wait_s=wait,
    )
    _act(asked, yes, reason, as_json)


def dismiss_parked(
    names: Ids = None,
    every: All = False,
    biller: OfBiller = "",
    account: Annotated[str, typer.Option(help="With --all: only this account's.")] = "",
    parked_as: ParkedAs = "",
    kind: Kind = "",
    older_than: OlderThan = "",
    most: MostAtOnce = 1000,
    wait: Wait = 60,
    yes: Yes = False,
    reason: Reason = "",
    as_json: LinesOfJson = False,
) -> None:
    """Say that nothing more is to be done; --reason stands in the outcome, for all who read it.

    Nothing is sent to a partner, and no replay delivers it again. Exit code 0: all are done, or can be; 1:
    some are not; 2: wrong use; 3: unreachable.
    """
    if not every and account:
        stop(WRONG_USE, "--account goes with --all; an id says enough.")
    asked = Asked(
        wish="dismiss",
        names=names or [],
        filters=_filters(names, every, biller, account, parked_as, kind, older_than),
        biller=biller,
        account="",
        most=most,
        wait_s=wait,
    )
    _act(asked, yes, reason, as_json)


def _filters(
    names: list[str] | None, every: bool, biller: str, account: str, reason: str, kind: str, older_than: str
) -> Filters | None:
    """None where ids are given; ends the command where both or neither are."""
    if bool(names) == every:
        stop(WRONG_USE, "Give ids as `billbus parked list` shows them, or --all with filters.")
    if names and (reason or kind or older_than):
        stop(WRONG_USE, "--parked-as, --kind and --older-than go with --all; an id says enough.")
    return filters_of(biller, account, reason, kind, older_than, Clock().now()) if every else None


def _act(asked: Asked, yes: bool, reason: str, as_json: bool) -> None:
    require_reason(yes=yes, reason=reason)
    settings = load_settings()
    code = asyncio.run(_planned(settings, asked, yes, reason, as_json))
    raise SystemExit(code)


async def _planned(settings: Settings, asked: Asked, yes: bool, reason: str, as_json: bool) -> int:
    """The exit code."""
    from services.operations.parked_acts import DONE, Order, carry_out
    from services.operations.parked_outcomes import OutcomeWatch
    from services.operations.parked_plan import plan_dismissals, plan_retries

    with (
        opened(settings) as (sources, view),
        # heard from before it is read what is parked: what comes in between is not missed
        OutcomeWatch(sources.place, sources.catalog, sources.registry, sources.clock) as watch,
    ):
        await refresh(view)
        parked = _chosen(view, asked)
        with progress("Reading") as told:
            if asked.wish == "retry":
                choices = await plan_retries(sources, parked, asked.account, told)
            else:
                choices = await plan_dismissals(sources, parked, told)
        if not yes:
            return _shown(choices, asked, as_json)
        order = Order(
            wish=asked.wish, operator=operator_of(settings), reason=reason.strip(), wait_s=asked.wait_s
        )
        with progress("Waiting for the outcomes") as told:
            came = await carry_out(sources, watch, choices, order, told)
    if as_json:
        for each in came:
            print_line(came_object(each))
    else:
        show_came(came, asked.wish)
    return FINE if all(each.result in DONE[asked.wish] for each in came) else FOUND


def _chosen(view: ParkedView, asked: Asked) -> list[ParkedRecord]:
    if asked.filters is None:
        found = {each.delivery: each for each in (named(view, n, asked.biller) for n in asked.names)}
        return list(found.values())
    several = view.find(asked.filters, asked.most)
    count = sum(tally.count for tally in view.tallies(asked.filters))
    if count > len(several):
        sys.stderr.write(
            f"{count} match: these are the oldest {len(several)}, the rest comes the next time.\n"
        )
    return several


def _shown(choices: Sequence[Choice], asked: Asked, as_json: bool) -> int:
    """What would be done; the exit code says whether all of it can be."""
    if as_json:
        for each in choices:
            print_line(plan_object(each))
    else:
        show_plan(choices, asked.wish)
    return FOUND if any(each.does == "cannot" for each in choices) else FINE
