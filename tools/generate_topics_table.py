"""Writes the table of topics in README.md, between its two markers: run by `make generate`."""

from collections.abc import Iterable

from services.bus.catalog import Topic, load_catalog
from services.bus.settings import ROOT

TARGET = ROOT / "README.md"
BEGIN = "<!-- topics: made by `make generate` from schemas/; change those, not this -->"
END = "<!-- /topics -->"


def render() -> str:
    """The README with its table made anew; SystemExit where a marker is missing or stands twice."""
    page = TARGET.read_text(encoding="utf-8")
    if page.count(BEGIN) != 1 or page.count(END) != 1 or page.index(BEGIN) > page.index(END):
        raise SystemExit(f"{TARGET.name} needs these two lines once, in this order:\n{BEGIN}\n{END}")
    before, rest = page.split(BEGIN)
    table = _table(load_catalog(ROOT / "schemas").values())
    return f"{before}{BEGIN}\n{table}{END}{rest.split(END)[1]}"


def _table(topics: Iterable[Topic]) -> str:
    lines = [
        "| topic | what | written by | read by | key | kept | personal data |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_row(topic) for topic in topics]
    return "\n".join(lines) + "\n"


def _row(topic: Topic) -> str:
    name = f"[`{topic.name}`](schemas/{topic.name})"
    readers = ", ".join(consumer.name for consumer in topic.consumers) or "none yet"
    kept = "newest of a key" if topic.cleanup == "compact" else f"{topic.retention_days} days"
    what = _what(topic).replace("|", "\\|")
    personal = "yes" if topic.pii else "no"
    cells = [name, what, ", ".join(topic.producers), readers, f"`{topic.key}`", kept, personal]
    return f"| {' | '.join(cells)} |"


def _what(topic: Topic) -> str:
    if topic.deprecated is None:
        return topic.description
    ends, after = topic.deprecated.ends, topic.deprecated.replaced_by
    return f"{topic.description} **Deprecated**: ends {ends}, use `{after}`."
