"""What each version of a topic's schema changed, as words and as a diff of the files."""

import difflib
import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from services.bus.catalog import Topic, version_files
from tools.site.fields import Field, fields_of


def history(topic: Topic, folder: Path) -> str:
    """The versions, newest first; the first one has nothing to differ from."""
    files = version_files(folder)
    changes = [_change(old, new, topic.name) for old, new in pairwise(files)]
    said = f"The first version, with the topic since {topic.since}. {_file(files[0], topic.name)}"
    first = f"### {files[0].stem}\n\n{said}\n"
    return "\n".join([*reversed(changes), first])


def _file(file: Path, topic: str) -> str:
    return f"[{file.name}](../schemas/{topic}/{file.name})"


def _change(old: Path, new: Path, topic: str) -> str:
    before, after = (path.read_text(encoding="utf-8").splitlines() for path in (old, new))
    diff = "\n".join(difflib.unified_diff(before, after, old.name, new.name, lineterm=""))
    return f"### {new.stem}\n\n{_said(old, new)} {_file(new, topic)}\n\n```diff\n{diff}\n```\n"


def _said(old: Path, new: Path) -> str:
    before, after = (
        {each.name: each for each in fields_of(json.loads(path.read_text(encoding="utf-8")))}
        for path in (old, new)
    )
    return " ".join(_sentences(before, after)) or "No field came, went or changed."


def _sentences(before: dict[str, Field], after: dict[str, Field]) -> Iterator[str]:
    kept = before.keys() & after.keys()
    for word, names in (
        ("New", after.keys() - before.keys()),
        ("Gone", before.keys() - after.keys()),
        ("Changed", {name for name in kept if before[name] != after[name]}),
    ):
        if names:
            yield f"{word}: {', '.join(f'`{name}`' for name in sorted(names))}."
