"""Checks the built site by itself: links and anchors lead somewhere, and no foreign host is asked."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "use": "href"}
"""What a browser fetches without being asked to; a link that a person follows may lead to another host."""
CSS_URL = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])([^'\")]+)")


@dataclass
class Page(HTMLParser):
    """What one file of HTML points to, and what in it can be pointed to."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        stated = {name: value or "" for name, value in attrs}
        self.anchors |= {stated[name] for name in ("id", "name") if name in stated}
        if tag == "a" and "href" in stated:
            self.links.append(stated["href"])
        elif tag in FETCHED and FETCHED[tag] in stated:
            self.fetched.append(stated[FETCHED[tag]])


def broken(site: Path) -> list[str]:
    """What is wrong, one sentence each."""
    pages = {path: Page() for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        page.feed(path.read_text(encoding="utf-8"))
    problems = [
        f"{path.relative_to(site)}: {problem}"
        for path, page in pages.items()
        for problem in _problems(site, path, page, pages)
    ]
    return problems + list(_foreign_in_css(site))


def _problems(site: Path, path: Path, page: Page, pages: dict[Path, Page]) -> Iterator[str]:
    for target in page.fetched:
        if _foreign(target):
            yield f"fetches {target} from a foreign host"
    for target in [*page.links, *page.fetched]:
        url = urlsplit(target)
        if url.scheme or url.netloc:
            continue
        base = site / url.path.lstrip("/") if url.path.startswith("/") else path.parent / unquote(url.path)
        file = path if not url.path else base.resolve()
        file = file / "index.html" if file.is_dir() else file
        if not file.is_file():
            yield f"{target} leads nowhere"
        elif url.fragment and file in pages and unquote(url.fragment) not in pages[file].anchors:
            yield f"{target}: no such anchor"


def _foreign(target: str) -> bool:
    return bool(urlsplit(target).netloc)


def _foreign_in_css(site: Path) -> Iterator[str]:
    for path in sorted(site.rglob("*.css")):
        for target in CSS_URL.findall(path.read_text(encoding="utf-8")):
            if _foreign(target):
                yield f"{path.relative_to(site)}: fetches {target} from a foreign host"
