"""On which line of a JSON text each value stands: Python's parser does not say."""

import json
import re
from collections.abc import Iterator

TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def line_of(text: str, place: tuple[str | int, ...]) -> int:
    """The line, from 1, of the value at a place (keys and indexes) in a valid JSON text.

    Where there is no such value, the line of the nearest one around it.
    """
    known = dict(_values(_tokens(text)))
    while place not in known:
        place = place[:-1]
    return known[place]


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    line, at = 1, 0
    for found in TOKEN.finditer(text):
        line += text.count("\n", at, found.start())
        at = found.start()
        yield found[0], line


def _values(tokens: Iterator[tuple[str, int]]) -> Iterator[tuple[tuple[str | int, ...], int]]:
    """Each value's place and line; `inside` is the way to the value that comes next."""
    inside: list[str | int] = []
    kinds: list[str] = []
    key_next = False
    for mark, line in tokens:
        if mark == ":":
            key_next = False
        elif mark == ",":
            key_next = kinds[-1] == "{"
            if not key_next:
                inside[-1] = int(inside[-1]) + 1
        elif mark in "]}":
            kinds.pop()
            inside.pop()
        elif key_next and mark.startswith('"'):
            inside[-1] = json.loads(mark)
        else:
            yield tuple(inside), line
            if mark in "[{":
                kinds.append(mark)
                inside.append(0 if mark == "[" else "")
                key_next = mark == "{"
