"""Whether real output is what a page shows, and what a page shows of it: values differ, the words may not."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tests.e2e.runbook.page import LEFT_OUT

_VALUES = (
    (
        re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b", re.IGNORECASE),
        "<guid>",
    ),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{16,64}\b"), "<digest>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d| ?UTC)?"), "<time>"),
    (re.compile(r"\b\d\d:\d\d(:\d\d(\.\d+)?)?\b"), "<time>"),
    (re.compile(r"\b(Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day\b"), "<weekday>"),
    (re.compile(r"\b[ECMP][SD]T\b"), "<zone>"),
    (re.compile(r"\b\d+(\.\d+)? ?(ms|s|min|h|d|seconds?|minutes?|hours?|days?)\b"), "<duration>"),
    (re.compile(r"(?:(?<=[\s(\u2500-\u257f])|^)0(\.00)?(?=[\s),;:.\u2500-\u257f]|$)"), "<nothing>"),
    (re.compile(r"\d[\d,]*(\.\d+)?"), "<n>"),
    (re.compile(r"(<n>[.:-]?){2,}"), "<n>"),
    (re.compile(r"(<duration> ?){2,}"), "<duration> "),
    (re.compile(r"[\u2500-\u257f\-=_]{2,}"), "-"),
    (re.compile(r"[\u2500-\u257f|\s]+"), " "),
)


def alike(line: str) -> str:
    """The line with placeholders for what differs from run to run; nought stays nought."""
    for pattern, placeholder in _VALUES:
        line = pattern.sub(placeholder, line)
    return line.strip()


def missing(shown: Sequence[str], printed: Sequence[str]) -> list[str]:
    """The lines of a page that the output has not, or not in this order."""
    return [line for line, at in _places(shown, printed) if at is None and line != LEFT_OUT]


def renewed(shown: Sequence[str], printed: Sequence[str]) -> list[str]:
    """The output as the page shall show it: what the page left out stays left out.

    All of it where the page showed nothing yet, or shows a line that is no longer printed.
    """
    if not shown or missing(shown, printed):
        return [line.rstrip() for line in printed]
    return [LEFT_OUT if at is None else printed[at].rstrip() for _, at in _places(shown, printed)]


def _places(shown: Sequence[str], printed: Sequence[str]) -> list[tuple[str, int | None]]:
    """Each line of a page with its place in the output, None where it has none after the one before."""
    found: list[tuple[str, int | None]] = []
    have = [alike(line) for line in printed]
    after = 0
    for line in shown:
        try:
            at = None if line == LEFT_OUT else have.index(alike(line), after)
        except ValueError:
            at = None
        after = after if at is None else at + 1
        found.append((line, at))
    return found
