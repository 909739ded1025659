"""Turns the flow charts of docs/flows, written for Mermaid, into drawings: Mermaid would need JavaScript."""

import re

from tools.site.drawing import Arrow, Box, draw

FENCE = re.compile(r"^```mermaid\n(?P<chart>.*?)^```$", re.MULTILINE | re.DOTALL)
SHAPES = {"[[": "topic", "[(": "view", "{{": "lane", "(": "own", "[": "step"}
"""What opens a shape, longest first, and the class of the box."""
NODE = re.compile(r"\s*(?P<id>\w+)(?:(?P<open>\[\[|\[\(|\{\{|\(|\[)(?P<text>.*?)(?:\]\]|\)\]|\}\}|\)|\]))?")
LINK = re.compile(r"\s*(?P<line>-->|-\.->)(?:\|(?P<text>[^|]*)\|)?")


def draw_charts(page: str, title: str) -> str:
    """The page with each chart drawn. Raises ValueError naming the line that is no chart we can draw."""
    return FENCE.sub(lambda found: _drawn(found["chart"], title), page)


def _drawn(chart: str, title: str) -> str:
    boxes, arrows = _read(chart)
    order = _columns(list(boxes), arrows)
    columns: list[list[Box]] = [[] for _ in range(max(order.values()) + 1)]
    for name, box in boxes.items():
        columns[order[name]].append(box)
    return draw(columns, arrows, title)


def _read(chart: str) -> tuple[dict[str, Box], list[Arrow]]:
    first, *lines = chart.strip().splitlines()
    if first != "flowchart LR":
        raise ValueError(f"only `flowchart LR` can be drawn, not: {first}")
    boxes: dict[str, Box] = {}
    arrows: list[Arrow] = []
    for line in lines:
        at, before, link = 0, None, None
        while at < len(line.rstrip()):
            node = NODE.match(line, at)
            if node is None:
                raise ValueError(f"cannot be drawn: {line.strip()}")
            name = node["id"]
            if node["open"] or name not in boxes:
                boxes[name] = Box(name, node["text"] or name, SHAPES[node["open"] or "["])
            if before and link:
                arrows.append(Arrow(before, name, link["text"] or "", dashed=link["line"] == "-.->"))
            before, at = name, node.end()
            link = LINK.match(line, at)
            at = link.end() if link else at
            if link is None and line[at:].strip():
                raise ValueError(f"cannot be drawn: {line.strip()}")
    return boxes, arrows


def _columns(names: list[str], arrows: list[Arrow]) -> dict[str, int]:
    """The column of each box: one further than whatever leads to it, where nothing goes round."""
    onward = _without_rounds(arrows)
    column = dict.fromkeys(names, 0)
    for _ in names:
        for begin, end in onward:
            column[end] = max(column[end], column[begin] + 1)
    for name in names:  # what nothing leads to stands right before what it leads to
        after = [column[end] for begin, end in onward if begin == name]
        if after and all(end != name for _, end in onward):
            column[name] = min(after) - 1
    return column


def _without_rounds(arrows: list[Arrow]) -> list[tuple[str, str]]:
    """The arrows as pairs, without those that close a round."""
    onward: list[tuple[str, str]] = []

    def leads(begin: str, end: str) -> bool:
        return begin == end or any(leads(after, end) for before, after in onward if before == begin)

    for arrow in arrows:
        if not leads(arrow.end, arrow.begin):
            onward.append((arrow.begin, arrow.end))  # noqa: PERF401 - asked for while it grows
    return onward
