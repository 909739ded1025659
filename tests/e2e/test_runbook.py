"""docs/runbook: every page's commands are typed in the situation that it is for, and print what it shows."""

from __future__ import annotations

import getpass
import shutil

import pytest

from deploy.local.artifacts import cache_folder, fetch, load_pins
from deploy.local.ports import DEFAULTS, HOST
from deploy.local.processes import ALL, ROOT, SERVICES
from tests.e2e.both_sides import BothSides
from tests.e2e.runbook.page import SECTIONS, Command, Page, read_page
from tests.e2e.runbook.player import play
from tests.e2e.runbook.situations import BY_PAGE
from tests.e2e.runbook.terminal import Terminal

FOLDER = ROOT / "docs" / "runbook"
PAGES = {path.stem: read_page(path) for path in sorted(FOLDER.glob("*.md")) if path.stem != "README"}


def terminal_of(sides: BothSides, biller: str) -> Terminal:
    """An operator's, where the services run; knows this biller alone, so that pages are short."""
    processes = sides.processes
    billers = processes.folder / "operator" / biller
    billers.mkdir(parents=True, exist_ok=True)
    shutil.copy(processes.billers / f"{biller}.yaml", billers)
    own = {
        "BILLBUS_BILLERS": str(billers),
        "BILLBUS_OPERATOR": "ada",
        "BILLBUS_SERVICES": ",".join(f"{name}={processes.url(name)}" for name in SERVICES),
        "BILLBUS_STATE": str(processes.folder / "state" / "operator"),
    }
    masks = {
        sides.stack.bootstrap: f"{HOST}:{DEFAULTS['kafka']}",
        sides.stack.registry: f"http://{HOST}:{DEFAULTS['registry']}/apis/ccompat/v7",
        **{f"{HOST}:{processes.port(name)}": f"{HOST}:{DEFAULTS[name]}" for name in ALL},
        str(processes.folder): "/srv/billbus",
        getpass.getuser(): "ada",
    }
    parts = fetch(load_pins(), cache_folder())
    return Terminal(processes.environment("payments") | own, parts.kafka, masks=masks)


def test_there_is_a_page_for_each_situation() -> None:
    assert PAGES.keys() == BY_PAGE.keys()


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_a_page_says_what_is_looked_for_at_night(page: Page) -> None:
    assert page.sections == list(SECTIONS)
    assert any(isinstance(each, Command) and each.text.startswith("billbus ") for each in page.played)


def test_the_index_leads_to_every_page() -> None:
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert [name for name in PAGES if f"({name}.md)" not in index] == []


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_a_page_shows_what_its_commands_print(
    page: Page, sides: BothSides, request: pytest.FixtureRequest
) -> None:
    made = BY_PAGE[page.name]
    terminal = terminal_of(sides, made.biller)
    writing = request.config.getoption("--write-runbook")
    played = play(page, made(sides, terminal), terminal, writing=writing)
    if writing:
        page.path.write_text(page.with_output(played.printed), encoding="utf-8")
    else:
        assert not played.problems, "\n\n".join(["", *played.problems])
