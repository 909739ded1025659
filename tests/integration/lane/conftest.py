"""A broker for the lane's tests alone."""

import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from deploy.local import Stack
from deploy.local.processes import ROOT
from deploy.local.progress import fetch_with_progress
from services.bus.catalog import load_catalog
from services.bus.topics import apply
from tests.lane_bench import Bench


@pytest.fixture(scope="session")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A broker of our own: these tests break offsets and write what no service should read."""
    with Stack(tmp_path_factory.mktemp("lane"), parts=fetch_with_progress()) as stack:
        apply(stack.bootstrap, stack.registry, load_catalog(ROOT / "schemas"))
        yield stack


@pytest.fixture
async def bench(own_stack: Stack, tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(own_stack, tmp_path)
    await made.codec.start()
    await made.publisher.start()
    made.begin()
    yield made
    await made.publisher.stop()
    made.codec.close()
    gc.collect()  # a connection left open fails the test that left it, not whichever comes next
