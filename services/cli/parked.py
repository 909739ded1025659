"""`billbus parked`: what waits for a person, what is known of it, and what is done about it."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from services.bus.catalog import load_catalog
from services.bus.clock import Clock
from services.bus.settings import load_settings
from services.cli import parked_acting
from services.cli.acting import operator_of
from services.cli.output import FINE, FOUND, AsJson, print_json
from services.cli.parked_choosing import (
    Kind,
    OfBiller,
    OlderThan,
    filters_of,
    named,
    opened,
    refresh,
    zone_known,
    zone_of,
)
from services.cli.parked_known import known_object, show_known
from services.cli.parked_screens import as_object, print_line, show_list
from services.cli.progress import progress
from services.cli.records import ShowPersonalData, refuse_personal_data
from services.operations.personal_use import note_personal_data

LIST_EXAMPLES = """Two examples:

  billbus parked list --biller acme --older-than 2h

  billbus parked list --kind payment --reason account_unknown --json"""
SHOW_EXAMPLES = """Two examples:

  billbus parked show 7d1f0c1e-2b7e-4a55-9d6e-0c3a5d1e9f10

  billbus parked show INV-0001234 --biller acme --json"""

cli = typer.Typer(help="What waits for a person: list, show, retry, dismiss.", no_args_is_help=True)
cli.command("retry", epilog=parked_acting.RETRY_EXAMPLES)(parked_acting.retry_parked)
cli.command("dismiss", epilog=parked_acting.DISMISS_EXAMPLES)(parked_acting.dismiss_parked)
MOST_SHOWN = 1000
Most = Annotated[int, typer.Option("--most", min=1, max=100_000, help="The oldest so many.")]


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
    zone, now = zone_of(settings, biller), Clock().now()
    filters = filters_of(biller, account, reason, kind, older_than, now)
    from services.operations.parked_view import open_view

    with open_view(settings, load_catalog(settings.schemas), Clock()) as view:
        asyncio.run(refresh(view))
        found, tallies = view.find(filters, most), view.tallies(filters)
    if personal_data:
        asyncio.run(
            note_personal_data(settings, Clock(), operator_of(settings), "parked list", biller=biller or None)
        )
    if as_json:
        for each in found:
            print_line(as_object(each, now, personal_data=personal_data))
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
        with opened(settings) as (sources, view):
            await refresh(view)
            parked = named(view, name, biller)
            if personal_data:
                what, whose = f"parked show {parked.natural_id}", parked.biller
                await note_personal_data(settings, Clock(), operator_of(settings), what, biller=whose)
            with progress("Reading") as told:
                known = await look_at(sources, parked, told)
        zone = zone_known(settings, parked.biller)
        if as_json:
            print_json(known_object(known, sources.catalog, personal_data=personal_data))
        else:
            show_known(known, sources.catalog, sources.clock.now(), zone, personal_data=personal_data)

    asyncio.run(look())
