"""A story on the terminal: the time and one sentence for each record, readable from 80 columns on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime, tzinfo

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.cli.records import as_text, readable
from services.operations.trace import Entry, Story

WIDE = 120
"""Columns from which on each record's place on the log has a column of its own."""
STYLES = {
    "outcome": "green",
    "replay": "cyan",
    "dlq": "red",
    "audited": "magenta",
    "closed": "blue",
}


def print_story(story: Story) -> None:
    """The timeline on stdout, and what is not settled below it."""
    console = Console(highlight=False, soft_wrap=False)
    wide = console.width >= WIDE
    console.print(Text(_title(story), style="bold"))
    console.print(Text(_read(story), style="dim"))
    day = None
    table = _table(wide)
    for entry in story.entries:
        at = entry.at.astimezone(story.zone)
        if at.date() != day:
            if day is not None:
                console.print(table)
                table = _table(wide)
            day = at.date()
            console.print(Text(f"\n{day:%A}, {day}", style="bold"))
        table.add_row(*_cells(entry, at, story.zone, wide))
    console.print(table)
    if story.more:
        console.print(
            Text(f"\nOnly the first {len(story.entries):,} records are shown; narrow it with --day.")
        )
    for sentence in story.unsettled:
        console.print(Text(f"\nNot settled: {_plain(sentence, story.zone)}", style="yellow"))


def print_nothing(story: Story) -> None:
    """Says what was searched, and what else to try, on stdout."""
    looked = story.searched
    kinds = " or ".join(looked.kinds)
    first, last = looked.looked[-1].begin, looked.looked[0].end
    sys.stdout.write(
        f"Nothing found: no {kinds} {_plain(story.text, story.zone)} between "
        f"{_instant(first, story.zone)} and {_instant(last, story.zone)} ({looked.records:,} records "
        f"searched, times in {story.zone}).\n"
        "Look at another day (--day 2026-11-20) or further back (--days 14), or say what it is (--kind).\n"
    )


def _title(story: Story) -> str:
    keys = ", ".join(story.keys)
    text = "" if story.kind == "account" else f" {story.text}"
    return _plain(f"{str(story.kind).capitalize()}{text} of {keys}", story.zone)


def _read(story: Story) -> str:
    followed = story.searched.followed
    return (
        f"{len(story.entries):,} records from {_instant(followed.begin, story.zone)} to "
        f"{_instant(followed.end, story.zone)}, times in {story.zone}; {story.searched.records:,} searched"
    )


def _table(wide: bool) -> Table:
    table = Table.grid(padding=(0, 2), pad_edge=False, expand=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    if wide:
        table.add_column(no_wrap=True, justify="right")
    table.add_column(overflow="fold")
    return table


def _cells(entry: Entry, at: datetime, zone: tzinfo, wide: bool) -> Iterator[Text]:
    style = STYLES.get(entry.short.rpartition(".")[2], "")
    place = f"{entry.partition}@{entry.offset}"
    yield Text(f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}", style="dim")
    yield Text(entry.short, style=style)
    words = _plain(entry.words, zone)
    if wide:
        yield Text(place, style="dim")
        yield Text(words)
    else:
        yield Text.assemble(words, (f" [{place}]", "dim"))


def _instant(at: datetime, zone: tzinfo) -> str:
    return as_text(at.astimezone(zone), zone)[:16].replace("T", " ")


def _plain(text: str, zone: tzinfo) -> str:
    """Text with nothing in it that a terminal would obey."""
    return text if text.isprintable() else readable(text, zone)[1:-1]
