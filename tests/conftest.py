"""What tests share: the real broker and registry, and the whole of billbus as processes on top of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.processes import ROOT, Processes
from tests.stacks import Addresses, chosen
from tests.summary import Summary

SITE_LIMIT_S = 60


def pytest_addoption(parser: pytest.Parser) -> None:
    told = "write what the commands of docs/runbook print into its pages, instead of comparing"
    parser.addoption("--write-runbook", action="store_true", help=told)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Summary(), "billbus-summary")


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    """A broker and a registry with our topics and subjects; shared, so nobody may stop it or its topics.

    A test that does takes `deploy.local.Stack(tmp_path)`, which is its own.
    """
    from services.bus import topics  # a unit test need not load a Kafka client
    from services.bus.catalog import load_catalog

    with chosen(tmp_path_factory.mktemp("stack")) as addresses:
        topics.apply(addresses.bootstrap, addresses.registry, load_catalog(ROOT / "schemas"))
        yield addresses


@pytest.fixture(scope="module")
def services_running(stack: Addresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """The five services and the sandbox as processes on free ports, with state and secrets of their own.

    They end with the module: a second set on this broker would share its partitions.
    """
    folder: Path = tmp_path_factory.mktemp("services")
    with Processes(folder, bootstrap=stack.bootstrap, registry=stack.registry) as running:
        running.start_all()
        yield running


@pytest.fixture(scope="module")
def sandbox(services_running: Processes) -> str:
    """The address of the sandbox that the running services deliver to."""
    return services_running.url("sandbox")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it, once for all that look at it.

    Building fails where a page warns, a link is broken or a foreign host would be asked.
    """
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "tools.site", "--to", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=SITE_LIMIT_S,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder
