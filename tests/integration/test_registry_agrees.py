"""The real registry under FULL_TRANSITIVE and the offline check, side by side on all of the corpus."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

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

T = TypeVar("T")
REFUSED = {409, 422}
"""Incompatible; no Avro at all."""


@pytest.fixture(scope="module")
def registry(stack: Addresses) -> Iterator[SchemaRegistryClient]:
    with SchemaRegistryClient({"url": stack.registry, "timeout": 10}) as found:
        yield found


def register(registry: SchemaRegistryClient, subject: str, schema: Avro) -> int:
    return int(registry.register_schema(subject, Schema(json.dumps(schema), "AVRO")))


@dataclass(frozen=True)
class Verdict:
    """What the registry has to say of a change.

    Attributes:
        ids: of the released versions.
        new: the id of the new one, None where it is refused.
        judged: whether it is compatible with all released ones, asked without registering it.
    """

    ids: list[int]
    new: int | None
    judged: bool


def verdict_on(registry: SchemaRegistryClient, change: Change) -> Verdict:
    subject = f"corpus.{CHANGES.index(change)}-value"
    ids = [register(registry, subject, change.released[0])]
    registry.set_compatibility(subject, COMPATIBILITY)
    ids += [register(registry, subject, version) for version in change.released[1:]]
    schema = Schema(json.dumps(change.new), "AVRO")
    judged = unless_refused(lambda: registry.test_compatibility_all_versions(subject, schema))
    new = unless_refused(lambda: register(registry, subject, change.new))
    return Verdict(ids, new, bool(judged))


def unless_refused(ask: Callable[[], T]) -> T | None:
    try:
        return ask()
    except SchemaRegistryError as refused:
        if refused.http_status_code not in REFUSED:
            raise
        return None


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
    verdict = verdict_on(registry, change)

    assert passes_avro(change) == verdict.judged
    assert (verdict.new is not None) == change.passes_the_registry
    if change.taken_for:
        assert verdict.new == verdict.ids[change.taken_for - 1]
