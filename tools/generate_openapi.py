"""Writes docs/openapi/<service>.json, OpenAPI 3.1 of each service's HTTP side: run by `make generate`.

Each service is built as `billbus run` builds it, over the demo billers and invented secrets, never started.
"""

import json
import tempfile
from functools import partial
from importlib import import_module
from pathlib import Path

from fastapi import FastAPI

from deploy.local.demo_secrets import make_secrets
from deploy.local.processes import DEMO_BILLERS, SERVICES
from services.bus.service import http_side, open_bus
from services.bus.settings import ROOT, load_settings

FOLDER = ROOT / "docs" / "openapi"


def built(service: str, folder: Path) -> FastAPI:
    """The service's HTTP application; secrets and state are in the folder."""
    make_secrets(folder / "secrets", [path.stem for path in DEMO_BILLERS.glob("*.yaml")])
    settings = load_settings(
        service=service,
        billers=DEMO_BILLERS,
        secrets=folder / "secrets",
        schemas=ROOT / "schemas",
        state=folder / "state",
    )
    bus = open_bus(settings)
    return http_side(bus, import_module(f"services.{service}.app").build(bus))


def render(service: str) -> str:
    """The whole document of one service."""
    with tempfile.TemporaryDirectory() as folder:
        document = built(service, Path(folder)).openapi()
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


DOCUMENTS = {FOLDER / f"{service}.json": partial(render, service) for service in SERVICES}
