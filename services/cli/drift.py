"""`billbus drift`: whose enrolment differs between InvoiceCloud, IMT and us; IMT is sent what it lacks."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.bus.catalog import load_catalog
from services.bus.clock import Clock
from services.bus.log import mask_account
from services.bus.settings import Settings, load_settings
from services.cli.acting import Reason, Yes, operator_of, require_reason
from services.cli.billers import named_biller
from services.cli.output import FINE, FOUND, UNREACHABLE, WRONG_USE, print_table, stop
from services.cli.progress import progress
from services.cli.records import ShowPersonalData, as_text, refuse_personal_data

if TYPE_CHECKING:
    from services.bus.biller import Biller
    from services.operations.drift import Compared, Sides
    from services.operations.drift_book import Drift, Resend

EXAMPLES = """Two examples:

  billbus drift --biller acme

  billbus drift --biller acme --repair --yes --reason "IMT restored last night's backup\""""
MOST_SHOWN = 50


def compare_enrolment(
    biller: Annotated[str, typer.Option(help="The biller's slug.")],
    account: Annotated[str, typer.Option(help="Only this account: IMT's number, as on the topic.")] = "",
    rate: Annotated[
        float, typer.Option(min=0.1, max=1000, help="Calls a second to the partners, of both together.")
    ] = 20,
    repair: Annotated[
        bool, typer.Option("--repair", help="Send again what was applied last, where IMT differs from it.")
    ] = False,
    yes: Yes = False,
    reason: Reason = "",
    personal_data: ShowPersonalData = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON lines for programs: each drift, then the summary.")
    ] = False,
) -> None:
    """Compare autopay and paperless at InvoiceCloud, at IMT and here; --repair sends IMT what it lacks.

    Exit code 0: all agree, or are repaired; 1: some differ; 2: wrong use; 3: a partner or the bus cannot be
    asked.
    """
    settings = load_settings()
    refuse_personal_data(settings, asked_for=personal_data)
    found = named_biller(settings.billers, biller, settings.partners)
    if yes and not repair:
        stop(WRONG_USE, "--yes does something only with --repair.")
    require_reason(yes=yes, reason=reason)
    asked = Asked(found, account, rate, repair, reason if yes else "", personal_data, as_json)
    raise SystemExit(asyncio.run(_run(settings, asked)))


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for; with a `reason` the repair is to be done, without it only shown."""

    biller: Biller
    account: str
    rate: float
    repair: bool
    reason: str
    personal_data: bool
    as_json: bool


async def _run(settings: Settings, asked: Asked) -> int:
    """The exit code."""
    # loaded late: a command line that is wrong needs no Kafka client
    from services.operations.drift import compare, comparing

    async with comparing(settings, asked.biller, Clock(), per_second=asked.rate) as sides:
        with progress("Comparing") as told:
            compared = await compare(sides, asked.account, told)
        if asked.account and not compared.accounts + compared.unasked:
            stop(WRONG_USE, f"{asked.biller.slug} has no account {mask_account(asked.account)} on the bus.")
        if asked.repair:
            await _repair(settings, sides, asked)
        write = _write_lines if asked.as_json else _show
        write(sides, compared, asked.personal_data)
        if compared.unasked:
            return UNREACHABLE
        return FOUND if sides.book.counts() else FINE


async def _repair(settings: Settings, sides: Sides, asked: Asked) -> None:
    """Shows what would be sent; with a reason sends it and waits."""
    from services.operations.audit import Act, auditing
    from services.operations.drift_repair import find_records, resend

    with progress("Finding the changes") as told:
        wanted = await find_records(sides, told)
    if not wanted or not asked.reason:
        hint = "; add --yes and --reason to do it" if wanted else ""
        sys.stderr.write(f"{_settings(wanted)} would be sent to IMT again{hint}.\n")
        return
    act = Act(
        operator=operator_of(settings),
        action="drift repair",
        target=_settings(wanted),
        reason=asked.reason,
        biller=sides.biller.slug,
    )
    async with auditing(settings, load_catalog(settings.schemas), Clock()) as audit:
        await audit.told(act, "begun")
        with progress("Sending") as told:
            await resend(sides, wanted, told)
        results = sides.book.results()
        await audit.told(act, "; ".join(f"{count} {result}" for result, count in results.items()))


def _settings(wanted: list[Resend]) -> str:
    return "1 setting" if len(wanted) == 1 else f"{len(wanted)} settings"


def _write_lines(sides: Sides, compared: Compared, personal_data: bool) -> None:
    for drift in sides.book.drifts():
        _line({"type": "drift", **_told(drift, sides.biller.slug, personal_data)})
    summary = {
        "biller": sides.biller.slug,
        **asdict(compared),
        "drifts": sides.book.counts(),
        "repairs": sides.book.results(),
    }
    _line({"type": "summary", **summary})


def _line(value: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(value, default=as_text, ensure_ascii=False) + "\n")


def _told(drift: Drift, biller: str, personal_data: bool) -> dict[str, Any]:
    """A drift with what it means and what to do, numbers masked unless they may be shown."""
    from services.operations.drift_book import WORDS

    means, advice = WORDS[drift.kind]
    told = asdict(drift) | {"means": means, "what_to_do": advice.format(biller=biller)}
    if not personal_data:
        told |= {name: mask_account(told[name]) for name in ("account", "number")}
    return told


def _show(sides: Sides, compared: Compared, personal_data: bool) -> None:
    from services.operations.drift_book import WORDS

    zone, counts = sides.biller.timezone, sides.book.counts()
    rows: list[tuple[object, ...]] = []
    for drift in sides.book.drifts():
        if len(rows) == MOST_SHOWN:
            break
        rows.append(_row(_told(drift, sides.biller.slug, personal_data), drift, zone))
    title = f"{sides.biller.slug}: {compared.accounts:,} accounts compared, times in {zone}"
    if rows:
        print_table(title, ["account", "what", "ours", "IMT", "IC", "since", "finding"], rows)
    else:
        print(f"{title}; all agree")
    if (all_of_them := sum(counts.values()) + sides.book.results().get("repaired", 0)) > len(rows):
        print(f"and {all_of_them - len(rows):,} more; --json tells them all")
    for kind, count in counts.items():
        means, advice = WORDS[kind]
        print(f"\n{kind}, {count:,}: {means}\nto do: {advice.format(biller=sides.biller.slug)}")
    if compared.unasked:
        print(f"{compared.unasked:,} accounts could not be compared: {compared.reason}.")


def _row(told: Mapping[str, Any], drift: Drift, zone: tzinfo) -> tuple[object, ...]:
    number = "" if drift.number == drift.account else f" {told['number']}"
    return (
        told["account"] + number,
        drift.indicator,
        _flag(drift.ours),
        _flag(drift.imt),
        _flag(drift.ic),
        _instant(drift.imt_since or drift.ours_since, zone),
        drift.result or drift.kind,
    )


def _flag(value: bool | None) -> str:
    return "?" if value is None else "on" if value else "off"


def _instant(at: datetime | None, zone: tzinfo) -> str:
    return "unknown" if at is None else as_text(at, zone)[:16]
