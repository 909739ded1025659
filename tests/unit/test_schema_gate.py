"""What `billbus schemas check` and `release` say of a folder: places, names of who breaks, exit codes."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from services.bus.settings import ROOT
from services.cli.app import cli
from services.operations.schema_gate import (
    CHECKSUMS,
    NotReleasable,
    Refusal,
    check_schemas,
    release_schemas,
)

TOPIC = "billing.payment.received.v1"


@pytest.fixture
def schemas(tmp_path: Path) -> Path:
    """One topic of ours with its released version."""
    shutil.copytree(ROOT / "schemas" / TOPIC, tmp_path / TOPIC)
    release_schemas(tmp_path)
    return tmp_path


def newer(schemas: Path, number: int = 2, **fields: dict[str, Any] | None) -> Path:
    """Writes the next version: fields of the one before, changed, added or (None) taken away by name."""
    before = json.loads((schemas / TOPIC / f"v{number - 1}.avsc").read_text())
    kept = {field["name"]: field for field in before["fields"]} | {
        name: {"name": name, "doc": "New (ours).", **change} if change is not None else None
        for name, change in fields.items()
    }
    before["fields"] = [field for field in kept.values() if field]
    path = schemas / TOPIC / f"v{number}.avsc"
    path.write_text(json.dumps(before, indent=2))
    return path


def refused(schemas: Path) -> list[Refusal]:
    return check_schemas(schemas)[1]


def text_at(refusal: Refusal, schemas: Path) -> str:
    return (schemas / refusal.file).read_text().splitlines()[refusal.line - 1].strip()


def test_a_defaulted_field_breaks_nobody(schemas: Path) -> None:
    newer(schemas, note={"type": ["null", "string"], "default": None})
    assert check_schemas(schemas) == (1, [])


def test_a_refusal_says_place_rule_version_who_breaks_and_what_to_do(schemas: Path) -> None:
    newer(schemas, note={"type": "string"})
    (refusal,) = refused(schemas)
    assert (refusal.file, refusal.rule, refusal.against) == (f"{TOPIC}/v2.avsc", "default", "v1")
    assert text_at(refusal, schemas) == '"name": "note",'
    assert refusal.what == "a reader with v2 finds no `note`, and has no default for it"
    assert {(who.name, who.contact) for who in refusal.breaks} == {
        ("payments", "billbus@insurer.example"),
        ("customer-care", "care-platform@insurer.example"),
        ("payment-analytics", "analytics@insurer.example"),
    }
    assert all("in what v1 wrote (kept 400 days)" in who.how for who in refusal.breaks)
    assert "Give `note` a default" in refusal.instead


def test_a_field_without_default_never_goes_and_who_uses_it_is_told_so(schemas: Path) -> None:
    newer(schemas, tender=None)
    (refusal,) = refused(schemas)
    assert text_at(refusal, schemas).startswith('"fields"')
    used = {who.name: "it uses `tender`" in who.how for who in refusal.breaks}
    assert used == {"payments": False, "customer-care": False, "payment-analytics": True}
    assert "billing.payment.received.v2 beside billing.payment.received.v1" in refusal.instead


def test_a_defaulted_field_stays_while_a_consumer_says_it_reads_it(schemas: Path) -> None:
    newer(schemas, card_type=None)
    (refusal,) = refused(schemas)
    assert refusal.rule == "still-read"
    assert [who.name for who in refusal.breaks] == ["payment-analytics"]

    stated = schemas / TOPIC / "topic.yaml"
    stated.write_text(stated.read_text().replace(" card_type,", ""))
    assert refused(schemas) == []


def test_every_released_version_counts_not_only_the_newest(schemas: Path) -> None:
    newer(schemas, 2, note={"type": ["null", "string"], "default": None})
    release_schemas(schemas)
    newer(schemas, 3, note=None)
    release_schemas(schemas)
    newer(schemas, 4, note={"type": ["null", "int"], "default": None})

    assert {(refusal.rule, refusal.against) for refusal in refused(schemas)} == {("union", "v2")}


@pytest.mark.parametrize("gone", [True, False])
def test_a_released_version_never_changes(schemas: Path, gone: bool) -> None:
    path = schemas / TOPIC / "v1.avsc"
    if gone:
        newer(schemas)
        path.unlink()
    else:
        path.write_text(path.read_text().replace("USD of premium", "EUR of premium"))
    refusal = refused(schemas)[0]
    assert (refusal.rule, refusal.against) == ("immutable", "v1")
    assert "payment-analytics" in [who.name for who in refusal.breaks]
    with pytest.raises(NotReleasable):
        release_schemas(schemas)


def test_the_checksums_are_those_of_sha256sum(schemas: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--strict", CHECKSUMS], cwd=schemas, check=True)


def test_a_version_is_never_left_out(schemas: Path) -> None:
    newer(schemas).rename(schemas / TOPIC / "v3.avsc")
    assert [(refusal.rule, refusal.instead) for refusal in refused(schemas)] == [
        ("numbering", "Name it v2.avsc.")
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [('{\n  "type": "record",\n', 3), ("[1]", 1), ('{"type": "record", "name": "X"}', 1), ("7", 1)],
)
def test_what_is_no_schema_is_refused_at_its_line(schemas: Path, text: str, line: int) -> None:
    (schemas / TOPIC / "v2.avsc").write_text(text)
    (refusal,) = refused(schemas)
    assert (refusal.rule, refusal.line) == ("not-avro", line)


def test_commands_say_by_their_exit_code_what_they_found(schemas: Path, tmp_path: Path) -> None:
    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(cli, ["schemas", *words, "--folder", str(schemas)])
        return done.exit_code, done.output

    assert run("check") == (0, "All schemas are as they were released\n")
    newer(schemas, note={"type": "string"})
    code, told = run("check")
    assert code == 1
    line = refused(schemas)[0].line
    assert told.startswith(f"{schemas}/{TOPIC}/v2.avsc:{line}: default against v1: ")
    assert "breaks customer-care (care-platform@insurer.example)" in told
    assert run("release")[0] == 1
    newer(schemas, note={"type": ["null", "string"], "default": None})
    assert run("release") == (0, f"released {TOPIC}/v2.avsc\n")
    assert run("release") == (0, "Nothing new to release\n")
    (schemas / CHECKSUMS).write_text("what is this line\n")
    assert run("check")[0] == 2
    (tmp_path / "empty").mkdir()
    assert CliRunner().invoke(cli, ["schemas", "check", "--folder", str(tmp_path / "empty")]).exit_code == 2


def test_programs_get_json(schemas: Path) -> None:
    newer(schemas, note={"type": "string"})
    done = CliRunner().invoke(cli, ["schemas", "check", "--folder", str(schemas), "--json"])
    told = json.loads(done.stdout)
    assert (done.exit_code, told["new"], len(told["refusals"])) == (1, 1, 1)
    assert {"name", "contact", "how"} == told["refusals"][0]["breaks"][0].keys()


def test_the_check_stands_before_each_commit_and_in_make_check() -> None:
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert hook["entry"].endswith("billbus schemas check")
    assert (
        "billbus schemas check"
        in (ROOT / "Makefile").read_text().partition("\ncheck:")[2].partition("\n\n")[0]
    )
