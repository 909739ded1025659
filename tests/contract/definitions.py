"""The rules by which an API server judges custom resources, from their projects' own definitions."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import yaml
from jsonschema import Draft7Validator

from services.bus.settings import ROOT

NAME = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
Manifest = dict[str, Any]


def _definitions() -> dict[tuple[str, str], Manifest]:
    folder = ROOT / "deploy" / "k8s" / "check" / "crds"
    read = [yaml.load(path.read_bytes(), yaml.CSafeLoader) for path in sorted(folder.glob("*.yaml"))]
    return {(each["spec"]["group"], each["spec"]["names"]["kind"]): each for each in read}


DEFINITIONS = _definitions()
"""By API group and kind."""


def rules(manifest: Manifest) -> Draft7Validator:
    """The schema by which an API server judges a manifest; a field that it does not know is refused."""
    kind, version = manifest["kind"], manifest["apiVersion"].rpartition("/")[2]
    definition = DEFINITIONS[manifest["apiVersion"].partition("/")[0], kind]
    [schema] = [
        each["schema"]["openAPIV3Schema"]
        for each in definition["spec"]["versions"]
        if each["name"] == version and each["served"]
    ]
    schema = deepcopy(schema)
    schema["properties"]["metadata"] = {
        "type": "object",
        "properties": {"name": {"type": "string", "pattern": f"^{NAME}$", "maxLength": 253}},
        "x-kubernetes-preserve-unknown-fields": True,
    }
    return Draft7Validator(closed(schema))


def closed(schema: Any) -> Any:
    """The same schema, refusing unknown fields as a strict API server does."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closer = {name: closed(value) for name, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closer["additionalProperties"] = False
    return closer
