"""What the services are started with: their own folders, random secrets, nothing of a person's settings."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from deploy.local import LocalError
from deploy.local.demo_secrets import KINDS, make_secrets
from deploy.local.processes import ALL, Processes


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Processes:
    billers = tmp_path / "given"
    billers.mkdir()
    (billers / "acme.yaml").write_text("slug: acme\n")
    monkeypatch.setenv("BILLBUS_LOG_LEVEL", "DEBUG")
    return Processes(
        tmp_path / "run", bootstrap="127.0.0.1:1", registry="http://127.0.0.1:2/apis", billers=billers
    )


def test_secrets_are_random_and_for_their_owner_only(tmp_path: Path) -> None:
    make_secrets(tmp_path / "one", ["acme", "birch"])
    make_secrets(tmp_path / "two", ["acme"])
    files = sorted((tmp_path / "one").iterdir())
    assert [file.name for file in files] == sorted(
        f"{slug}-{kind}" for slug in ("acme", "birch") for kind in KINDS
    )
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    values = [file.read_text() for folder in ("one", "two") for file in (tmp_path / folder).iterdir()]
    assert len(set(values)) == len(values)
    assert min(len(value) for value in values) >= 40


def test_a_secret_that_is_there_stays(tmp_path: Path) -> None:
    make_secrets(tmp_path, ["acme"])
    before = {file.name: file.read_text() for file in tmp_path.iterdir()}
    make_secrets(tmp_path, ["acme"])
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == before


def test_a_process_gets_its_own_folders_and_nothing_of_the_persons_settings(processes: Processes) -> None:
    environment = processes.environment("payments")
    assert "BILLBUS_LOG_LEVEL" not in environment
    assert environment["BILLBUS_BOOTSTRAP"] == "127.0.0.1:1"
    assert environment["BILLBUS_STATE"] != processes.environment("payments-2")["BILLBUS_STATE"]
    assert environment["BILLBUS_PORT"] != processes.environment("payments-2")["BILLBUS_PORT"]
    assert Path(environment["BILLBUS_BILLERS"]).is_relative_to(processes.folder)
    assert environment["BILLBUS_SANDBOX_URL"] == processes.url("sandbox")
    assert (
        processes.secret("acme-intake-password") == (processes.secrets / "acme-intake-password").read_text()
    )
    assert (processes.drop_folder / "acme").is_dir()


def test_every_process_listens_on_a_port_of_its_own(processes: Processes) -> None:
    assert len({processes.url(name) for name in ALL}) == len(ALL)


def test_a_service_that_does_not_exist_is_named(processes: Processes) -> None:
    with pytest.raises(LocalError, match="no service named cheques; there are sandbox, invoices"):
        processes.launch("cheques")


def test_one_that_was_never_started_is_named(processes: Processes) -> None:
    assert not processes.alive("bills")
    assert not processes.ready("bills")
    with pytest.raises(LocalError, match="bills was never started"):
        processes.kill("bills")


def test_when_one_does_not_come_up_none_stays(processes: Processes, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = {
        "sandbox": "import threading; threading.Event().wait(60)",
        "bills": "raise SystemExit('no broker')",
    }
    monkeypatch.setattr(
        "deploy.local.processes._command", lambda name: [sys.executable, "-c", commands[name]]
    )
    with pytest.raises(LocalError, match=r"bills ended while it was starting: no broker"):
        processes.start_all(("bills", "sandbox"))
    assert not processes.alive("sandbox")
