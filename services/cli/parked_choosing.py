"""Which parked deliveries are meant on the command line, by id or by filter, and where they are read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Annotated

import typer

from services.bus.catalog import load_catalog
from services.bus.clock import Clock
from services.bus.settings import Settings
from services.cli.billers import named_biller
from services.cli.output import WRONG_USE, stop
from services.cli.progress import progress
from services.operations.parked_records import FAMILIES, Filters, ParkedRecord

if TYPE_CHECKING:
    from services.operations.parked_plan import Sources
    from services.operations.parked_view import ParkedView

AGES = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MOST_NAMED = 10
OfBiller = Annotated[str, typer.Option("--biller", help="Only this biller's, times in its timezone.")]
Kind = Annotated[str, typer.Option("--kind", metavar="payment|invoice|setting", help="Only these.")]
ParkedAs = Annotated[
    str, typer.Option("--parked-as", help="Only what is parked for this reason, such as account_unknown.")
]
OlderThan = Annotated[
    str, typer.Option("--older-than", metavar="2h", help="Only what has waited so long: 90s, 15m, 2h, 3d.")
]


def zone_of(settings: Settings, biller: str) -> tzinfo:
    """The biller's timezone, UTC for all of them; ends the command where there is no such biller."""
    return named_biller(settings.billers, biller, settings.partners).timezone if biller else UTC


def zone_known(settings: Settings, biller: str) -> tzinfo:
    """The same of a biller that the bus names, UTC where it has no file here."""
    from services.operations.parked_partner import known_biller

    found = known_biller(settings, biller)
    return found.timezone if found is not None else UTC


def filters_of(biller: str, account: str, reason: str, kind: str, older_than: str, now: datetime) -> Filters:
    """Ends the command where one cannot be read."""
    if kind and kind not in FAMILIES:
        stop(WRONG_USE, f"--kind: {kind!r} is none of {', '.join(FAMILIES)}.")
    before = None
    if older_than:
        told = re.fullmatch(r"([0-9]{1,6})([smhd])", older_than)
        if told is None:
            stop(WRONG_USE, f"--older-than: {older_than!r} is no age such as 90s, 15m, 2h or 3d.")
        before = now - timedelta(seconds=int(told[1]) * AGES[told[2]])
    family = kind or None
    return Filters(biller=biller, account=account, reason=reason, family=family, before=before)


@contextmanager
def opened(settings: Settings) -> Iterator[tuple[Sources, ParkedView]]:
    """The bus to read from, and the view as it was read last."""
    from services.bus.connection import kafka_of
    from services.bus.place import Place
    from services.bus.registry import Registry
    from services.operations.parked_plan import Sources
    from services.operations.parked_view import open_view

    catalog, clock, registry = load_catalog(settings.schemas), Clock(), Registry(settings.registry)
    try:
        with (
            Place(kafka_of(settings), settings.registry) as place,
            open_view(settings, catalog, clock) as view,
        ):
            yield (
                Sources(settings=settings, catalog=catalog, place=place, registry=registry, clock=clock),
                view,
            )
    finally:
        registry.close()


async def refresh(view: ParkedView) -> None:
    """Reads what came since."""
    with progress("Reading outcomes") as told:
        await view.refresh(told)


def named(view: ParkedView, name: str, biller: str) -> ParkedRecord:
    """The one of this id; ends the command where none is parked, or several could be meant."""
    found = view.named(name, biller)
    exact = [each for each in found if each.natural_id == name] or found
    if not exact:
        stop(WRONG_USE, f"Nothing with the id {name!r} is parked; billbus trace shows what became of it.")
    if len(exact) > 1:
        ids = ", ".join(f"{each.natural_id} ({each.family} of {each.biller})" for each in exact[:MOST_NAMED])
        stop(WRONG_USE, f"{len(exact)} that are parked have this id: {ids}. Name one whole, or its --biller.")
    return exact[0]
