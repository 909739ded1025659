"""How to subscribe to a topic, from docs/subscribe.md and the programs in examples/consumers."""

import re
from pathlib import Path

from services.bus.settings import ROOT

SOURCE = ROOT / "docs" / "subscribe.md"
PROGRAMS = {
    "Python": "python/consume.py",
    "Go": "go/consume.go",
    "Java": "java/Consume.java",
    "TypeScript": "typescript/consume.ts",
}
"""The languages, by the headings of docs/subscribe.md, and each one's program in examples/consumers."""
NAMED = re.compile(r"(?<=\$DAY )billing\.\S+(?: billing\.\S+)*")
"""The topics that a command of docs/subscribe.md names; a topic's own page names that topic."""


def commands(topic: str) -> str:
    """A tab a language with what to type. Raises ValueError where docs/subscribe.md does not say it."""
    return "\n".join(_tab(language, topic) for language in PROGRAMS)


def _tab(language: str, topic: str) -> str:
    needs, block = _section(language)
    named, count = NAMED.subn(topic, block)
    if count != 1:
        raise ValueError(f"{SOURCE}, {language}: no one command that names the topics after $DAY")
    program = f"The program: [`{PROGRAMS[language]}`](../programs.md#{language.lower()})."
    body = f"{needs}\n\n{named}\n\n{program}\n"
    return f'=== "{language}"\n\n' + "".join(f"    {line}".rstrip() + "\n" for line in body.splitlines())


def _section(language: str) -> tuple[str, str]:
    """What a language needs, and its block of commands."""
    text = SOURCE.read_text(encoding="utf-8")
    found = re.search(
        rf"^## {language}\n\n(?P<needs>.+?)\n\n(?P<block>```sh\n.*?^```)", text, re.MULTILINE | re.DOTALL
    )
    if found is None:
        raise ValueError(f"{SOURCE}: no section {language} with commands")
    return found["needs"], found["block"]


def programs_page() -> str:
    """The four programs in full."""
    parts = [
        "---\nsearch:\n  exclude: true\n---\n# The programs\n",
        "Each is complete in one file, with a lock file beside it, and imports nothing of billbus. "
        "[Subscribe in five minutes](subscribe.md) says how to run them.\n",
    ]
    for language, path in PROGRAMS.items():
        file = ROOT / "examples" / "consumers" / path
        parts.append(f"## {language}\n\n`examples/consumers/{path}`\n\n{_fenced(file)}\n")
    return "\n".join(parts)


def _fenced(file: Path) -> str:
    return f"```{file.suffix[1:]}\n{file.read_text(encoding='utf-8').rstrip()}\n```"
