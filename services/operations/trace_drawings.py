"""A story as a Mermaid diagram, and as a page that needs nothing but itself.

Names and reasons come from partners: everything is escaped, and nothing of it can become markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

from services.operations.trace import Entry, Story

WHO = {
    "payment.received": ("InvoiceCloud", "billbus"),
    "setting.changed": ("InvoiceCloud", "billbus"),
    "invoice.issued": ("IMT", "billbus"),
    "file.received": ("IMT", "billbus"),
    "payment.outcome": ("billbus", "IMT"),
    "setting.outcome": ("billbus", "IMT"),
    "invoice.outcome": ("billbus", "InvoiceCloud"),
    "operation.audited": ("Operator", "billbus"),
}
"""From whom to whom a record tells of; the rest happens in billbus."""
ORDER = ("InvoiceCloud", "billbus", "IMT", "Operator")
MOST_DRAWN = 200
"""Records in a Mermaid diagram; viewers refuse much larger ones."""
KEYWORD = re.compile(r"\bend\b", re.IGNORECASE)
"""Ends a block wherever it stands, also in a message."""


def as_mermaid(story: Story) -> str:
    """A sequenceDiagram; times in the story's zone."""
    lines = ["sequenceDiagram", *(f"    participant {who}" for who in ORDER)]
    day = None
    for entry in story.entries[:MOST_DRAWN]:
        at = entry.at.astimezone(story.zone)
        if at.date() != day:
            day = at.date()
            lines.append(f"    Note over {ORDER[0]},{ORDER[-1]}: {day} {_drawn(str(story.zone))}")
        source, target = _who(entry)
        lines.append(f"    {source}->>{target}: {at:%H:%M:%S} {_drawn(f'{entry.short}: {entry.words}')}")
    lines += [f"    Note over billbus: {_drawn(f'not settled: {said}')}" for said in story.unsettled]
    if len(story.entries) > MOST_DRAWN:
        left = len(story.entries) - MOST_DRAWN
        lines.append(f"    Note over billbus: {left} more records are not drawn")
    return "\n".join(lines) + "\n"


def as_html(story: Story) -> str:
    """One page, its style in itself: no script, no foreign host, safe to send by mail."""
    title = f"{str(story.kind).capitalize()} {'' if story.kind == 'account' else story.text}".strip()
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
            "style-src 'unsafe-inline'\">",
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
            f"<h1>{escape(title)}</h1>",
            f"<p>{escape(', '.join(story.keys))} · {len(story.entries)} records · times in "
            f"{escape(str(story.zone))}</p>",
            *_warnings(story),
            "<table><thead><tr><th>time<th>topic<th>place<th>what happened<th>trace</tr></thead><tbody>",
            *_rows(story),
            "</tbody></table></body></html>",
            "",
        ]
    )


def _warnings(story: Story) -> Iterator[str]:
    for said in story.unsettled:
        yield f'<p class="open">Not settled: {escape(said)}</p>'


def _rows(story: Story) -> Iterator[str]:
    day = None
    for entry in story.entries:
        at = entry.at.astimezone(story.zone)
        if at.date() != day:
            day = at.date()
            yield f'<tr><th class="day" colspan="5" scope="rowgroup">{day:%A}, {day}</th></tr>'
        clock = f"{at:%H:%M:%S}.{at.microsecond // 1000:03d}"
        yield (
            f'<tr class="{_look(entry)}"><td><time datetime="{at.isoformat()}">{clock}</time>'
            f"<td>{escape(entry.short)}<td>{entry.partition}@{entry.offset}<td>{escape(entry.words)}"
            f"<td>{escape((entry.trace_id or '')[:8])}</tr>"
        )


def _who(entry: Entry) -> tuple[str, str]:
    if entry.act is not None:
        return "Operator", "billbus"
    return WHO.get(entry.short, ("billbus", "billbus"))


def _look(entry: Entry) -> str:
    return "replay" if entry.act else entry.short.rpartition(".")[2]


def _drawn(text: str) -> str:
    """Text that Mermaid reads as text: signs with a meaning become entities, lines one line."""
    kept = (c if c.isalnum() or c in " .,:/@()-_?'" else f"#{ord(c)};" for c in " ".join(text.split()))
    return KEYWORD.sub(lambda word: f"{word[0][0]}#{ord(word[0][1])};{word[0][2:]}", "".join(kept))


STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1c1c1c;
background:#fff}
h1{font-size:1.3rem;margin:0 0 .3rem}p{margin:.2rem 0 1rem;color:#444}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.3rem .6rem}
thead th{border-bottom:2px solid #1c1c1c}tbody td{border-bottom:1px solid #ddd}
td:nth-child(1),td:nth-child(3),td:nth-child(5){font-variant-numeric:tabular-nums;white-space:nowrap}
.day{padding-top:1rem;border-bottom:1px solid #1c1c1c}.outcome td:nth-child(2){color:#0a5c2c}
.replay td:nth-child(2){color:#0b5c78}.dlq td:nth-child(2){color:#a01010}
.open{border-left:4px solid #b06f00;padding:.4rem .8rem;background:#fff7e6;color:#1c1c1c}
@media(prefers-color-scheme:dark){body{background:#161616;color:#eee}p{color:#bbb}
thead th,.day{border-color:#eee}tbody td{border-color:#444}.outcome td:nth-child(2){color:#7fd6a0}
.replay td:nth-child(2){color:#8fd4ec}.dlq td:nth-child(2){color:#ff9a9a}
.open{background:#3a2c10;color:#eee}}
""".strip()
