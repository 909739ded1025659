"""Why the day does not go on: which service is not ready, and who is how far behind on which topic.

Everything is asked with a time limit. A stall on a slow machine must be understood from the text alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

from confluent_kafka import Consumer, KafkaException, TopicPartition

from deploy.local.day.partners import Partners
from deploy.local.day.witness import Witness
from deploy.local.processes import SERVICES

ANSWER_S = 5.0
LAST_LINE = 300


async def explain(partners: Partners, witness: Witness) -> str:
    """The state of all services and readers, in one line."""
    unready = [f"{name} {state}" for name in SERVICES if (state := await _state(partners, name))]
    behind = await asyncio.to_thread(lambda: [*_behind(partners.installation.bootstrap, witness)])
    return "; ".join([", ".join(unready) or "all services are ready", *(behind or ["nobody is behind"])])


async def _state(partners: Partners, name: str) -> str:
    """What is wrong with a service; empty when it is ready."""
    if not await asyncio.to_thread(partners.installation.alive, name):
        return f"has ended ({await asyncio.to_thread(last_line, partners, name)})"
    return await partners.not_ready(name)


def last_line(partners: Partners, name: str) -> str:
    """The end of a service's log."""
    lines = partners.installation.log(name).read_text(errors="replace").strip().splitlines()
    return lines[-1][:LAST_LINE] if lines else "it wrote nothing"


def _behind(bootstrap: str, witness: Witness) -> Iterator[str]:
    """Each lane and table that has not finished its topic, and each topic that the witness has not."""
    from services.bus.topics import LANES, TABLES, group_of  # the parts alone need no Kafka client

    groups = {group_of(name): topic for name, topic in (LANES | TABLES).items()}
    asking = Consumer({"bootstrap.servers": bootstrap, "group.id": "nobody", "log_level": 0})
    try:
        for group, topic in groups.items():
            if lag := lag_of(asking, _committed(bootstrap, group, asking, topic), topic):
                yield f"{group} is {lag} records behind {topic}"
        for topic, places in witness.places.items():
            if lag := lag_of(asking, places, topic):
                yield f"the witness is {lag} records behind {topic}"
    except KafkaException as error:
        yield f"Kafka cannot say who is behind: {error.args[0].str()}"
    finally:
        asking.close()


def _committed(bootstrap: str, group: str, asking: Consumer, topic: str) -> dict[int, int]:
    from services.bus.groups import committed_offsets  # the parts alone need no Kafka client

    numbers = asking.list_topics(topic, timeout=ANSWER_S).topics[topic].partitions
    wanted = [TopicPartition(topic, number) for number in numbers]
    client = {"bootstrap.servers": bootstrap, "log_level": 0}
    return {each.partition: each.offset for each in committed_offsets(client, group, wanted)}


def lag_of(asking: Consumer, places: Mapping[int, int], topic: str) -> int:
    """Records between these places and the ends of a topic; a place below zero means the beginning."""
    lag = 0
    for number, place in places.items():
        begin, end = asking.get_watermark_offsets(TopicPartition(topic, number), timeout=ANSWER_S)
        lag += max(0, end - max(place, begin))
    return lag
