"""Is everything that billbus stands on all right, and if not, what to do: the checks behind `doctor`.

What is checked is in the rooms beside this one, by subject; here they run side by side.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

from services.bus.catalog import Topic, load_catalog
from services.bus.clock import Clock
from services.bus.settings import Settings
from services.operations.broker_clock import skew_s
from services.operations.doctor_billers import check_billers
from services.operations.doctor_brokers import check_broker
from services.operations.doctor_finding import Finding, State
from services.operations.doctor_machine import check_machine
from services.operations.doctor_partners import check_partners
from services.operations.doctor_topics import check_places, check_registry, check_topics

__all__ = ["Finding", "examine", "summary"]

SKEW_LIMIT_S = 1.0


async def examine(settings: Settings, clock: Clock, *, operator: str, read_only: bool) -> list[Finding]:
    """Runs every check. The clock check writes audit records, so `read_only` leaves it out."""
    billers, findings = await asyncio.to_thread(check_billers, settings)
    machine, bus, partners = await asyncio.gather(
        asyncio.to_thread(check_machine, settings),
        _check_bus(settings, clock, operator, read_only=read_only),
        check_partners(settings, billers, clock),
    )
    return machine + findings + bus + partners


def summary(findings: Sequence[Finding]) -> str:
    """One line: how many of each state."""
    counts = Counter(finding.state for finding in findings)
    if counts["fine"] == len(findings):
        return f"All {len(findings)} checks are fine"
    bad = counts["wrong"] + counts["unreachable"]
    words: dict[State, str] = {
        "wrong": "wrong",
        "unreachable": "unreachable",
        "note": "to note",
        "fine": "fine",
    }
    told = ", ".join(f"{counts[state]} {word}" for state, word in words.items() if counts[state])
    return f"{f'{bad} checks found something' if bad else 'Nothing is wrong'}: {told}"


async def _check_bus(settings: Settings, clock: Clock, operator: str, *, read_only: bool) -> list[Finding]:
    catalog = load_catalog(settings.schemas)
    broker = await asyncio.to_thread(check_broker, settings, catalog)
    if broker[0].state != "fine":  # nobody was let in, so there is nothing further to ask
        return broker
    registry, topics, places = await asyncio.gather(
        asyncio.to_thread(check_registry, settings),
        asyncio.to_thread(check_topics, settings, catalog),
        asyncio.to_thread(check_places, settings, catalog),
    )
    found = broker + registry + topics + places
    if not read_only and all(finding.state == "fine" for finding in topics):
        found.append(await check_clock(settings, catalog, clock, operator))
    return found


async def check_clock(
    settings: Settings, catalog: Mapping[str, Topic], clock: Clock, operator: str
) -> Finding:
    """Whether this machine's clock and the broker's agree: the broker's ends the business day."""
    try:
        skew, doubt = await skew_s(settings, catalog, clock, operator)
    except Exception as error:  # whatever the client raises, doctor goes on with the other checks
        advice = "Allow writing to the audit topic, or add --read-only."
        return Finding("clock", "note", f"could not be compared: {type(error).__name__}", advice)
    what = f"{abs(skew):.3f} s {'ahead of' if skew > 0 else 'behind'} the broker's (to {doubt:.3f} s)"
    if abs(skew) - doubt > SKEW_LIMIT_S:
        return Finding("clock", "wrong", what, "Synchronise both by NTP: the broker's clock ends the day.")
    return Finding("clock", "fine", what)
