"""What is derived from the catalog is as the catalog has it, and `make generate` makes it so."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, FormatChecker

from services.bus.settings import ROOT
from tests.contract.examples import SCHEMAS, examples
from tools import generate_asyncapi, generate_operators, generate_topics_table
from tools.generate import DERIVED, stale, write

DOCUMENT: dict[str, Any] = json.loads(generate_asyncapi.TARGET.read_text(encoding="utf-8"))
STATED: dict[str, dict[str, Any]] = {
    path.parent.name: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in sorted(SCHEMAS.glob("*/topic.yaml"))
}


@pytest.mark.parametrize("target", DERIVED, ids=lambda path: path.name)
def test_nothing_derived_is_stale(target: Path) -> None:
    assert stale({target: DERIVED[target]}) == [], f"{target} is stale: run `make generate`"


def test_what_was_edited_or_thrown_away_is_stale_until_it_is_written_again(tmp_path: Path) -> None:
    derived = {tmp_path / "docs" / name: (lambda: "as made\n") for name in ("gone", "edited", "kept")}
    gone, edited, kept = derived
    write(derived)
    gone.unlink()
    edited.write_text("by hand\n")
    assert stale(derived) == [gone, edited]
    assert write(derived) == [gone, edited]
    assert stale(derived) == write(derived) == []
    assert kept.read_text() == "as made\n"


def test_all_that_was_thrown_away_is_made_again_even_the_types_that_the_rest_is_built_of(
    tmp_path: Path,
) -> None:
    for name in ("schemas", "services", "tools", "deploy"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "docs" / "operators", tmp_path / "docs" / "operators")
    for target in DERIVED.keys() - {generate_topics_table.TARGET, generate_operators.TARGET}:
        (tmp_path / target.relative_to(ROOT)).unlink(missing_ok=True)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    here = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHON": "true"}  # its environment is ready
    subprocess.run(["make", "generate"], cwd=tmp_path, env=here, check=True, timeout=60)
    for target in DERIVED:
        assert (tmp_path / target.relative_to(ROOT)).read_bytes() == target.read_bytes(), target


def test_every_topic_is_a_channel_as_its_topic_yaml_says() -> None:
    assert DOCUMENT["channels"].keys() == STATED.keys()
    for name, stated in STATED.items():
        channel = DOCUMENT["channels"][name]
        assert channel["address"] == name
        for word in ("owner", "stability", "since", "deprecated", "key", "pii"):
            assert channel[f"x-{word}"] == stated[word], f"{name}: {word}"
        kafka = channel["bindings"]["kafka"]
        kept = stated["retention_days"]
        assert kafka["partitions"] == stated["partitions"]
        assert kafka["topicConfiguration"]["cleanup.policy"] == [stated["cleanup"]]
        assert kafka["topicConfiguration"]["retention.ms"] == (kept * 24 * 3600 * 1000 if kept > 0 else -1)


def test_every_writer_and_reader_is_an_operation() -> None:
    found = {
        (operation["x-service"], operation["action"], operation["channel"]["$ref"].rsplit("/", 1)[1])
        for operation in DOCUMENT["operations"].values()
    }
    writers = {(name, "send", topic) for topic, stated in STATED.items() for name in stated["producers"]}
    readers = {
        (each["name"], "receive", topic) for topic, stated in STATED.items() for each in stated["consumers"]
    }
    assert found == writers | readers


def test_every_valid_example_is_in_its_message_and_no_invalid_one() -> None:
    for name in STATED:
        [reference] = DOCUMENT["channels"][name]["messages"].values()
        message = DOCUMENT["components"]["messages"][reference["$ref"].rsplit("/", 1)[1]]
        wanted = {each.name: each.value for each in examples("valid") if each.topic == name}
        assert {each["name"]: each["payload"] for each in message["examples"]} == wanted


def test_the_headers_of_an_example_are_as_the_message_says() -> None:
    for message in DOCUMENT["components"]["messages"].values():
        rules = Draft7Validator(message.get("headers", {}), format_checker=FormatChecker())
        for example in message["examples"]:
            assert [error.message for error in rules.iter_errors(example.get("headers"))] == []
            assert ("headers" in example) == ("headers" in message)


@pytest.mark.parametrize("lost", [generate_topics_table.BEGIN, generate_topics_table.END])
def test_a_readme_without_its_markers_is_left_alone(
    lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "README.md"
    page.write_text(generate_topics_table.TARGET.read_text(encoding="utf-8").replace(lost, ""))
    monkeypatch.setattr(generate_topics_table, "TARGET", page)
    with pytest.raises(SystemExit, match="needs these two lines"):
        generate_topics_table.render()
