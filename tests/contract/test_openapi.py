"""What each service says of its HTTP side, judged by the standard's own validator."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from openapi_spec_validator.validation.exceptions import OpenAPIValidationError
from referencing.exceptions import PointerToNowhere

from deploy.local.processes import SERVICES
from services.bus.settings import ROOT
from tools.generate_asyncapi import TARGET as ASYNCAPI
from tools.generate_openapi import FOLDER, built

Document = dict[str, Any]


def read(service: str) -> Document:
    document: Document = json.loads((FOLDER / f"{service}.json").read_text(encoding="utf-8"))
    return document


def operations(service: str) -> dict[tuple[str, str], Document]:
    return {
        (path, method): operation
        for path, stated in read(service)["paths"].items()
        for method, operation in stated.items()
    }


@pytest.mark.parametrize("service", SERVICES)
def test_the_validator_takes_it(service: str) -> None:
    document = read(service)
    assert document["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(document).validate()


def no_such_schema(document: Document) -> None:
    document["paths"]["/ic/{biller}/payments/batch"]["post"]["responses"]["200"]["content"] = {
        "application/json": {"schema": {"$ref": "#/components/schemas/Nobody"}}
    }


def a_part_of_the_path_without_its_parameter(document: Document) -> None:
    del document["paths"]["/ic/{biller}/payments/{guid}/void"]["post"]["parameters"]


def no_description(document: Document) -> None:
    del document["paths"]["/ic/{biller}/payments"]["post"]["responses"]["200"]["description"]


@pytest.mark.parametrize("spoil", [no_such_schema, a_part_of_the_path_without_its_parameter, no_description])
def test_the_validator_would_say_what_is_wrong(spoil: Callable[[Document], None]) -> None:
    document = copy.deepcopy(read("payments"))
    spoil(document)
    with pytest.raises((OpenAPIValidationError, PointerToNowhere)):
        OpenAPIV31SpecValidator(document).validate()


@pytest.mark.parametrize("service", SERVICES)
async def test_each_service_serves_both_documents_to_whoever_asks(service: str, tmp_path: Path) -> None:
    app = built(service, tmp_path)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://intake") as client:
        assert (await client.get("/openapi.json")).json() == read(service)
        served = (await client.get("/asyncapi.json")).json()
    whole = json.loads(ASYNCAPI.read_text(encoding="utf-8"))
    own = {name: each for name, each in whole["operations"].items() if each["x-service"] == service}
    assert served["operations"] == own
    assert served["channels"].keys() == {each["channel"]["$ref"].split("/")[2] for each in own.values()}
    assert {**whole["channels"], **served["channels"]} == whole["channels"]
    messages = {name for channel in served["channels"].values() for name in channel["messages"]}
    assert served["components"]["messages"].keys() == messages


def test_what_is_refused_by_name_has_no_other_answer() -> None:
    for path in ("/ic/{biller}/voids", "/ic/{biller}/payments/{guid}/void", "/ic/{biller}/ach-rejects"):
        answers = operations("payments")[path, "post"]["responses"]
        assert not [status for status in answers if status.startswith("2")], path


def test_a_customer_gets_a_pdf_or_a_page() -> None:
    answers = operations("bills")["/bills/{biller}/{token}", "get"]["responses"]
    assert list(answers["200"]["content"]) == ["application/pdf"]
    assert [list(answers[status]["content"]) for status in ("404", "410", "503")] == [["text/html"]] * 3


def test_the_documents_name_no_biller_and_no_secret() -> None:
    """They are made over the demo's billers, and must be the same for every insurer."""
    text = "".join((FOLDER / f"{service}.json").read_text(encoding="utf-8") for service in SERVICES).lower()
    slugs = [path.stem for path in (ROOT / "deploy" / "local" / "billers").glob("*.yaml")]
    assert [slug for slug in slugs if slug in text] == []
