"""`billbus tail`: the records of a topic on the screen, as they come."""

import asyncio
import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, tzinfo
from typing import Annotated

import typer

from services.bus.catalog import load_catalog
from services.bus.clock import Clock
from services.bus.settings import Settings, load_settings
from services.cli.acting import operator_of
from services.cli.billers import named_biller
from services.cli.output import FINE, FOUND, WRONG_USE, stop
from services.cli.records import (
    ShowPersonalData,
    as_text,
    instant_of,
    named_stream,
    readable,
    refuse_personal_data,
)
from services.cli.stopping import stopped_by_a_signal
from services.operations.beside import Beside
from services.operations.personal_use import note_personal_data
from services.operations.tail import Asked, Line, open_tail

EXAMPLES = """Two examples:

  billbus tail payment.received --biller acme

  billbus tail billing.payment.outcome.v1 --since 2026-11-20 --biller acme --account 0001234567 --json"""


def tail_topic(
    topic: Annotated[
        str, typer.Argument(help="Its name, or the short one: payment.received, also with .replay or .dlq.")
    ],
    biller: Annotated[str, typer.Option(help="Only this biller's, times in its timezone.")] = "",
    account: Annotated[str, typer.Option(help="Only this account's: IMT's number, as on the topic.")] = "",
    since: Annotated[
        str,
        typer.Option(
            help="From this day on (midnight in the biller's timezone, without --biller UTC), or from an "
            "instant with its offset; by the broker's clock. Default: from now on."
        ),
    ] = "",
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what comes; without --since it always does.")
    ] = False,
    personal_data: ShowPersonalData = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line for programs, instants in UTC.")
    ] = False,
) -> None:
    """Show the records of a topic: decoded, personal data hidden, until Ctrl-C or all are shown.

    Exit code 0: shown; 1: some could not be read, and say so; 2: wrong use; 3: unreachable.
    """
    settings = load_settings()
    found, suffix = named_stream(load_catalog(settings.schemas), topic)
    zone: tzinfo = named_biller(settings.billers, biller, settings.partners).timezone if biller else UTC
    refuse_personal_data(settings, asked_for=personal_data)
    if account and found.key == "biller":
        stop(WRONG_USE, f"{found.name} is kept by biller and knows no account; leave out --account.")
    try:
        start = instant_of(since, zone) if since else None
    except ValueError as error:
        stop(WRONG_USE, f"--since: {error}.")
    asked = Asked(
        topic=found,
        suffix=suffix,
        biller=biller,
        account=account,
        since=start,
        follow=follow or start is None,
        personal_data=personal_data,
    )
    if personal_data:
        noted = note_personal_data(
            settings, Clock(), operator_of(settings), f"tail {asked.name}", biller=biller or None
        )
        asyncio.run(noted)
    write = _json(asked) if as_json else _text(zone)
    unreadable = asyncio.run(_run(settings, asked, stopped_by_a_signal(), write, zone))
    raise SystemExit(FOUND if unreadable else FINE)


async def _run(
    settings: Settings,
    asked: Asked,
    stopped: Callable[[], bool],
    write: Callable[[Line], str],
    zone: tzinfo,
) -> int:
    """How many records could not be read."""
    unreadable = 0
    with open_tail(settings, asked, Clock()) as tail:
        begin = f"since {as_text(asked.since, zone)}" if asked.since else "from now on"
        end = "; Ctrl-C ends it" if asked.follow else ""
        sys.stderr.write(f"{asked.name} {begin}, times in {zone}{end}\n")
        sys.stderr.flush()
        async for line in tail.lines(stopped):
            unreadable += line.unreadable is not None
            if not _written(write(line)):
                break
    return unreadable


def _written(text: str) -> bool:
    """Whether anybody reads: `billbus tail ... | head` ends like Ctrl-C."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # what is left in the buffer must not fail again when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False
    return True


def _json(asked: Asked) -> Callable[[Line], str]:
    def write(line: Line) -> str:
        told = {
            "topic": asked.name,
            "partition": line.partition,
            "offset": line.offset,
            "key": line.key,
            "id": line.id,
            "time": line.time,
            "stored": line.stored,
            "value": line.value,
        }
        if line.unreadable is not None:
            told["unreadable"] = line.unreadable
        if line.beside is not None:
            told |= asdict(line.beside)
        if line.size is not None:
            told |= {"size": line.size, "raw": line.raw}
        return json.dumps(told, default=as_text, ensure_ascii=False)

    return write


def _text(zone: tzinfo) -> Callable[[Line], str]:
    def write(line: Line) -> str:
        key = readable(line.key, zone)[1:-1]
        place = f"{as_text(line.stored, zone)}  {line.partition}@{line.offset}  {key}"
        if line.beside is not None:
            place = "  ".join([place, *_beside(line, line.beside, zone)])
        if line.size is not None:
            return place
        if line.unreadable is not None:
            return f"{place}  cannot be read: {line.unreadable}"
        if line.value is None:
            return f"{place}  is forgotten"
        told = {k: v for k, v in line.value.items() if v is not None and k not in ("biller", "account")}
        return "  ".join([place, *(f"{name}={readable(value, zone)}" for name, value in told.items())])

    return write


def _beside(line: Line, beside: Beside, zone: tzinfo) -> Iterator[str]:
    """What a re-emitted record or a dead letter says of itself."""
    told = {**asdict(beside), "size": line.size, "raw": line.raw}
    for name, value in told.items():
        if value is not None:
            bare = name in ("origin", "size", "raw") and _bare(value)
            yield f"{name}={value if bare else readable(value, zone)}"


def _bare(value: object) -> bool:
    """Whether it can stand without quotes: what a header holds may be anything."""
    return all(sign.isascii() and (sign.isalnum() or sign == "@") for sign in str(value))
