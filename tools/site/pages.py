"""The pages that are there already, docs/ and parts of the README, their links led into the site."""

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

from services.bus.settings import ROOT
from tools.generate_topics_table import BEGIN, END
from tools.site.flowchart import draw_charts

LINK = re.compile(r"\[(?P<text>[^\]\[]*)\]\((?P<target>[^)\s]+)\)")
FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
INDEX, TOPICS, DECISIONS, PROGRAMS = "index.md", "topics/index.md", "decisions/index.md", "programs.md"
PLACES = {"README.md": INDEX, "schemas": TOPICS, "docs/decisions": DECISIONS, "examples/consumers": PROGRAMS}
"""What stands elsewhere in the site than in the repository, beside docs/ and the topics' folders."""


def docs_pages() -> dict[str, str]:
    """Every page of docs/ by its path in the site."""
    paths = sorted((ROOT / "docs").rglob("*.md"))
    return {str(path.relative_to(ROOT / "docs")): _page(path) for path in paths}


def decisions_page(pages: Iterable[tuple[str, str]]) -> str:
    """A list of the decisions, by their titles."""
    lines = [f"- [{title_of(text)}]({PurePosixPath(name).name})" for name, text in pages]
    return (
        "# Decisions\n\nWhy things are as they are, one short page a decision.\n\n" + "\n".join(lines) + "\n"
    )


def title_of(page: str) -> str:
    """The first heading of a page."""
    found = re.search(r"^# (.+)$", page, re.MULTILINE)
    if found is None:
        raise ValueError(f"a page without a heading: {page[:60]!r}")
    return found[1]


def readme_opening() -> str:
    """What the README says first, up to its chart."""
    return _read("README.md").split("```mermaid")[0].split("\n", 1)[1].strip()


def readme_table(page: str) -> str:
    """The README's table of topics, its links led from `page` of the site."""
    table = _read("README.md").split(BEGIN)[1].split(END)[0].strip()
    return f'<div class="topics" markdown>\n\n{lead_links(table, "README.md", page)}\n\n</div>'


def _read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _page(path: Path) -> str:
    source, page = str(path.relative_to(ROOT)), str(path.relative_to(ROOT / "docs"))
    text = path.read_text(encoding="utf-8")
    try:
        return draw_charts(lead_links(text, source, page), title_of(text))
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None


def lead_links(text: str, source: str, page: str) -> str:
    """The text with its links as `page` needs them. Raises ValueError for one that leads nowhere.

    A link to a file that the site does not have becomes the file's name.
    """
    parts = FENCED.split(text)
    parts[::2] = [LINK.sub(lambda found: _led(found, source, page), part) for part in parts[::2]]
    return "".join(parts)


def _led(found: re.Match[str], source: str, page: str) -> str:
    target, _, anchor = found["target"].partition("#")
    if not target or re.match(r"[a-z]+:", target):
        return found[0]
    path = normpath(str(PurePosixPath(source).parent / target))
    if not (ROOT / path).exists():
        raise ValueError(f"a link to {path}, which is not there")
    place = place_of(path)
    if place is None:
        return f"{found['text']} (`{path}`)"
    return f"[{found['text']}]({relpath(place, PurePosixPath(page).parent)}{'#' + anchor if anchor else ''})"


def place_of(path: str) -> str | None:
    """Where the site has what the repository has at this path; None where it does not have it."""
    if path in PLACES:
        return PLACES[path]
    top, _, rest = path.partition("/")
    if top == "docs":
        return rest
    topic = rest.split("/")[0]
    if top == "schemas" and (ROOT / "schemas" / topic / "topic.yaml").exists():
        return f"topics/{topic}.md"
    return None
