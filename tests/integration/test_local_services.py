"""The five services and the sandbox as processes: ready together, and back after a kill -9."""

from __future__ import annotations

import json
import urllib.request

import pytest

from deploy.local import LocalError
from deploy.local.processes import ALL, Processes


def test_all_processes_are_ready_side_by_side(services_running: Processes) -> None:
    assert [name for name in ALL if not services_running.ready(name)] == []
    assert len({services_running.pid(name) for name in ALL}) == len(ALL)


def test_a_service_comes_back_after_kill_9_on_its_own_port(services_running: Processes) -> None:
    before = services_running.pid("bills")
    services_running.kill("bills")
    assert not services_running.alive("bills")
    assert not services_running.ready("bills")
    services_running.start("bills")
    assert services_running.ready("bills")
    assert services_running.pid("bills") != before


def test_a_second_start_of_the_same_is_refused(services_running: Processes) -> None:
    with pytest.raises(LocalError, match="settings runs already"):
        services_running.launch("settings")


def test_logs_are_one_json_object_a_line_and_carry_no_secret(services_running: Processes) -> None:
    secrets = [path.read_text() for path in services_running.secrets.iterdir()]
    text = services_running.log("payments").read_text()
    lines = [line for line in text.splitlines() if line.startswith("{")]
    assert lines
    assert {json.loads(line)["service"] for line in lines} == {"payments"}
    assert not any(secret in text for secret in secrets)


def test_the_sandbox_has_a_page_for_people(sandbox: str) -> None:
    with urllib.request.urlopen(f"{sandbox}/", timeout=10) as reply:
        assert reply.status == 200
