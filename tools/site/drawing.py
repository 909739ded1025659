"""Draws boxes in columns with arrows between them as SVG, which reads without JavaScript.

Colours and fonts are classes in `site.css`, so that a drawing follows the site's light and dark scheme.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise
from textwrap import wrap

LETTER, PAD, LINE, ROW, EDGE = 7.2, 12, 17, 18, 4
"""Pixels: width of a letter, room beside a text, height of a line, room between boxes, margin."""
LABEL_LETTER, LABEL_LINE, LABEL_ROOM, LABEL_ROW, GAP, APART = 6, 14, 30, 32, 60, 6
BOX_LETTERS, LABEL_LETTERS = 26, 16
"""Longer texts are broken into lines."""
SMALLEST = 0.7
"""How far a drawing shrinks where there is little room; below that it is scrolled."""
SWEEPS = 8


@dataclass(frozen=True)
class Box:
    """One box. `kind` names its class in the style sheet; `link` is where it leads."""

    id: str
    text: str
    kind: str = "step"
    link: str | None = None

    def lines(self) -> list[str]:
        return _broken(self.text, BOX_LETTERS)

    def height(self) -> float:
        return len(self.lines()) * LINE + LINE


@dataclass(frozen=True)
class Arrow:
    """From one box to another; `kind` names its class."""

    begin: str
    end: str
    text: str = ""
    dashed: bool = False
    kind: str = "plain"

    def lines(self) -> list[str]:
        return _broken(self.text, LABEL_LETTERS)


@dataclass
class _Place:
    """Where a box is, or (with no box) where a long arrow passes a column."""

    box: Box | None
    x: float = 0
    y: float = 0
    width: float = 0
    beside: list[str] = field(default_factory=list)

    def height(self) -> float:
        return self.box.height() if self.box else LINE


def draw(columns: Sequence[Sequence[Box]], arrows: Sequence[Arrow], title: str) -> str:
    """An `<svg>` that can be scrolled: each column from top to bottom, in an order with few crossings."""
    layout = _Layout(columns, arrows)
    width, height = layout.size()
    role = "group" if any(box.link for column in columns for box in column) else "img"
    lines = [
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">',
        f'<svg class="drawing" role="{role}" aria-label="{escape(title)}" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" '
        f'style="min-width: {width * SMALLEST:.0f}px">',
        f"<title>{escape(title)}</title>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'markerUnits="userSpaceOnUse" orient="auto-start-reverse"><path d="M0 0 8 4 0 8z"/></marker></defs>',
        *(layout.arrow(arrow) for arrow in arrows),
        *(_box(place) for place in layout.places.values() if place.box),
        *(layout.label(arrow) for arrow in arrows if arrow.text),
        "</svg>",
        "</div>",
    ]
    return "\n".join(lines)


class _Layout:
    def __init__(self, columns: Sequence[Sequence[Box]], arrows: Sequence[Arrow]) -> None:
        self.columns = [[box.id for box in column] for column in columns]
        self.places = {box.id: _Place(box) for column in columns for box in column}
        self.column_of = {name: at for at, column in enumerate(self.columns) for name in column}
        self.path = {arrow: self._pass(arrow) for arrow in arrows}
        self.gaps = [self._gap(arrows, at) for at in range(len(columns))]
        for _ in range(SWEEPS):
            self._sweep(range(1, len(columns)))
            self._sweep(range(len(columns) - 2, -1, -1))
        self._put()

    def _pass(self, arrow: Arrow) -> list[str]:
        """The names on an arrow's way, with a place in each column that it crosses."""
        begin, end = self.column_of[arrow.begin], self.column_of[arrow.end]
        step = 1 if end > begin else -1
        way = [arrow.begin]
        for column in range(begin + step, end, step):
            name = f"{arrow.begin}>{arrow.end}@{column}"
            self.places.setdefault(name, _Place(None))
            if name not in self.columns[column]:
                self.columns[column].append(name)
                self.column_of[name] = column
            way.append(name)
        way.append(arrow.end)
        for one, other in pairwise(way):
            self.places[one].beside.append(other)
            self.places[other].beside.append(one)
        return way

    def _gap(self, arrows: Iterable[Arrow], column: int) -> float:
        """The room behind a column: its arrows' labels have to fit in."""
        texts = [line for arrow in arrows if min(self._span(arrow)) == column for line in arrow.lines()]
        return max((len(text) * LABEL_LETTER + LABEL_ROOM for text in texts), default=GAP)

    def _span(self, arrow: Arrow) -> tuple[int, int]:
        """The two columns between which an arrow's label stands: those at its beginning."""
        way = self.path[arrow]
        return self.column_of[way[0]], self.column_of[way[1]]

    def _sweep(self, columns: Iterable[int]) -> None:
        """Orders columns by where what is connected stands."""
        order = {name: at / len(column) for column in self.columns for at, name in enumerate(column)}
        for column in columns:
            beside = {
                name: [order[each] for each in self.places[name].beside] for name in self.columns[column]
            }
            mean = {name: sum(at) / len(at) if at else order[name] for name, at in beside.items()}
            self.columns[column].sort(key=mean.__getitem__)
            order |= {name: at / len(mean) for at, name in enumerate(self.columns[column])}

    def _put(self) -> None:
        row = LABEL_ROW if any(arrow.text for arrow in self.path) else ROW
        tallest = max(sum(self.places[name].height() + row for name in column) for column in self.columns)
        x: float = EDGE
        for column, gap in zip(self.columns, self.gaps, strict=True):
            boxes = [self.places[name].box for name in column]
            width = max(len(line) * LETTER + 2 * PAD for box in boxes if box for line in box.lines())
            free = (tallest - sum(self.places[name].height() for name in column)) / len(column)
            y = EDGE + free / 2
            for name in column:
                place = self.places[name]
                place.x, place.width, place.y = x, width, y + place.height() / 2
                y += place.height() + free
            x += width + gap
        self.width, self.height = x - self.gaps[-1] + EDGE, tallest + 2 * EDGE

    def size(self) -> tuple[float, float]:
        return self.width, self.height

    def arrow(self, arrow: Arrow) -> str:
        way = [self.places[name] for name in self.path[arrow]]
        path = ""
        for one, other in pairwise(way):
            (x1, y1), (x2, y2) = self._joints(one, other)
            bend = (x2 - x1) * 0.45
            path += f"{'L' if path else 'M'}{x1:.1f} {y1:.1f}" if one.box or not path else ""
            path += f"C{x1 + bend:.1f} {y1:.1f} {x2 - bend:.1f} {y2:.1f} {x2:.1f} {y2:.1f}"
            if other.box is None:  # across the column, straight
                far = other.x + other.width if x2 == other.x else other.x
                path += f"L{far:.1f} {y2:.1f}"
        classes = f"arrow {arrow.kind}{' dashed' if arrow.dashed else ''}"
        return f'<path class="{classes}" d="{path}" marker-end="url(#tip)"/>'

    def label(self, arrow: Arrow) -> str:
        one, other = (self.places[name] for name in self.path[arrow][:2])
        (x1, y1), (x2, y2) = self._joints(one, other)
        return _text(arrow.lines(), (x1 + x2) / 2, (y1 + y2) / 2, LABEL_LINE, "label")

    def _joints(self, one: _Place, other: _Place) -> tuple[tuple[float, float], tuple[float, float]]:
        """Where an arrow leaves one place and meets the other; those that go back keep off the others."""
        if other.x > one.x:
            return (one.x + one.width, one.y), (other.x, other.y)
        low = [place.y + (APART if place.box else 0) for place in (one, other)]
        return (one.x, low[0]), (other.x + other.width, low[1])


def _broken(text: str, letters: int) -> list[str]:
    """A text in as few lines as there have to be, and those as even as can be."""
    lines = wrap(text, letters, break_long_words=False)
    for narrower in range(letters - 1, 0, -1):
        tried = wrap(text, narrower, break_long_words=False)
        if len(tried) > len(lines):
            break
        lines = tried
    return lines


def _text(lines: Sequence[str], x: float, y: float, line: float, name: str) -> str:
    """Lines of text around a point."""
    top = y - (len(lines) - 1) * line / 2 + line * 0.27
    spans = "".join(
        f'<tspan x="{x:.1f}" y="{top + at * line:.1f}">{escape(text)}</tspan>'
        for at, text in enumerate(lines)
    )
    return f'<text class="{name}">{spans}</text>'


def _box(place: _Place) -> str:
    box = place.box
    assert box is not None
    height = box.height()
    corner = f'x="{place.x:.1f}" y="{place.y - height / 2:.1f}"'
    shape = (
        f'<rect {corner} width="{place.width:.1f}" height="{height}" rx="6"/>'
        f"{_text(box.lines(), place.x + place.width / 2, place.y, LINE, 'name')}"
    )
    inner = f'<a href="{escape(box.link)}">{shape}</a>' if box.link else shape
    return f'<g class="box {box.kind}">{inner}</g>'
