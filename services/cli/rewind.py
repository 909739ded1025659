"""`billbus rewind`: another team's consumer group to the start of a day."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, tzinfo
from typing import Annotated, Any

import typer

from services.bus.catalog import load_catalog
from services.bus.clock import Clock
from services.bus.settings import Settings, load_settings
from services.cli.acting import Reason, Yes, operator_of, require_reason
from services.cli.billers import named_biller
from services.cli.output import FINE, FOUND, WRONG_USE, AsJson, print_json, print_table, stop
from services.cli.records import as_text, instant_of, named_topic
from services.operations.rewind import Active, Plan, Refused, Wish, plan_rewind, rewind

EXAMPLES = """Two examples:

  billbus rewind general-ledger payment.outcome --to-day 2026-11-20 --biller acme

  billbus rewind general-ledger payment.outcome --to-day 2026-11-20 --yes --reason "ledger lost a day\""""


def rewind_group(
    group: Annotated[str, typer.Argument(help="The consumer group, such as general-ledger.")],
    topic: Annotated[str, typer.Argument(help="The topic's name, or the short one: payment.outcome.")],
    to_day: Annotated[
        str,
        typer.Option(
            help="The first day that it reads again, such as 2026-11-20 (from midnight), or an instant with "
            "its offset; by the broker's clock."
        ),
    ],
    biller: Annotated[str, typer.Option(help="Midnight in this biller's timezone; default: UTC.")] = "",
    new: Annotated[bool, typer.Option("--new", help="Also where the group never read the topic.")] = False,
    yes: Yes = False,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Set another team's consumer group back to the start of a day; its members must be stopped.

    Only the group's offsets change, never forward, and nothing is written to the topic. Exit code 0: shown or
    done; 1: not done, the group is active; 2: wrong use; 3: unreachable.
    """
    settings = load_settings()
    require_reason(yes=yes, reason=reason)
    zone: tzinfo = named_biller(settings.billers, biller, settings.partners).timezone if biller else UTC
    try:
        at = instant_of(to_day, zone)
    except ValueError as error:
        stop(WRONG_USE, f"--to-day: {error}.")
    wish = Wish(group=group, topic=named_topic(load_catalog(settings.schemas), topic), at=at, new=new)
    try:
        plan = _run(settings, wish, yes=yes, reason=reason)
    except Active as refusal:
        stop(FOUND, str(refusal))
    except Refused as refusal:
        stop(WRONG_USE, str(refusal))
    _show(plan, zone, as_json, done=yes)
    raise SystemExit(FOUND if plan.active else FINE)


def _run(settings: Settings, wish: Wish, *, yes: bool, reason: str) -> Plan:
    if not yes:
        return plan_rewind(settings, wish, Clock())
    return asyncio.run(rewind(settings, wish, Clock(), operator=operator_of(settings), reason=reason.strip()))


def _show(plan: Plan, zone: tzinfo, as_json: bool, *, done: bool) -> None:
    wish = plan.wish
    if as_json:
        print_json(_as_json(plan, zone, done=done))
    else:
        reads = "reads" if done else "would read"
        print(f"{wish.group} {reads} {wish.topic.name} again from {as_text(wish.at, zone)} ({zone})")
        state = "Done" if done else "Would be done; add --yes and --reason"
        rows: list[tuple[object, ...]] = [
            (each.partition, _or_none(each.committed), each.to, _or_none(each.lag_now), each.lag_then)
            for each in plan.shifts
        ]
        rows.append(("all", "", "", plan.lag_now, plan.lag_then))
        print_table(
            state,
            ["partition", "next now", "next then", "lag now", "lag then"],
            rows,
        )
    if plan.active and not done:
        sys.stderr.write(f"{wish.group} has members now: it is refused until all of them are stopped.\n")
    if plan.with_metadata:
        sys.stderr.write("Its commits carry metadata, which new ones will not have: ask the team.\n")
    if not plan.moved:
        sys.stderr.write("The group has read nothing after that instant: nothing to set back.\n")


def _or_none(number: int | None) -> object:
    return "none" if number is None else number


def _as_json(plan: Plan, zone: tzinfo, *, done: bool) -> dict[str, Any]:
    return {
        "group": plan.wish.group,
        "topic": plan.wish.topic.name,
        "at": as_text(plan.wish.at),
        "zone": str(zone),
        "done": done,
        "active": plan.active,
        "with_metadata": plan.with_metadata,
        "lag_now": plan.lag_now,
        "lag_then": plan.lag_then,
        "partitions": [
            {
                "partition": each.partition,
                "committed": each.committed,
                "to": each.to,
                "end": each.end,
                "lag_now": each.lag_now,
                "lag_then": each.lag_then,
            }
            for each in plan.shifts
        ],
    }
