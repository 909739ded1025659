"""`billbus doctor`: every check with what to do."""

import asyncio
import getpass
from typing import Annotated

import typer

from services.bus.clock import Clock
from services.bus.settings import load_settings
from services.cli.output import FINE, FOUND, UNREACHABLE, AsJson, show
from services.operations.doctor import Finding, examine


def run_doctor(
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Write nothing: leaves out the clock, which needs a record.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check broker, registry, topics, billers, secrets, partners and clock, and say what to do."""
    settings = load_settings()
    findings = asyncio.run(examine(settings, Clock(), operator=getpass.getuser(), read_only=read_only))
    columns = {
        "check": lambda f: f.check,
        "state": lambda f: f.state,
        "found": lambda f: f.what,
        "what to do": lambda f: f.advice,
    }
    show(as_json, _title(findings), columns, findings)
    raise SystemExit(_code(findings))


def _code(findings: list[Finding]) -> int:
    states = {finding.state for finding in findings}
    if "unreachable" in states:
        return UNREACHABLE
    return FOUND if "wrong" in states else FINE


def _title(findings: list[Finding]) -> str:
    bad = sum(finding.state in ("wrong", "unreachable") for finding in findings)
    return (
        f"{bad} of {len(findings)} checks found something" if bad else f"All {len(findings)} checks are fine"
    )
