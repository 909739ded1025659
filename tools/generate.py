"""Writes everything that is derived, nothing else being typed twice: `make generate`.

What each file is made from is said in docs/decisions/derived-from-the-catalog.md.
"""

from collections.abc import Callable
from pathlib import Path

from tools import (
    generate_asyncapi,
    generate_configuration,
    generate_events,
    generate_openapi,
    generate_operators,
    generate_strimzi,
    generate_topics_table,
)

DERIVED: dict[Path, Callable[[], str]] = (
    {
        module.TARGET: module.render
        for module in (
            generate_events,
            generate_configuration,
            generate_asyncapi,
            generate_topics_table,
            generate_operators,
        )
    }
    | generate_openapi.DOCUMENTS
    | {
        generate_strimzi.TOPICS: generate_strimzi.render_topics,
        generate_strimzi.USERS: generate_strimzi.render_users,
    }
)
"""Each derived file and what makes its whole text; the same schemas make the same bytes."""


def write(derived: dict[Path, Callable[[], str]]) -> list[Path]:
    """Writes what differs from what is there; the files that it wrote."""
    written = []
    for target, render in derived.items():
        text = render()
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            written.append(target)
    return written


def stale(derived: dict[Path, Callable[[], str]]) -> list[Path]:
    """The files that are not as their sources have it, or not there."""
    return [
        target
        for target, render in derived.items()
        if not target.exists() or target.read_text(encoding="utf-8") != render()
    ]


if __name__ == "__main__":
    for path in write(DERIVED):
        print(f"wrote {path}")
