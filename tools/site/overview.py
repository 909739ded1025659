"""The map: who writes which topic and who reads it, from topic.yaml alone."""

from collections.abc import Collection

from services.bus.catalog import Topic
from tools.site.drawing import Arrow, Box, draw


def draw_map(topics: Collection[Topic], services: Collection[str], up: str) -> str:
    """Writers, topics and readers in three columns; `up` leads from the page to the site's root."""
    writers = sorted({name for topic in topics for name in topic.producers})
    readers = sorted({each.name for topic in topics for each in topic.consumers})

    def party(side: str, name: str) -> Box:
        link = f"{up}flows/{name}.html" if name in services else None
        return Box(f"{side} {name}", name, "service" if name in writers else "team", link)

    arrows = [
        *(
            Arrow(f"w {name}", topic.name, kind=f"writes by-{name}")
            for topic in topics
            for name in topic.producers
        ),
        *(
            Arrow(topic.name, f"r {each.name}", kind=_reads(each.name, writers))
            for topic in topics
            for each in topic.consumers
        ),
    ]
    columns = [
        [party("w", name) for name in writers],
        [Box(topic.name, topic.name, "topic", f"{up}topics/{topic.name}.html") for topic in topics],
        [party("r", name) for name in readers],
    ]
    return draw(columns, arrows, "Services, the topics they write, and who reads them")


def _reads(name: str, writers: Collection[str]) -> str:
    return f"reads by-{name}" if name in writers else "reads by-team"
