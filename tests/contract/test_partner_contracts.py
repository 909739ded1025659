"""The partners' contracts are whole, agree with each other, and the sandbox answers as they say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
import zeep
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from zeep.xsd import ComplexType

from deploy.local.processes import ROOT
from tests.sandbox_process import RunningSandbox, payment, running_sandbox

PARTNERS = ROOT / "schemas" / "partners"


def contract(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((PARTNERS / name).read_text(encoding="utf-8")))


IMT, CLOUD, OPENAPI = contract("imt.yaml"), contract("invoicecloud.yaml"), contract("imt.openapi.yaml")
SCHEMAS = OPENAPI["components"]["schemas"]


@pytest.mark.parametrize(
    "name", ["imt.yaml", "invoicecloud.yaml", "bank_file.yaml", "changes.yaml", "rtdr.yaml"]
)
def test_what_is_guessed_says_so(name: str) -> None:
    assert contract(name)["assumed"] is True


def test_the_openapi_document_is_valid() -> None:
    validate(OPENAPI)


@pytest.mark.parametrize("service", sorted(IMT["services"]))
def test_each_operation_stands_in_the_openapi_document(service: str) -> None:
    described = IMT["services"][service]
    for name, operation in described["operations"].items():
        path = described["path"].removeprefix("/imt/{insurer}") + operation["path"]
        stated = OPENAPI["paths"][path][operation["method"].lower()]
        assert stated["operationId"] == name
        asked = {one["name"] for one in stated.get("parameters", []) if one.get("in") == "query"}
        assert asked == set(operation.get("query", {}).values())


@pytest.mark.parametrize(
    ("service", "schema"),
    [("payments_due", "Account"), ("datapump", "Payment"), ("settings", "AppliedSetting")],
)
def test_the_fields_are_those_of_the_openapi_document(service: str, schema: str) -> None:
    stated = set(SCHEMAS[schema]["properties"])
    described = IMT["services"][service]
    named = set(described["fields"].values())
    if service == "settings":
        named |= set(described["reply"].values())
    assert named == stated


def test_the_required_fields_are_those_of_the_openapi_document() -> None:
    for service, schema in (("datapump", "Payment"), ("settings", "Setting")):
        described = IMT["services"][service]
        assert {described["fields"][name] for name in described["required"]} == set(
            SCHEMAS[schema]["required"]
        )
    assert set(SCHEMAS["Setting"]["properties"]["Indicator"]["enum"]) == set(
        IMT["services"]["settings"]["indicators"].values()
    )


def test_the_wsdl_loads_in_zeep_and_has_what_the_configuration_names() -> None:
    rules = CLOUD["soap"]
    client = zeep.Client(str(PARTNERS / rules["wsdl"]))
    binding = client.wsdl.bindings[rules["binding"]]
    assert set(binding.all()) == set(rules["operations"].values())
    assert client.wsdl.types.prefix_map["ns0"] == rules["namespace"]

    def elements(name: str) -> set[str]:
        found = client.get_type(f"{{{rules['namespace']}}}{name}")
        assert isinstance(found, ComplexType)
        return {element for element, _ in found.elements}

    invoice = set(rules["invoice"].values()) | {rules["request"]["customer"]}
    assert invoice == elements("Invoice")
    assert set(rules["customer"].values()) <= elements("Customer")
    assert elements("InvoiceResult") <= set(rules["reply"].values())
    assert elements("ViewInvoiceResult") <= set(rules["reply"].values())


def test_the_payment_form_has_the_fields_that_were_seen() -> None:
    form = CLOUD["payment_form"]
    assert not set(form["fields"]) & set(form["assumed"])
    assert {"payment_guid", "paid_at", "approved", "amount"} <= set(form["fields"])
    assert form["words"] == {True: "True", False: "False"}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSandbox]:
    folder: Path = tmp_path_factory.mktemp("sandbox")
    with running_sandbox(folder) as running:
        running.seed(
            {
                "account": "0000001001",
                "past_due": "20.00",
                "current_charges": "100.50",
                "policies": ["P-1"],
                "bills": ["B-1"],
            },
            {"account": "0000001002", "closed": True},
        )
        running.pay("g-1").raise_for_status()
        running.imt("POST", "/settings/P-1", json={"Indicator": "AutoPay", "Value": "T"}).raise_for_status()
        yield running


def as_the_contract_says(reply: httpx.Response, path: str) -> None:
    stated = OPENAPI["paths"][path][reply.request.method.lower()]["responses"][str(reply.status_code)]
    if "$ref" in stated:
        stated = OPENAPI["components"]["responses"][stated["$ref"].rsplit("/", 1)[-1]]
    kind = reply.headers["content-type"].partition(";")[0]
    schema = stated["content"][kind]["schema"]
    if kind == "application/json":
        whole = {**schema, "components": OPENAPI["components"]}
        Draft202012Validator(whole).validate(reply.json())


CALLS: list[tuple[str, str, str, dict[str, Any], int]] = [
    ("GET", "/payments-due/accounts/{account}", "/payments-due/accounts/0000001001", {}, 200),
    ("GET", "/payments-due/accounts/{account}", "/payments-due/accounts/9", {}, 404),
    ("GET", "/payments-due/changes", "/payments-due/changes?since=2026-01-01T00:00:00Z&limit=1", {}, 200),
    ("GET", "/payments-due/changes", "/payments-due/changes?since=yesterday", {}, 400),
    ("GET", "/payments-due/changes", "/payments-due/changes?limit=501", {}, 400),
    ("GET", "/payments-due/changes", "/payments-due/changes?after=x", {}, 400),
    ("POST", "/datapump/payments", "/datapump/payments", {"json": payment("g-2")}, 201),
    ("POST", "/datapump/payments", "/datapump/payments", {"json": payment("g-3", "9")}, 422),
    ("POST", "/datapump/payments", "/datapump/payments", {"json": payment("g-3", "0000001002")}, 422),
    ("POST", "/datapump/payments", "/datapump/payments", {"json": payment("g-3", amount="0.00")}, 422),
    ("POST", "/datapump/payments", "/datapump/payments", {"json": payment("g-3", amount="1.005")}, 400),
    ("POST", "/datapump/payments", "/datapump/payments", {"json": payment("")}, 400),
    ("POST", "/datapump/payments", "/datapump/payments", {"json": payment("x" * 201)}, 400),
    ("POST", "/datapump/payments", "/datapump/payments", {"json": []}, 400),
    ("POST", "/datapump/payments", "/datapump/payments", {"content": b"{"}, 400),
    ("GET", "/datapump/payments", "/datapump/payments?batchDate=2026-11-20&limit=1", {}, 200),
    ("GET", "/datapump/payments", "/datapump/payments", {}, 400),
    ("GET", "/datapump/payments/{guid}", "/datapump/payments/g-1", {}, 200),
    ("GET", "/datapump/payments/{guid}", "/datapump/payments/g-9", {}, 404),
    (
        "POST",
        "/settings/{number}",
        "/settings/0000001001",
        {"json": {"Indicator": "Paperless", "Value": "F"}},
        200,
    ),
    ("POST", "/settings/{number}", "/settings/P-9", {"json": {"Indicator": "Paperless", "Value": "F"}}, 422),
    ("POST", "/settings/{number}", "/settings/P-1", {"json": {"Indicator": "Paperless", "Value": "Y"}}, 400),
    ("POST", "/settings/{number}", "/settings/P-1", {"json": {"Indicator": "Paper", "Value": "T"}}, 400),
    ("GET", "/settings/{number}", "/settings/P-1", {}, 200),
    ("GET", "/settings/{number}", "/settings/P-9", {}, 404),
    ("GET", "/bills/{bill_id}", "/bills/B-1", {}, 200),
    ("GET", "/bills/{bill_id}", "/bills/B-9", {}, 404),
]


@pytest.mark.parametrize(("method", "path", "asked", "given", "status"), CALLS)
def test_the_sandbox_answers_as_the_contract_says(
    sandbox: RunningSandbox, method: str, path: str, asked: str, given: dict[str, Any], status: int
) -> None:
    reply = sandbox.imt(method, asked, **given)
    assert reply.status_code == status
    as_the_contract_says(reply, path)


@pytest.mark.parametrize(
    "path", ["/payments-due/accounts/1", "/datapump/payments/1", "/settings/1", "/bills/1"]
)
def test_a_wrong_token_is_not_let_in(sandbox: RunningSandbox, path: str) -> None:
    named = {"accounts/1": "accounts/{account}", "payments/1": "payments/{guid}"}
    stated = next((path.replace(end, to) for end, to in named.items() if path.endswith(end)), None)
    stated = stated or path.replace("settings/1", "settings/{number}").replace("bills/1", "bills/{bill_id}")
    for authorization in ("Bearer wrong", "Basic YTpi", "", "Bearer birch-imt-token-of-tests"):
        reply = sandbox.http.get(f"/imt/acme{path}", headers={"Authorization": authorization})
        assert reply.status_code == 401
        as_the_contract_says(reply, stated)


def test_maintenance_answers_as_the_contract_says(sandbox: RunningSandbox) -> None:
    fault = sandbox.fault(service="imt", kind="maintenance")
    reply = sandbox.imt("GET", "/payments-due/accounts/0000001001")
    sandbox.http.delete(f"/control/faults/{fault['id']}").raise_for_status()
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
    as_the_contract_says(reply, "/payments-due/accounts/{account}")
