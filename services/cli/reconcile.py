"""`billbus reconcile`: does a biller's business day add up, and if not, which payments."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, date
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.bus.business_day import cut_off
from services.bus.clock import Clock
from services.bus.settings import Settings, load_settings
from services.cli.billers import named_biller
from services.cli.output import FINE, FOUND, UNREACHABLE, WRONG_USE, print_table, stop
from services.cli.progress import progress
from services.cli.records import ShowPersonalData, as_text, readable, refuse_personal_data

if TYPE_CHECKING:
    from services.bus.biller import Biller
    from services.operations.reconcile_book import Book
    from services.operations.reconcile_words import Summary

EXAMPLES = """Two examples:

  billbus reconcile --biller acme --day 2026-11-20

  billbus reconcile --biller acme --day 2026-11-20 --json --csv differences.csv"""
MOST_SHOWN = 20


def reconcile_day(
    biller: Annotated[str, typer.Option(help="The biller's slug.")],
    day: Annotated[str, typer.Option(help="Its business day, such as 2026-11-20.")],
    to_csv: Annotated[
        Path | None, typer.Option("--csv", help="Write every difference into this file as well.")
    ] = None,
    personal_data: ShowPersonalData = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON lines for programs: the summary, then each difference.")
    ] = False,
) -> None:
    """Add up a business day: received, posted, refused, parked, missing; against batch.closed and IMT's list.

    Nothing is sent and nothing is changed: partners are only asked.

    Exit code 0: it adds up; 1: something is missing or differs; 2: wrong use; 3: the bus or IMT cannot be
    asked (what is ours is still printed when it is IMT).
    """
    settings = load_settings()
    refuse_personal_data(settings, asked_for=personal_data)
    found = named_biller(settings.billers, biller, settings.partners)
    try:
        wanted = date.fromisoformat(day)
        begins = cut_off(found, wanted.fromordinal(wanted.toordinal() - 1))
    except (ValueError, OverflowError):
        stop(WRONG_USE, f"--day: {day!r} is no day such as 2026-11-20.")
    if begins > Clock().now():
        stop(WRONG_USE, f"--day: {day} begins at {as_text(begins, found.timezone)}, which is still to come.")
    raise SystemExit(asyncio.run(_run(settings, found, wanted, to_csv, personal_data, as_json)))


async def _run(
    settings: Settings, biller: Biller, day: date, to_csv: Path | None, personal_data: bool, as_json: bool
) -> int:
    """The exit code."""
    # loaded late: a command line that is wrong needs no Kafka client
    from services.operations.reconcile import reconciling
    from services.operations.reconcile_csv import write_csv

    async with reconciling(settings, biller, day, Clock()) as work:
        with progress(f"Adding up {day}") as told:
            summary = await work.run(told)
        write = _write_lines if as_json else _show
        write(summary, work.book, personal_data)
        if to_csv is not None:
            try:
                count = write_csv(to_csv, work.book.differences(), summary, personal_data=personal_data)
            except OSError as error:
                stop(WRONG_USE, f"{to_csv} cannot be written: {error.strerror}.")
            sys.stderr.write(f"{count} differences are in {to_csv}.\n")
    if summary.imt.state == "not reached":
        return UNREACHABLE
    return FINE if summary.adds_up else FOUND


def _write_lines(summary: Summary, book: Book, personal_data: bool) -> None:
    from services.operations.reconcile_csv import shown

    _line({"type": "summary", **summary_document(summary)})
    for each in shown(book.differences(), summary, personal_data=personal_data):
        _line({"type": "difference", **each})


def _line(value: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, default=as_text, ensure_ascii=False) + "\n")


def summary_document(summary: Summary) -> dict[str, Any]:
    """The summary as JSON has it."""
    from services.operations.reconcile_words import STATES

    imt = summary.imt
    return {
        "biller": summary.biller.slug,
        "day": summary.day,
        "timezone": str(summary.biller.timezone),
        "opened_at": summary.opened_at,
        "closed_at": summary.closed_at,
        "open": summary.is_open,
        "adds_up": summary.adds_up,
        "received": asdict(summary.totals()),
        **{state: asdict(summary.totals(state)) for state in STATES},
        "declined": summary.declined,
        "repeats": summary.repeats,
        "lines": [
            {"tender": each.tender, "product": each.product, "state": each.state, **asdict(each.totals)}
            for each in summary.lines
        ],
        "batch": {
            "state": summary.batch,
            "differences": [asdict(each) for each in summary.batch_differences],
        },
        "imt": asdict(imt),
        "differences": dict(summary.differences),
    }


def _show(summary: Summary, book: Book, personal_data: bool) -> None:
    zone = summary.biller.timezone
    hours = (summary.closed_at - summary.opened_at).total_seconds() / 3600
    opened, closed = (as_text(at, zone) for at in (summary.opened_at, summary.closed_at))
    print(f"{summary.biller.slug}, business day {summary.day}")
    print(f"{opened[:16]} to {closed[:16]} {zone}, {hours:g} hours")
    print_table("", ["tender", "product", "state", "count", "USD"], _rows(summary), right=("count", "USD"))
    for sentence in _sentences(summary):
        print(sentence)
    _show_differences(summary, book, personal_data)


def _rows(summary: Summary) -> Iterator[tuple[object, ...]]:
    """Received and each state that there is: of all, then by tender and product."""
    from services.operations.reconcile_words import STATES, Totals

    def rows(tender: str, product: str, by_state: Mapping[str, Totals]) -> Iterator[tuple[object, ...]]:
        received = sum(by_state.values(), Totals())
        yield tender, product, "received", f"{received.count:,}", f"{received.amount:,}"
        for state in STATES:
            if each := by_state.get(state):
                yield "", "", state, f"{each.count:,}", f"{each.amount:,}"

    yield from rows("all", "all", {s: t for s in STATES if (t := summary.totals(s)).count})
    for (tender, product), lines in groupby(summary.lines, lambda line: (line.tender, line.product)):
        yield from rows(tender, product, {line.state: line.totals for line in lines})


def _sentences(summary: Summary) -> Iterator[str]:
    """What is told below the table."""
    imt, zone = summary.imt, summary.biller.timezone
    yield f"Beside it: {summary.declined} declined at InvoiceCloud, {summary.repeats} repeats."
    match summary.batch:
        case "agrees":
            yield "batch.closed: agrees."
        case "open" if summary.is_open:
            yield f"batch.closed: not closed yet; the day ends at {as_text(summary.closed_at, zone)}."
        case "differs":
            yield "batch.closed: DIFFERS from the log:"
            for each in summary.batch_differences:
                yield f"  {each.what}: {each.closed} was closed, {each.counted} is on the log"
        case "open":
            yield "batch.closed: none, and nothing to close yet."
        case _:
            yield "batch.closed: NONE, though the cut-off has passed; is the payments service up?"
    if imt.state == "no list":
        yield f"IMT's list: none, {imt.reason}."
    elif imt.state == "not reached":
        yield f"IMT's list: NOT REACHED, {imt.reason}; what is ours stands above."
    else:
        word = "agrees" if imt.state == "agrees" else "DIFFERS"
        theirs, ours = (f"{each.count:,} of {each.amount:,} USD" for each in (imt.listed, imt.expected))
        yield f"IMT's list: {word}; IMT has {theirs}, we posted {ours}."
    if not summary.differences:
        yield "It adds up." if summary.adds_up else "It does not add up."


def _show_differences(summary: Summary, book: Book, personal_data: bool) -> None:
    from services.operations.reconcile_csv import shown

    for kind, count in summary.differences.items():
        told = shown(book.differences((kind,)), summary, personal_data=personal_data)
        for number, each in enumerate(islice(told, MOST_SHOWN)):
            if number == 0:
                print(f"\n{kind}, {count:,}: {each['means']}")
                print(f"to do: {each['what_to_do']}")
            print(f"  {_difference(each)}")
        if count > MOST_SHOWN:
            print(f"  and {count - MOST_SHOWN:,} more: --csv FILE has them all")


def _difference(each: Mapping[str, Any]) -> str:
    """One payment on one line: who it is, what we have, and what IMT has otherwise."""
    parts = [_text(each["payment_guid"]), _text(each["account"] or each["imt_account"] or "")]
    if each["amount"] is not None:
        parts.append(f"{each['amount']:,} USD")
    if each["reason"]:
        parts.append(_text(each["reason"]))
    if each["kind"] in ("late", "from_another_day", "wrong_day"):
        moved = each["received_day"] not in (None, each["batch_day"])
        parts += [f"received {each['received_day']}"] if moved else []
        parts += [f"batch {each['batch_day']}"] if each["batch_day"] else []
    at_imt = [] if each["imt_count"] in (0, 1) else [f"{each['imt_count']} times"]
    if each["imt_amount"] not in (None, each["amount"]):
        at_imt.append(f"{each['imt_amount']:,} USD")
    if each["imt_account"] not in (None, each["account"]):
        at_imt.append(f"account {_text(each['imt_account'])}")
    if each["imt_batch_day"] not in (None, each["batch_day"]):
        at_imt.append(f"batch {each['imt_batch_day']}")
    if at_imt:
        parts.append(f"at IMT {', '.join(at_imt)}")
    return "  ".join(part for part in parts if part)


def _text(value: str) -> str:
    """A partner's text with nothing in it that a terminal would obey."""
    return readable(value, UTC)[1:-1]
