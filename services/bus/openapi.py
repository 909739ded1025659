"""The OpenAPI document tells the truth about refusals: problem documents, not the framework's own."""

import inspect
import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts

from services.bus.problem import MEDIA_TYPE

_PROBLEM = {
    "title": "Problem",
    "description": "RFC 9457 problem details.",
    "type": "object",
    "required": ["type", "title", "status"],
    "properties": {
        "type": {"type": "string", "description": "A URI of the kind, such as urn:billbus:unsupported:void."},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "expected"],
                "properties": {"field": {"type": "string"}, "expected": {"type": "string"}},
            },
        },
    },
}
_REFUSALS = {
    "400": "The request is malformed.",
    "408": "The body came too slowly.",
    "413": "The body is too large.",
    "422": "A field is not as expected, or what is asked is not supported and is refused by its name.",
    "429": "Too many requests at the same time.",
    "500": "A fault of ours.",
    "503": "Not accepted now; send the same again after Retry-After.",
}
_OTHERS = "Any other refusal, by its status."
_SECURED = {"401": "The biller's credential is missing or wrong.", "403": "Another biller's credential."}


def describe(app: FastAPI) -> None:
    """Replaces the app's document by one with our refusals; it is built once, when first asked for."""

    def document() -> dict[str, Any]:
        if not app.openapi_schema:
            app.openapi_schema = built(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # the framework's own way to replace it


def built(app: FastAPI) -> dict[str, Any]:
    schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schemas = schema.setdefault("components", {}).setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = _PROBLEM
    there_to_refuse = {
        (route.path_format, method.lower())
        for route in iter_route_contexts(app.routes)
        if route.endpoint and inspect.signature(route.endpoint).return_annotation is None
        for method in route.methods or ()
    }
    for path, operations in schema["paths"].items():
        for method, operation in operations.items():
            if (path, method) in there_to_refuse:  # its endpoint answers None
                del operation["responses"]["200"]
            _tell_refusals(operation)
            _name_what_the_path_has(path, operation)
            if "security" in operation:
                # either one is enough
                operation["security"] = [{"basic": []}, {"bearer": []}]
    return schema


def _tell_refusals(operation: dict[str, Any]) -> None:
    """A refusal that the route tells of itself stays as it tells it."""
    refusals = _REFUSALS | (_SECURED if "security" in operation else {}) | {"default": _OTHERS}
    validated = operation["responses"].get("422", {}).get("content", {})
    if "application/json" in validated:  # the framework's own
        del operation["responses"]["422"]
    for status, description in refusals.items():
        problem = {
            "description": description,
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        operation["responses"].setdefault(status, problem)


def _name_what_the_path_has(path: str, operation: dict[str, Any]) -> None:
    """Parts of the path that no endpoint asks for are parameters all the same."""
    parameters = operation.setdefault("parameters", [])
    told = {each["name"] for each in parameters if each["in"] == "path"}
    for name in re.findall(r"{(\w+)}", path):
        if name not in told:
            parameters.append({"name": name, "in": "path", "required": True, "schema": {"type": "string"}})
