"""`billbus export`: a topic's business day as Parquet, for analysts."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from services.bus.catalog import load_catalog
from services.bus.clock import Clock
from services.bus.settings import Settings, load_settings
from services.cli.acting import operator_of
from services.cli.billers import named_biller
from services.cli.output import FINE, FOUND, WRONG_USE, AsJson, print_json, print_table, stop
from services.cli.records import ShowPersonalData, named_topic, refuse_personal_data
from services.operations.personal_use import note_personal_data

if TYPE_CHECKING:
    from services.operations.export import Report, Wanted

EXAMPLES = """Two examples:

  billbus export payment.received --day 2026-11-20 --to lake

  billbus export billing.payment.outcome.v1 --day 2026-11-20 --biller acme --to lake --json"""


def export_topic(
    topic: Annotated[str, typer.Argument(help="Its name, or the short one: payment.received.")],
    day: Annotated[str, typer.Option(help="The business day, such as 2026-11-20: each biller's own.")],
    to: Annotated[Path, typer.Option(help="The folder for TOPIC/biller=…/day=…/part-0.parquet.")],
    biller: Annotated[str, typer.Option(help="Only this biller's; default: every biller's.")] = "",
    personal_data: ShowPersonalData = False,
    as_json: AsJson = False,
) -> None:
    """Write a topic's business day as Parquet; what is there of that day is replaced.

    A day is what the broker took until the biller's cut-off, as for batches. Personal data is left out.

    Exit code 0: written; 1: some records are left out, and told; 2: wrong use; 3: unreachable.
    """
    if find_spec("pyarrow") is None:
        stop(WRONG_USE, "billbus export needs pyarrow, which services do not: pip install 'billbus[export]'.")
    from services.operations.export import Wanted

    settings = load_settings()
    found = named_topic(load_catalog(settings.schemas), topic)
    refuse_personal_data(settings, asked_for=personal_data)
    try:
        wanted_day = date.fromisoformat(day)
    except ValueError:
        stop(WRONG_USE, f"--day: {day!r} is no day such as 2026-11-20.")
    slugs = [biller] if biller else sorted(path.stem for path in settings.billers.glob("*.yaml"))
    billers = {slug: named_biller(settings.billers, slug, settings.partners) for slug in slugs}
    if not billers:
        stop(WRONG_USE, f"There is no biller's file in {settings.billers}.")
    wanted = Wanted(topic=found, day=wanted_day, billers=billers, folder=to, personal_data=personal_data)
    if personal_data:
        noted = note_personal_data(
            settings, Clock(), operator_of(settings), f"export {found.name}", biller=biller or None
        )
        asyncio.run(noted)
    try:
        report = _run(settings, wanted)
    except OSError as error:
        stop(WRONG_USE, f"{to} cannot be written: {error.strerror}.")
    left_out = report.unreadable or (report.others and not biller)
    _show(report, wanted, as_json, told_others=not biller)
    raise SystemExit(FOUND if left_out else FINE)


def _run(settings: Settings, wanted: Wanted) -> Report:
    from services.operations.export import export_day

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("Reading", total=None)

        def progress(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return asyncio.run(export_day(settings, wanted, Clock(), progress))


def _show(report: Report, wanted: Wanted, as_json: bool, *, told_others: bool) -> None:
    if as_json:
        print_json(asdict(report) | {"other_billers": sorted(report.other_billers)})
    elif report.files:
        rows = [(each.biller, each.rows, each.path) for each in report.files]
        print_table(f"{wanted.topic.name}, {wanted.day}", ["biller", "rows", "file"], rows)
    else:
        print(f"{wanted.topic.name} has no record of {wanted.day}")
    said = []
    if report.open_days:
        said.append(f"The day has not ended for {', '.join(report.open_days)}: export again when it has.")
    if report.unreadable:
        places = ", ".join(report.places)
        said.append(
            f"{report.unreadable} records cannot be read and are left out: {places} (partition@offset)."
        )
    if report.others and told_others:
        names = ", ".join(sorted(report.other_billers))
        said.append(f"{report.others} records are left out, for there is no file of their biller: {names}.")
    sys.stderr.write("".join(f"{sentence}\n" for sentence in said))
