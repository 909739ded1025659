"""The gate and the corpus of changes: what is allowed passes, what is not is refused with who breaks."""

import json
from pathlib import Path

import pytest
import yaml

from services.bus.compatibility import OURS
from services.operations.schema_gate import check_schemas, release_schemas
from tests.contract.changes import GATE, Change
from tests.contract.changes_nested import CHANGES
from tests.contract.examples import SCHEMAS

TOPIC = "billing.payment.received.v1"
TEAM = {"name": "cash-desk", "contact": "desk@insurer.example"}


def laid_out(schemas: Path, change: Change) -> None:
    """Writes the topic's folder, with everything but the new version released."""
    folder = schemas / TOPIC
    folder.mkdir(parents=True)
    stated = yaml.safe_load((SCHEMAS / TOPIC / "topic.yaml").read_text())
    stated["consumers"] = [
        {"name": "payments", "contact": "billbus@insurer.example"},
        {**TEAM, "fields": [change.reads]},
    ]
    (folder / "topic.yaml").write_text(yaml.safe_dump(stated))
    for number, version in enumerate(change.released, 1):
        (folder / f"v{number}.avsc").write_text(json.dumps(version, indent=2))
        release_schemas(schemas)
    (folder / f"v{len(change.released) + 1}.avsc").write_text(json.dumps(change.new, indent=2))


def test_the_corpus_is_large_and_names_each_change_once() -> None:
    assert len({change.name for change in CHANGES}) == len(CHANGES) >= 60
    assert {change.rule is None for change in CHANGES} == {True, False}


@pytest.mark.parametrize("change", [c for c in CHANGES if c.rule is None], ids=lambda c: c.name)
def test_an_allowed_change_passes(change: Change, tmp_path: Path) -> None:
    laid_out(tmp_path, change)
    assert check_schemas(tmp_path) == (1, [])


@pytest.mark.parametrize("change", [c for c in CHANGES if c.rule], ids=lambda c: c.name)
def test_a_forbidden_change_is_refused_by_its_rule_with_who_breaks(change: Change, tmp_path: Path) -> None:
    laid_out(tmp_path, change)
    refusals = check_schemas(tmp_path)[1]
    assert change.rule in {refusal.rule for refusal in refusals}
    for refusal in refusals:
        assert refusal.file == f"{TOPIC}/v{len(change.released) + 1}.avsc"
        assert 1 <= refusal.line <= len((tmp_path / refusal.file).read_text().splitlines())
        assert refusal.instead.endswith(".")
        assert "{" not in refusal.instead.replace('{"', "")
        told = {(who.name, who.contact) for who in refusal.breaks}
        assert (TEAM["name"], TEAM["contact"]) in told


@pytest.mark.parametrize("change", CHANGES, ids=lambda c: c.name)
def test_where_we_are_stricter_than_the_registry_the_corpus_says_why(change: Change) -> None:
    stricter = change.rule is not None and change.passes_the_registry
    assert bool(change.why) == stricter
    assert stricter == (change.rule in OURS | GATE or change.taken_for > 0)
