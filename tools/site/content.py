"""All pages of the site and the way to them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.bus.catalog import Topic, load_catalog
from services.bus.settings import ROOT
from tools.site.overview import draw_map
from tools.site.pages import (
    DECISIONS,
    INDEX,
    PROGRAMS,
    TOPICS,
    decisions_page,
    docs_pages,
    readme_opening,
    readme_table,
    title_of,
)
from tools.site.subscribing import programs_page
from tools.site.topic_page import topic_page

MAP = "map.md"
WIDE = "---\nhide: [toc]\n---\n"
"""Front matter of a page that needs the room of the table of contents."""
RUNBOOK = "runbook/README.md"
READERS = ["subscribe.md", PROGRAMS, "evolve.md"]
"""The pages for other teams; what else of docs/ is in no folder, operators/ or runbook/, is for operators."""


@dataclass(frozen=True)
class Content:
    """Markdown by path, and MkDocs' `nav`."""

    pages: dict[str, str]
    nav: list[Any]


def gather(schemas: Path) -> Content:
    """Raises ValueError naming the file that cannot be shown."""
    catalog = load_catalog(schemas)
    docs = docs_pages()
    flows = [name for name in docs if name.startswith("flows/")]
    services = {Path(name).stem for name in flows}
    decisions = [name for name in docs if name.startswith("decisions/")]
    general = [name for name in docs if "/" not in name and name not in READERS]
    commands = [name for name in docs if name.startswith("operators/")]
    situations = [name for name in docs if name.startswith("runbook/") and name != RUNBOOK]
    topics = {f"topics/{topic.name}.md": topic for topic in catalog.values()}
    pages = {
        **{name: f"{WIDE}{text}" if name in flows else text for name, text in docs.items()},
        **{page: topic_page(topic, schemas / topic.name, services) for page, topic in topics.items()},
        INDEX: _home(catalog),
        MAP: _map(catalog, services),
        TOPICS: f"{WIDE}# Topics\n\n{readme_table(TOPICS)}\n",
        DECISIONS: decisions_page((name, docs[name]) for name in decisions),
        PROGRAMS: programs_page(),
    }
    nav = [
        {"Home": INDEX},
        {"Map": MAP},
        {"Topics": [TOPICS, *({topic.short: page} for page, topic in topics.items())]},
        {"Subscribe": READERS},
        {"Flows": [{title_of(docs[name]).split(":")[0]: name} for name in flows]},
        {"Operate": [*general, {"Commands": commands}]},
        {"Runbook": [RUNBOOK, *situations]},
        {"Decisions": [DECISIONS, *decisions]},
    ]
    return Content(pages, nav)


def _home(catalog: Mapping[str, Topic]) -> str:
    return "\n\n".join(
        [
            f"{WIDE}# billbus",
            readme_opening(),
            '<div class="cards" markdown>\n\n'
            f"- [**{len(catalog)} topics**](topics/index.md)\n  what each says, who writes it, who reads it\n"
            "- [**Subscribe**](subscribe.md)\n  records on your screen in five minutes, in four languages\n"
            "- [**The map**](map.md)\n  services, topics and readers in one drawing\n"
            "- [**AsyncAPI**](asyncapi.json)\n  all topics in one document, for tools\n"
            f"- **OpenAPI**\n  what each service takes over HTTP: {_intakes()}\n\n</div>",
            f"## The topics\n\n{readme_table(INDEX)}\n",
        ]
    )


def _intakes() -> str:
    """A link to the OpenAPI document of each service."""
    names = sorted(path.stem for path in (ROOT / "docs" / "openapi").glob("*.json"))
    return ", ".join(f"[{name}](openapi/{name}.json)" for name in names)


def _map(catalog: Mapping[str, Topic], services: set[str]) -> str:
    drawing = draw_map(list(catalog.values()), services, "")
    return (
        f"{WIDE}# The map\n\nServices (amber) on the left write the topics in the middle; on the right is "
        "who reads them, services and other teams (violet). A box leads to its page; the same in words is in "
        "[the table of topics](topics/index.md).\n\n"
        f"{drawing}\n"
    )
