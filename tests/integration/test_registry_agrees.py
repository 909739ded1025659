"""The real registry under FULL_TRANSITIVE and the offline check, side by side on all of the corpus."""

import json
from collections.abc import Iterator

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from services.bus.avro_defects import defects
from services.bus.avro_schema import read_schema
from services.bus.compatibility import clashes
from services.bus.topics import COMPATIBILITY
from tests.contract.changes import Change
from tests.contract.changes import Schema as Avro
from tests.contract.changes_nested import CHANGES
from tests.stacks import Addresses

REFUSED = {409, 422}
"""Incompatible; no Avro at all."""


@pytest.fixture(scope="module")
def registry(stack: Addresses) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": stack.registry, "timeout": 10}) as found:
        yield found


def register(registry: SchemaRegistryClient, subject: str, schema: Avro) -> int:
    return int(registry.register_schema(subject, Schema(json.dumps(schema), "AVRO")))


def id_given(registry: SchemaRegistryClient, change: Change) -> tuple[list[int], int | None]:
    """The ids of the released versions, and that of the new one, None where the registry refuses it."""
    subject = f"corpus.{CHANGES.index(change)}-value"
    ids = [register(registry, subject, change.released[0])]
    registry.set_compatibility(subject, COMPATIBILITY)
    ids += [register(registry, subject, version) for version in change.released[1:]]
    try:
        return ids, register(registry, subject, change.new)
    except SchemaRegistryError as refused:
        if refused.http_status_code not in REFUSED:
            raise
        return ids, None


def passes_avro(change: Change) -> bool:
    """Whether the offline check finds nothing but what goes beyond the registry."""
    found = [defect.rule for defect in defects(change.new)]
    if "not-avro" in found:
        return False
    new = read_schema(change.new)
    earlier = [read_schema(version) for version in change.released]
    both = [clash for old in earlier for clash in (*clashes(old, new), *clashes(new, old))]
    return all(clash.ours for clash in both)


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.name)
def test_registry_and_offline_check_agree(change: Change, registry: SchemaRegistryClient) -> None:
    ids, new = id_given(registry, change)

    assert (new is not None) == change.passes_the_registry
    if change.taken_for:
        assert new == ids[change.taken_for - 1]
        assert not passes_avro(change)
    else:
        assert passes_avro(change) == (new is not None)
