"""The OpenAPI document tells the truth about refusals: problem documents, not the framework's own."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

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
    for operations in schema["paths"].values():
        for operation in operations.values():
            refusals = _REFUSALS | (_SECURED if "security" in operation else {})
            for status, description in refusals.items():
                operation["responses"][status] = {
                    "description": description,
                    "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
                }
            if "security" in operation:
                # either one is enough
                operation["security"] = [{"basic": []}, {"bearer": []}]
    return schema
