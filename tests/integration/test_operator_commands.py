"""billbus doctor, topics and support as an operator runs them: what they print, and their exit codes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.local.processes import ROOT, Processes
from services.cli import app
from tests.stacks import Addresses

BASH_LIMIT_S = 180


class Operator:
    """Runs commands in this process, under an environment of its own."""

    def __init__(self, environment: dict[str, str], patch: pytest.MonkeyPatch, out: Any) -> None:
        self.environment = environment
        self._patch = patch
        self._out = out

    def __call__(self, *arguments: str, **changed: str) -> tuple[int, Any]:
        """Exit code and what --json prints."""
        with self._patch.context() as patch:
            for name in [name for name in os.environ if name.startswith("BILLBUS_")]:
                patch.delenv(name)
            for name, value in (self.environment | changed).items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["billbus", *arguments, "--json"])
            with pytest.raises(SystemExit) as ended:
                app.main()
        code = ended.value.code
        return code if isinstance(code, int) else 0, json.loads(self._out.readouterr().out)


@pytest.fixture(scope="module")
def partners(stack: Addresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of an operator, with the sandbox playing the partners."""
    folder = tmp_path_factory.mktemp("operator")
    with Processes(folder, bootstrap=stack.bootstrap, registry=stack.registry) as running:
        running.start("sandbox")
        yield running.environment("payments")


@pytest.fixture
def billbus(
    partners: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Operator:
    return Operator(partners, monkeypatch, capsys)


def found(findings: list[dict[str, str]], *states: str) -> list[dict[str, str]]:
    return [finding for finding in findings if finding["state"] in states]


def test_doctor_finds_nothing_where_all_is_right(billbus: Operator) -> None:
    code, findings = billbus("doctor")
    assert found(findings, "wrong", "unreachable") == []
    assert code == 0
    checks = {finding["check"] for finding in findings}
    assert checks == {
        "machine",
        "biller",
        "broker",
        "broker 1",
        "registry",
        "topics",
        "place",
        "clock",
        "partner",
    }
    assert len(found([f for f in findings if f["check"] == "partner"], "fine")) == 15


def test_doctor_names_a_wrong_key_and_what_to_do(billbus: Operator, tmp_path: Path) -> None:
    secrets = Path(billbus.environment["BILLBUS_SECRETS"])
    for secret in secrets.iterdir():
        (tmp_path / secret.name).write_text(secret.read_text())
    (tmp_path / "acme-imt-token").write_text("not-the-token")
    (tmp_path / "birch-ic-key").write_text("not-the-key")

    code, findings = billbus("doctor", "--read-only", BILLBUS_SECRETS=str(tmp_path))

    assert code == 1
    wrong = found(findings, "wrong", "unreachable")
    assert {finding["found"].split(":")[0] for finding in wrong} == {
        "acme payments-due",
        "acme DataPump Payments",
        "acme Settings",
        "acme Bills",
        "birch InvoiceCloud",
    }
    assert all(finding["what_to_do"] for finding in wrong)
    assert "not-the" not in json.dumps(findings)


def test_doctor_says_all_that_is_wrong_in_a_billers_file(billbus: Operator, tmp_path: Path) -> None:
    acme = (Path(billbus.environment["BILLBUS_BILLERS"]) / "acme.yaml").read_text()
    broken = acme.replace("America/Chicago", "America/Iowa").replace("ivr: true", "kiosk: true")
    (tmp_path / "acme.yaml").write_text(broken)

    code, findings = billbus("doctor", "--read-only", BILLBUS_BILLERS=str(tmp_path))

    assert code == 1
    assert [f["found"].split(": ")[1] for f in found(findings, "wrong")] == ["products.kiosk", "timezone"]


def test_doctor_says_that_sessions_are_shorter_than_the_broker_allows(billbus: Operator) -> None:
    code, findings = billbus("doctor", "--read-only", BILLBUS_SESSION_TIMEOUT_MS="1000")
    assert code == 1
    (wrong,) = found(findings, "wrong")
    assert wrong["found"].startswith("group.min.session.timeout.ms is ")


def test_doctor_goes_on_when_the_broker_is_away(billbus: Operator) -> None:
    code, findings = billbus("doctor", BILLBUS_BOOTSTRAP="127.0.0.1:1")
    assert code == 3
    (away,) = found(findings, "unreachable")
    assert (away["check"], "BILLBUS_BOOTSTRAP" in away["what_to_do"]) == ("broker", True)
    assert len([f for f in findings if f["check"] == "partner"]) == 15


def test_doctor_says_that_the_registry_is_away(billbus: Operator) -> None:
    code, findings = billbus("doctor", "--read-only", BILLBUS_REGISTRY="http://127.0.0.1:1")
    assert code == 3
    assert [finding["check"] for finding in found(findings, "unreachable")] == ["registry"]


def test_topics_agree_with_the_catalog(billbus: Operator) -> None:
    assert billbus("topics", "diff") == (0, [])
    assert billbus("topics", "apply", "--yes") == (0, [])


def test_a_schema_that_is_not_as_released_reaches_no_registry(billbus: Operator, tmp_path: Path) -> None:
    schemas = tmp_path / "schemas"
    shutil.copytree(ROOT / "schemas", schemas)
    edited = schemas / "billing.bill.linked.v1" / "v1.avsc"
    edited.write_text(edited.read_text().replace("link", "linc", 1))
    environment = {"BILLBUS_SCHEMAS": str(schemas)}
    code, rows = billbus("topics", "apply", "--yes", **environment)
    assert code == 1
    assert [(row["what"], row["where"], row["state"]) for row in rows] == [
        ("schema", "billing.bill.linked.v1/v1.avsc", "waits for a person")
    ]
    assert "billbus schemas release" in rows[0]["change"]
    code, rows = billbus("topics", "apply", **environment)
    assert (code, "schema" in {row["what"] for row in rows}) == (1, True)
    assert billbus("topics", "diff") == (0, [])


def test_topics_lists_the_catalog_without_a_broker(billbus: Operator) -> None:
    code, rows = billbus("topics", BILLBUS_BOOTSTRAP="127.0.0.1:1")
    assert code == 0
    assert len(rows) == 15


def test_a_broker_that_is_away_is_exit_code_3_and_a_sentence(billbus: Operator) -> None:
    code, said = billbus("topics", "diff", BILLBUS_BOOTSTRAP="127.0.0.1:1")
    assert code == 3
    assert said["errors"][0].startswith("Kafka at 127.0.0.1:1 does not answer")


def test_a_wrong_setting_is_exit_code_2_and_all_of_them_at_once(billbus: Operator) -> None:
    wrong = {"BILLBUS_IN_FLIGHT": "many", "BILLBUS_SCHEMAS": "/nowhere"}
    code, said = billbus("support", **wrong)
    assert code == 2
    assert [line.split(":")[0] for line in said["errors"]] == ["BILLBUS_SCHEMAS", "BILLBUS_IN_FLIGHT"]


def test_support_shows_every_row_with_its_test(billbus: Operator) -> None:
    code, rows = billbus("support")
    assert code == 0
    assert len(rows) == 47
    assert sum(row["status"] == "not supported" for row in rows) == 27
    assert all(row["test"].startswith("tests/e2e/") and row["enforced_at"] for row in rows)


def test_a_switch_that_is_not_supported_stops_the_service_with_the_rows_sentence(
    billbus: Operator, tmp_path: Path
) -> None:
    acme = (Path(billbus.environment["BILLBUS_BILLERS"]) / "acme.yaml").read_text()
    (tmp_path / "acme.yaml").write_text(acme.replace("  ivr: true", "  ivr: true\n  kiosk: true"))
    command = [str(Path(sys.executable).with_name("billbus")), "run", "payments"]
    done = subprocess.run(
        command,
        env=billbus.environment | {"BILLBUS_BILLERS": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2
    assert "products.kiosk: Not supported: Kiosk. Kiosk payments are not part" in done.stderr
    assert "Traceback" not in done.stderr


def test_bash_completes_commands_topics_and_billers(billbus: Operator) -> None:
    """The script that a person installs, in a bash of its own; no broker is asked."""
    command = str(Path(sys.executable).with_name("billbus"))
    away = billbus.environment | {"BILLBUS_BOOTSTRAP": "127.0.0.1:1"}
    script = subprocess.run(
        [command],
        env=away | {"_BILLBUS_COMPLETE": "source_bash"},
        capture_output=True,
        text=True,
        timeout=BASH_LIMIT_S,
    ).stdout
    assert "complete -o default -F _billbus_completion billbus" in script
    typed = {
        "com": ("billbus", "con"),
        "top": ("billbus", "tail", "payment.re"),
        "own": ("billbus", "tail", "payment.received", "--biller", "b"),
    }
    asked = "".join(
        f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _billbus_completion {command}\n"
        f'echo "{name}: ${{COMPREPLY[*]}}"\n'
        for name, words in typed.items()
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{script}\n{asked}"],
        env=away,
        capture_output=True,
        text=True,
        timeout=BASH_LIMIT_S,
    )
    assert done.stdout.splitlines() == ["com: convert", "top: payment.received", "own: birch"], done.stderr
