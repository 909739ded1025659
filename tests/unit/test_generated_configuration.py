"""docs/configuration.md explains all that the code lets an operator set."""

import re

from services.bus.settings import ROOT, Settings, variable
from tools import generate_configuration


def test_every_setting_and_every_field_is_explained() -> None:
    page = generate_configuration.render()
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    explained = {re.findall(r"`([^`]+)`", row)[0]: row.rsplit("|", 2)[1].strip() for row in rows}
    assert all(explained.values()), [name for name, text in explained.items() if not text]
    assert {variable(name) for name in Settings.model_fields if name != "service"} <= explained.keys()
    assert {"imt.datapump", "rtdr.on_outage", "links.valid_days", "notify.first.days"} <= explained.keys()


def test_the_page_names_no_path_of_this_machine() -> None:
    assert str(ROOT) not in generate_configuration.render()
