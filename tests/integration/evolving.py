"""Writes and reads events as the code and schemas of one tree do. Run by test_evolve in that tree.

Arguments: broker, registry, topic, and `module:function` of a bridge to a second event where there is one.
Takes a JSON list of values to publish on stdin, prints what the topic then holds as this tree reads it.
"""

import asyncio
import importlib
import json
import sys
import time
from typing import Any

from confluent_kafka import Consumer, TopicPartition

from services.bus.catalog import load_catalog
from services.bus.clock import Clock
from services.bus.codec import Codec
from services.bus.publisher import Publisher
from services.bus.registry import Registry
from services.bus.settings import ROOT
from services.events.types import BY_TOPIC
from tests.contract.examples import typed

LIMIT_S = 20.0


def raw_values(bootstrap: str, topic: str) -> list[bytes]:
    """All that a topic holds, up to its ends as they are now."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "evolving", "enable.auto.commit": False})
    try:
        found = consumer.list_topics(topic, timeout=LIMIT_S).topics[topic].partitions
        partitions = [TopicPartition(topic, number, 0) for number in found]
        wanted = sum(consumer.get_watermark_offsets(each, timeout=LIMIT_S)[1] for each in partitions)
        consumer.assign(partitions)
        values: list[bytes] = []
        until = time.monotonic() + LIMIT_S
        while len(values) < wanted:
            if time.monotonic() > until:
                raise SystemExit(f"{len(values)} of {wanted} records of {topic} in {LIMIT_S:g} s")
            message = consumer.poll(0.2)
            if message is not None and message.error() is None:
                values.append(message.value())
        return values
    finally:
        consumer.close()


async def run(
    bootstrap: str, registry_url: str, topic: str, values: list[Any], bridge: str | None = None
) -> list[Any]:
    catalog = load_catalog(ROOT / "schemas")
    registry = Registry(registry_url)
    codec = Codec({name: each.schema for name, each in catalog.items()}, registry)
    await codec.start()
    publisher = Publisher(bootstrap, "billbus/evolving", codec, Clock())
    await publisher.start()
    try:
        for value in values:
            event = BY_TOPIC[topic].from_record(typed(catalog[topic].schema, value))
            await publisher.publish(event, *([called(bridge)(event)] if bridge else []))
        return [
            (await codec.decode(topic, raw)).as_record()
            for raw in await asyncio.to_thread(raw_values, bootstrap, topic)
        ]
    finally:
        await publisher.stop()
        registry.close()


def called(name: str) -> Any:
    module, _, function = name.partition(":")
    return getattr(importlib.import_module(module), function)


if __name__ == "__main__":
    broker, registry, topic, *bridge = sys.argv[1:]
    records = asyncio.run(run(broker, registry, topic, json.load(sys.stdin), *bridge))
    sys.stdout.write(json.dumps(records, default=str))
