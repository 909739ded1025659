"""The examples of schemas/ as events."""

from __future__ import annotations

from deploy.local.processes import ROOT
from services.bus.catalog import load_catalog
from services.events import BY_TOPIC, Event
from tests.contract.examples import Example, typed

CATALOG = load_catalog(ROOT / "schemas")


def event_of(example: Example) -> Event:
    return BY_TOPIC[example.topic].from_record(typed(CATALOG[example.topic].schema, example.value))
