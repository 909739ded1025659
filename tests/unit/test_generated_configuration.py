"""docs/configuration.md is made from the code; here is who says when it is stale."""

import re

from services.bus.settings import ROOT, Settings, variable
from tools import generate_configuration


def test_the_page_is_made_from_the_settings_as_they_are() -> None:
    assert generate_configuration.TARGET.read_text() == generate_configuration.render(), "run `make generate`"


def test_every_setting_and_every_field_is_explained() -> None:
    page = generate_configuration.render()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    explained = {re.findall(r"`([^`]+)`", row)[0]: row.rsplit("|", 2)[1].strip() for row in rows}
    assert all(explained.values()), [name for name, text in explained.items() if not text]
    assert {variable(name) for name in Settings.model_fields if name != "service"} <= explained.keys()
    assert {"imt.datapump", "rtdr.on_outage", "links.valid_days", "notify.first.days"} <= explained.keys()


def test_the_page_names_no_path_of_this_machine() -> None:
    assert str(ROOT) not in generate_configuration.render()
