"""`billbus doctor`: every check with what to do."""

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from services.bus.clock import Clock
from services.bus.settings import load_settings
from services.cli.acting import operator_of
from services.cli.output import FINE, FOUND, UNREACHABLE, AsJson, print_json, print_table
from services.operations.doctor import Finding, examine, summary

EXAMPLES = """Two examples:

  billbus doctor

  billbus doctor --read-only --json"""


def run_doctor(
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Write nothing: leaves out the clock, which needs a record.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check machine, brokers, registry, topics, places, billers, secrets and partners; say what to do.

    Exit code 0: nothing is wrong; 1: something is; 3: something cannot be reached.
    """
    settings = load_settings()
    clock = Clock()
    began = clock.monotonic()
    findings = asyncio.run(examine(settings, clock, operator=operator_of(settings), read_only=read_only))
    if as_json:
        print_json([_told(finding) for finding in findings])
    else:
        _show(findings)
    took, at = clock.monotonic() - began, as_seconds(clock.now())
    sys.stderr.write(f"{summary(findings)} ({took:.1f} s, {at})\n")
    raise SystemExit(_code(findings))


def as_seconds(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _told(finding: Finding) -> dict[str, str]:
    return {
        "check": finding.check,
        "state": finding.state,
        "found": finding.what,
        "what_to_do": finding.advice,
    }


def _show(findings: Sequence[Finding]) -> None:
    """What needs a person last: on a long screen that is what stays in sight."""
    order = ("fine", "note", "wrong", "unreachable")
    rows = [
        (each.check, each.state, [each.what, f"-> {each.advice}"] if each.advice else each.what)
        for each in sorted(findings, key=lambda each: order.index(each.state))
    ]
    print_table("", ["check", "state", "found, and what to do"], rows)


def _code(findings: Sequence[Finding]) -> int:
    states = {finding.state for finding in findings}
    if "unreachable" in states:
        return UNREACHABLE
    return FOUND if "wrong" in states else FINE
