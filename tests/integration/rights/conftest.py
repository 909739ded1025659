"""One broker that asks who comes, with all users of the catalog and their rights."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.local.processes import ROOT
from services.bus import topics
from services.bus.catalog import load_catalog
from services.bus.place import Place
from services.bus.rights import rights_of
from services.operations.access import make_access
from tests.integration.rights.secured import Secured


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    catalog = load_catalog(ROOT / "schemas")
    rights = rights_of(catalog)
    secured = Secured(tmp_path_factory.mktemp("secured"))
    with secured.stack:
        topics.apply(secured.kafka(), secured.registry, catalog)
        secured.add_users(rights)
        with Place(secured.kafka(), secured.registry) as place:
            make_access(place, rights, act=True, revoke=False)
        yield secured
