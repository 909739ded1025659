"""`billbus trace`: everything that happened to a payment, an invoice or an account, in order."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from services.bus.billers import Biller
from services.bus.clock import Clock
from services.bus.settings import Settings, load_settings
from services.cli.acting import operator_of
from services.cli.billers import named_biller
from services.cli.output import FINE, FOUND, WRONG_USE, AsJson, stop
from services.cli.progress import progress
from services.cli.records import ShowPersonalData, as_text, refuse_personal_data
from services.cli.timeline import print_nothing, print_story
from services.operations.personal_use import note_personal_data
from services.operations.trace import DAYS, Asked, NotClear, Story, trace
from services.operations.trace_drawings import as_html, as_mermaid
from services.operations.trace_find import KINDS, Kind

EXAMPLES = """Two examples:

  billbus trace 6F3C0C2E-5A1B-4B52-9A43-0D9B2C9D1E55 --day 2026-11-20

  billbus trace 0001234567 --biller acme --days 7 --html story.html"""
MOST_DAYS = 400
"""As long as facts and outcomes are kept."""


def trace_one(
    text: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="A payment's GUID, an invoice number, an account number or a trace id, as it was told you.",
        ),
    ],
    biller: Annotated[str, typer.Option(help="Only this biller's; default: every biller's.")] = "",
    account: Annotated[str, typer.Option(help="On this account: finds it in one partition of twelve.")] = "",
    day: Annotated[
        str,
        typer.Option(
            help="The business day on which it came in, such as 2026-11-20; default: the last days."
        ),
    ] = "",
    days: Annotated[
        int,
        typer.Option(
            min=1, max=MOST_DAYS, help="So many days back it is looked for; with --day, told from there."
        ),
    ] = DAYS,
    kind: Annotated[
        str,
        typer.Option(
            help="payment, invoice, account or trace; default: what it looks like.",
            autocompletion=lambda incomplete: [each for each in KINDS if each.startswith(incomplete)],
        ),
    ] = "",
    personal_data: ShowPersonalData = False,
    mermaid: Annotated[Path | None, typer.Option(help="Write a Mermaid diagram to this file.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a page to this file; it needs no network.")] = None,
    as_json: AsJson = False,
) -> None:
    """Tell everything that happened to a payment, an invoice or an account, across all topics, in order.

    It reads the log, nothing else. Exit code 0: found; 1: nothing found; 2: wrong use, or not clear what is
    meant; 3: unreachable.
    """
    settings = load_settings()
    refuse_personal_data(settings, asked_for=personal_data)
    asked = Asked(
        text=text,
        billers=_billers(settings, biller),
        kind=_kind(kind),
        account=account,
        day=_day(day),
        days=days,
        personal_data=personal_data,
    )
    if personal_data:
        asyncio.run(
            note_personal_data(settings, Clock(), operator_of(settings), "trace", biller=biller or None)
        )
    try:
        with progress("Searching") as told:
            story = asyncio.run(trace(settings, asked, Clock(), told))
    except NotClear as question:
        stop(WRONG_USE, str(question))
    _show(story, as_json)
    for file, drawn in ((mermaid, as_mermaid), (html, as_html)):
        if file is not None and story.entries:
            _write(file, drawn(story))
    raise SystemExit(FINE if story.entries else FOUND)


def _billers(settings: Settings, slug: str) -> dict[str, Biller]:
    slugs = [slug] if slug else sorted(path.stem for path in settings.billers.glob("*.yaml"))
    if not slugs:
        stop(WRONG_USE, f"There is no biller's file in {settings.billers}.")
    return {each: named_biller(settings.billers, each, settings.partners) for each in slugs}


def _kind(text: str) -> Kind | None:
    if text and text not in KINDS:
        stop(WRONG_USE, f"--kind: {text!r} is none of {', '.join(KINDS)}.")
    return text or None


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text) if text else None
    except ValueError:
        stop(WRONG_USE, f"--day: {text!r} is no day such as 2026-11-20.")


def _show(story: Story, as_json: bool) -> None:
    if as_json:
        told = as_json_of(story)
        sys.stdout.write(json.dumps(told, indent=2, ensure_ascii=False, default=as_text) + "\n")
    elif story.entries:
        print_story(story)
    else:
        print_nothing(story)


def as_json_of(story: Story) -> dict[str, Any]:
    """The story for programs, instants in UTC."""
    return asdict(story) | {"zone": str(story.zone), "found": bool(story.entries)}


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        stop(WRONG_USE, f"{file} cannot be written: {error.strerror}.")
    sys.stderr.write(f"Written: {file}\n")
