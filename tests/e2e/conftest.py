"""The whole of billbus on a broker of its own, so that no other test's service shares its partitions."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from deploy.local.processes import DEMO_BILLERS, ROOT, Processes
from tests.e2e.both_sides import BothSides
from tests.stacks import Addresses, chosen

POLLED = {"acme": 3600, "birch": 0.5, "cedar": 3600}  # seconds; birch's poll is looked at, the others' not
OF_THE_RUNBOOK = (
    *("elder", "fir", "gorse", "hazel", "juniper", "larch"),
    *("maple", "oak", "pine", "rowan", "sorrel", "tansy", "thyme"),
)
DUSK = f"dusk-{int(time.time())}"


@pytest.fixture(scope="session")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Addresses]:
    from services.bus import topics
    from services.bus.catalog import load_catalog

    with chosen(tmp_path_factory.mktemp("stack")) as addresses:
        topics.apply(addresses.bootstrap, addresses.registry, load_catalog(ROOT / "schemas"))
        yield addresses


@pytest.fixture(scope="session")
def sides(own_stack: Addresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BothSides]:
    """The five services and the sandbox, with a partner on each side of them."""
    folder = tmp_path_factory.mktemp("services")
    billers = stated_billers(folder / "stated")
    with Processes(
        folder, bootstrap=own_stack.bootstrap, registry=own_stack.registry, billers=billers
    ) as running:
        running.start_all()
        made = BothSides(running, own_stack)
        yield made
        made.close()


@pytest.fixture(autouse=True)
def no_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a partner failing."""
    yield
    if "sides" in request.fixturenames:
        request.getfixturevalue("sides").control("DELETE", "/faults")


@pytest.fixture(scope="session")
def dusk() -> str:
    """A biller of its own, whose cut-off a test may move."""
    return DUSK


def stated_billers(folder: Path) -> Path:
    """The demo's billers with other polls, and one more."""
    shutil.copytree(DEMO_BILLERS, folder)
    for slug, every_s in POLLED.items():
        write(folder, slug, poll={"every_s": every_s, "overlap_s": 60})
    for slug in (DUSK, *OF_THE_RUNBOOK):
        like_birch(folder, slug)
    return folder


def like_birch(folder: Path, slug: str) -> None:
    """One more biller, polled as good as never."""
    told = (
        (DEMO_BILLERS / "birch.yaml").read_text().replace("birch", slug).replace("Birch", slug.capitalize())
    )
    (folder / f"{slug}.yaml").write_text(told)
    code = slug.partition("-")[0].upper()
    access = yaml.safe_load(told)["invoice_cloud"] | {"biller_guid": f"guid-{slug}", "biller_code": code}
    write(folder, slug, invoice_cloud=access, poll={"every_s": 3600, "overlap_s": 60})


def write(folder: Path, slug: str, **changes: object) -> None:
    """Changes whole sections of a biller's file."""
    path = folder / f"{slug}.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes))
