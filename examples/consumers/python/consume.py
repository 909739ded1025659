"""Prints the records of billbus topics, one JSON line a record: python consume.py DAY TOPIC...

DAY is where a group begins that never read before: a date (midnight UTC) or an instant with its offset,
such as 2026-11-20T00:00:00-06:00. A group that did read goes on where it ended.
Environment: KAFKA, REGISTRY, GROUP; KAFKA_USER, KAFKA_PASSWORD and KAFKA_CA where the brokers ask for them.
"""

import json
import os
import signal
import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext, SerializationError

KAFKA = os.environ.get("KAFKA", "127.0.0.1:19092")
REGISTRY = os.environ.get("REGISTRY", "http://127.0.0.1:18081/apis/ccompat/v7")
GROUP = os.environ.get("GROUP", "another-team-in-python")
LIMIT_S = 20


def main(day: str, topics: list[str]) -> None:
    since = datetime.fromisoformat(day)
    since_ms = round((since if since.tzinfo else since.replace(tzinfo=UTC)).timestamp() * 1000)
    settings = {
        "bootstrap.servers": KAFKA,
        "group.id": GROUP,
        "enable.auto.commit": False,  # below, when the records are printed
        "auto.offset.reset": "error",  # an offset that is gone is a person's affair
    }
    if user := os.environ.get("KAFKA_USER"):
        settings |= {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": user,
            "sasl.password": os.environ["KAFKA_PASSWORD"],
        }
    if authorities := os.environ.get("KAFKA_CA"):
        settings["ssl.ca.location"] = authorities
    consumer = Consumer(settings)
    consumer.subscribe(topics, on_assign=lambda _, given: consumer.assign(begin(consumer, given, since_ms)))
    decode = AvroDeserializer(
        SchemaRegistryClient({"url": REGISTRY, "timeout": LIMIT_S}),
        conf={
            "subject.name.strategy.type": "TOPIC"
        },  # the default asks for a path that not every registry has
    )
    stopped: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: stopped.append(number))
    while not stopped:
        records = consumer.consume(500, timeout=0.5)
        for record in records:
            print(json.dumps(line(record, decode), default=text, ensure_ascii=False))
        if records:
            sys.stdout.flush()
            consumer.commit(asynchronous=False)  # at least once: first the effect, then the commit
    consumer.close()


def begin(consumer: Any, partitions: list[Any], since_ms: int) -> list[Any]:
    """Where to read from: where the group ended, else the day's first record, else what comes next."""
    known = consumer.committed(partitions, timeout=LIMIT_S)
    new = [TopicPartition(p.topic, p.partition, since_ms) for p in known if p.offset < 0]
    # the ends are asked for before the day, so that no record slips in between
    ends = [consumer.get_watermark_offsets(p, timeout=LIMIT_S, cached=False)[1] for p in new]
    found = consumer.offsets_for_times(new, timeout=LIMIT_S) if new else []
    for partition, end in zip(found, ends, strict=True):
        if partition.offset < 0:
            partition.offset = end
    return [p for p in known if p.offset >= 0] + found


def line(record: Any, decode: Any) -> dict[str, Any]:
    """A record as people read it; in a compacted topic the value null says that the key is gone."""
    if record.error():
        sys.exit(record.error().str())
    headers = dict(record.headers() or [])
    place = f"{record.topic()}, partition {record.partition()}, offset {record.offset()}"
    try:
        value = decode(record.value(), SerializationContext(record.topic(), MessageField.VALUE))
    except SerializationError as error:
        sys.exit(f"{place} cannot be read: {error}")
    return {
        "topic": record.topic(),
        "partition": record.partition(),
        "offset": record.offset(),
        "key": record.key().decode(),
        "id": headers.get("ce_id", b"").decode() or None,
        "time": headers.get("ce_time", b"").decode() or None,
        "value": value,
    }


def text(value: object) -> str:
    """Money with its cents, a day, an instant in UTC with its milliseconds."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, (date, Decimal)):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no text")


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(sys.argv[1], sys.argv[2:])
