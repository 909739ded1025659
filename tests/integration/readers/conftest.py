"""A broker and a registry with every valid example of schemas/ on its topic."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.local import Stack
from deploy.local.progress import fetch_with_progress
from services.bus.topics import apply
from tests.contract.examples import Example, examples
from tests.integration.readers.example_events import CATALOG, event_of
from tests.on_the_bus import publish


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """On a broker of our own: nothing that a service would act on may stand on the shared one."""
    with Stack(tmp_path_factory.mktemp("readers"), parts=fetch_with_progress()) as stack:
        apply(stack.bootstrap, stack.registry, CATALOG)
        yield stack


@pytest.fixture(scope="session")
def published(own: Stack) -> list[Example]:
    """What stands on the topics before any reader starts."""
    valid = examples("valid")
    publish(own, *map(event_of, valid))
    return valid
