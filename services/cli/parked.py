"""`billbus parked`: what waits for a person, what is known of it, and what is done about it."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Annotated

import typer

from services.bus.catalog import load_catalog
from services.bus.clock import Clock
from services.bus.settings import Settings, load_settings
from services.cli.acting import Reason, Yes, operator_of, require_reason
from services.cli.output import FINE, FOUND, WRONG_USE, AsJson, print_json, stop
from services.cli.parked_screens import (
    as_object,
    known_object,
    show_known,
    show_list,
    show_outcome,
    show_plan,
    told_object,
)
from services.cli.progress import progress
from services.cli.records import ShowPersonalData, as_text, refuse_personal_data
from services.operations.parked_records import FAMILIES, Filters, ParkedRecord

if TYPE_CHECKING:
    from services.operations.parked_acts import Wish
    from services.operations.parked_plan import Sources
    from services.operations.parked_view import ParkedView

cli = typer.Typer(help="What waits for a person: list, show, retry, dismiss.", no_args_is_help=True)
MOST_SHOWN = 1000
AGES = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400}
LIST_EXAMPLES = """Two examples:

  billbus parked list --biller acme --older-than 2h

  billbus parked list --kind payment --reason account_unknown --json"""
SHOW_EXAMPLES = """Two examples:

  billbus parked show 7d1f0c1e-2b7e-4a55-9d6e-0c3a5d1e9f10

  billbus parked show INV-0001234 --biller acme --json"""
RETRY_EXAMPLES = """Two examples:

  billbus parked retry 7d1f0c1e-2b7e-4a55-9d6e-0c3a5d1e9f10 --account 0001234567 --yes --reason "told by the payer"

  billbus parked retry --all --biller acme --parked-as account_unknown"""
DISMISS_EXAMPLES = """Two examples:

  billbus parked dismiss 7d1f0c1e-2b7e-4a55-9d6e-0c3a5d1e9f10 --yes --reason "posted by hand at IMT, R-8841"

  billbus parked dismiss --all --biller acme --parked-as unsupported"""

OfBiller = Annotated[str, typer.Option("--biller", help="Only this biller's, times in its timezone.")]
Kind = Annotated[str, typer.Option("--kind", metavar="payment|invoice|setting", help="Only these.")]
ParkedAs = Annotated[
    str, typer.Option("--parked-as", help="Only what is parked for this reason, such as account_unknown.")
]
OlderThan = Annotated[
    str, typer.Option("--older-than", metavar="2h", help="Only what has waited so long: 90s, 15m, 2h, 3d.")
]
Most = Annotated[int, typer.Option("--most", min=1, max=100_000, help="The oldest so many.")]
MostAtOnce = Annotated[
    int, typer.Option("--most", min=1, max=1000, help="The oldest so many at once; the rest the next time.")
]
Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="[ID]...", help="PaymentGUID, invoice number or change id, as `list` shows it."),
]
All = Annotated[bool, typer.Option("--all", help="All that match the filters, instead of ids.")]
Wait = Annotated[
    float, typer.Option("--wait", min=0, max=3600, help="Seconds to wait for what comes of it.")
]


@cli.command("list", epilog=LIST_EXAMPLES)
def list_parked(
    biller: OfBiller = "",
    account: Annotated[str, typer.Option(help="Only this account's: IMT's number, as on the topic.")] = "",
    reason: Annotated[
        str, typer.Option("--reason", "--parked-as", help="Only what is parked for this reason.")
    ] = "",
    kind: Kind = "",
    older_than: OlderThan = "",
    most: Most = MOST_SHOWN,
    personal_data: ShowPersonalData = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line, instants in UTC.")] = False,
) -> None:
    """List what is parked: since when, why, how much; the oldest first, accounts hidden.

    Exit code 0: nothing is parked; 1: something is; 2: wrong use; 3: unreachable.
    """
    settings = load_settings()
    refuse_personal_data(settings, asked_for=personal_data)
    zone, now = _zone(settings, biller), Clock().now()
    filters = _filters(biller, account, reason, kind, older_than, now)
    from services.operations.parked_view import open_view

    with open_view(settings, load_catalog(settings.schemas), Clock()) as view:
        asyncio.run(_refresh(view))
        found, tallies = view.find(filters, most), view.tallies(filters)
    if as_json:
        for each in found:
            _line(as_object(each, now, personal_data=personal_data))
    else:
        show_list(found, tallies, now, zone, personal_data=personal_data)
    if (count := sum(tally.count for tally in tallies)) > len(found):
        sys.stderr.write(f"The oldest {len(found)} of {count} are shown; --most shows more.\n")
    raise SystemExit(FOUND if found else FINE)


@cli.command("show", epilog=SHOW_EXAMPLES)
def show_parked(
    name: Annotated[str, typer.Argument(metavar="ID", help="PaymentGUID, invoice number or change id.")],
    biller: OfBiller = "",
    personal_data: ShowPersonalData = False,
    as_json: AsJson = False,
) -> None:
    """Show all that is known of one: its fact, its outcomes, what to do, and what the partner has now.

    The partner is asked with calls that only read. Exit code 0: shown; 2: no such one is parked, or
    several are; 3: broker or registry unreachable.
    """
    settings = load_settings()
    refuse_personal_data(settings, asked_for=personal_data)
    from services.operations.parked_show import look_at

    async def look() -> None:
        with _sources(settings) as (sources, view):
            await _refresh(view)
            parked = _named(view, name, biller)
            with progress("Reading") as told:
                known = await look_at(sources, parked, told)
        zone = _zone(settings, parked.biller)
        if as_json:
            print_json(known_object(known, sources.catalog, personal_data=personal_data))
        else:
            show_known(known, sources.catalog, sources.clock.now(), zone, personal_data=personal_data)

    asyncio.run(look())


@cli.command("retry", epilog=RETRY_EXAMPLES)
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
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Deliver parked ones again, as safely as ever: where a request may have left, the partner is asked first.

    An account that was not known is looked for again, as the intake does. Exit code 0: all are done, or can
    be; 1: some are not; 2: wrong use; 3: unreachable.
    """
    chosen = _chosen(names, every, biller, account if every else "", parked_as, kind, older_than)
    typed = "" if every else account
    _act("retry", chosen, names or [], biller, typed, most, wait, yes, reason, as_json)


@cli.command("dismiss", epilog=DISMISS_EXAMPLES)
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
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Say that nothing more is to be done; --reason stands in the outcome, for all who read it.

    Nothing is sent to a partner, and no replay delivers it again. Exit code 0: all are done, or can be; 1:
    some are not; 2: wrong use; 3: unreachable.
    """
    if not every and account:
        stop(WRONG_USE, "--account goes with --all; an id says enough.")
    chosen = _chosen(names, every, biller, account, parked_as, kind, older_than)
    _act("dismiss", chosen, names or [], biller, "", most, wait, yes, reason, as_json)
