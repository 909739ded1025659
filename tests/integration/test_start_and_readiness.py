"""A service whose broker or registry is away: it says so in a sentence at start, and on /readyz later."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from deploy.local import Stack
from deploy.local.ports import free_port
from deploy.local.processes import ROOT, Processes
from services.bus import topics
from services.bus.catalog import load_catalog
from tests.deadline import until
from tests.stacks import Addresses

UNREACHABLE = 3
LIMIT_S = 60


def nowhere() -> str:
    return f"127.0.0.1:{free_port()}"


def started(folder: Path, service: str, bootstrap: str, registry: str) -> subprocess.CompletedProcess[str]:
    """What a person sees who starts a service by hand."""
    processes = Processes(folder, bootstrap=bootstrap, registry=registry)
    return subprocess.run(
        [str(Path(sys.executable).with_name("billbus")), "run", service],
        env=processes.environment(service),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("service", ["payments", "settings"])
def test_without_a_broker_a_service_ends_with_one_sentence(tmp_path: Path, service: str) -> None:
    away = nowhere()
    done = started(tmp_path, service, away, f"http://{nowhere()}/apis/ccompat/v7")
    assert (done.returncode, done.stdout) == (UNREACHABLE, "")
    (line,) = done.stderr.splitlines()
    assert f"Kafka at {away} does not answer" in line


def test_without_a_registry_a_service_ends_with_one_sentence(tmp_path: Path, stack: Addresses) -> None:
    away = f"http://{nowhere()}/apis/ccompat/v7"
    done = started(tmp_path, "payments", stack.bootstrap, away)
    assert (done.returncode, done.stdout) == (UNREACHABLE, "")
    (line,) = done.stderr.splitlines()
    assert f"The registry at {away} does not answer" in line


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose parts may be killed."""
    with Stack(tmp_path_factory.mktemp("own")) as stack:
        topics.apply(stack.bootstrap, stack.registry, load_catalog(ROOT / "schemas"))
        yield stack


def test_readiness_is_about_broker_and_registry_and_never_about_the_partner(
    own: Stack, tmp_path: Path
) -> None:
    with Processes(tmp_path, bootstrap=own.bootstrap, registry=own.registry) as running:
        running.start_all(("sandbox", "payments"))
        away = {"service": "imt", "kind": "maintenance"}
        assert httpx.put(f"{running.url('sandbox')}/control/faults", json=away).status_code == 200
        until(lambda: readiness(running) == (200, []), LIMIT_S, "readiness in IMT's maintenance window")
        own.kill_registry()
        until(lambda: readiness(running) == (503, ["registry"]), LIMIT_S, "the registry's being missed")
        own.start_registry()
        until(lambda: readiness(running) == (200, []), LIMIT_S, "the registry's being back")
        own.kill_broker()
        until(lambda: "broker" in readiness(running)[1], LIMIT_S, "the broker's being missed")
        assert readiness(running)[0] == 503
        own.start_broker()
        until(lambda: readiness(running) == (200, []), LIMIT_S, "the broker's being back")


def readiness(running: Processes) -> tuple[int, list[str]]:
    """What /readyz says, and what is missing."""
    answer = httpx.get(f"{running.url('payments')}/readyz", timeout=10)
    return answer.status_code, answer.json().get("missing", [])
