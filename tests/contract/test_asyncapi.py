"""docs/asyncapi.json, judged by the standard's own JSON schema and parser; both come from npm."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from deploy.local.processes import SERVICES
from services.bus.asyncapi import of_service
from services.bus.settings import ROOT

pytestmark = pytest.mark.extra  # Node, and an index of packages

DOCUMENT = ROOT / "docs" / "asyncapi.json"
TOOL = ROOT / "tests" / "contract" / "asyncapi"
INSTALL_LIMIT_S, PARSE_LIMIT_S = 180, 60
NOT_THE_LATEST = "asyncapi-latest-version"  # 3.0 is what was asked for; the parser would have 3.1


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parser and the schemas as the lock file has them, in a folder of their own."""
    assert shutil.which("npm"), "npm is not here, and this test needs it"
    folder = tmp_path_factory.mktemp("asyncapi")
    shutil.copytree(TOOL, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_LIMIT_S)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def diagnoses(tool: Path, document: dict[str, Any]) -> list[dict[str, Any]]:
    """What the parser has against a document, its recommendations too."""
    done = subprocess.run(
        ["node", "validate.mjs"],
        cwd=tool,
        input=json.dumps(document),
        capture_output=True,
        text=True,
        timeout=PARSE_LIMIT_S,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def read() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(DOCUMENT.read_text(encoding="utf-8"))
    return document


def test_the_document_is_as_the_official_schema_has_it(tool: Path) -> None:
    schema = json.loads((tool / "node_modules/@asyncapi/specs/schemas/3.0.0.json").read_text())
    assert [f"{list(e.path)}: {e.message}" for e in Draft7Validator(schema).iter_errors(read())] == []


def test_the_parser_takes_it_and_recommends_nothing(tool: Path) -> None:
    assert [each for each in diagnoses(tool, read()) if each["code"] != NOT_THE_LATEST] == []


@pytest.mark.parametrize("service", SERVICES)
def test_the_parser_takes_what_each_service_serves(tool: Path, service: str) -> None:
    assert [
        each for each in diagnoses(tool, of_service(read(), service)) if each["code"] != NOT_THE_LATEST
    ] == []


def no_address(document: dict[str, Any]) -> None:
    document["channels"]["billing.payment.received.v1"]["address"] = 7


def another_channel(document: dict[str, Any]) -> None:
    operation = document["operations"]["payments.sends.billing.payment.received.v1"]
    operation["channel"]["$ref"] = "#/channels/nowhere"


def no_avro(document: dict[str, Any]) -> None:
    document["components"]["messages"]["PaymentReceived"]["payload"]["schema"]["fields"][0]["type"] = 7


@pytest.mark.parametrize("spoil", [no_address, another_channel, no_avro])
def test_the_parser_would_say_what_is_wrong(tool: Path, spoil: Callable[[dict[str, Any]], None]) -> None:
    document = read()
    spoil(document)
    assert [each for each in diagnoses(tool, document) if each["code"] != NOT_THE_LATEST]
