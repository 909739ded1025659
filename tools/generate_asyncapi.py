"""Writes docs/asyncapi.json, AsyncAPI 3.0 for every topic in schemas/: run by `make generate`."""

import json

from services.bus.asyncapi import of_the_bus
from services.bus.catalog import load_catalog
from services.bus.settings import ROOT

SCHEMAS = ROOT / "schemas"
TARGET = ROOT / "docs" / "asyncapi.json"


def render() -> str:
    """The whole document."""
    document = of_the_bus(load_catalog(SCHEMAS), SCHEMAS)
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
