"""What another team would write: stock Kafka and registry clients, nothing of ours. Run by test_topics.

Arguments: broker, registry, topics. Prints one JSON object: topic to the values it read.
"""

import json
import sys

from confluent_kafka import Consumer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext


def main(bootstrap: str, registry: str, topics: list[str]) -> None:
    # why not its default: docs/decisions/readers-name-their-subject.md
    read = AvroDeserializer(
        SchemaRegistryClient({"url": registry, "timeout": 10}), conf={"subject.name.strategy.type": "TOPIC"}
    )
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "another-team",
            "auto.offset.reset": "earliest",
            "enable.partition.eof": False,
        }
    )
    consumer.subscribe(topics)
    values: dict[str, list[object]] = {topic: [] for topic in topics}
    silent = 0
    while not all(values.values()) and silent < 30:
        message = consumer.poll(1)
        if message is None:
            silent += 1
            continue
        if message.error():
            raise SystemExit(str(message.error()))
        context = SerializationContext(message.topic(), MessageField.VALUE)
        values[message.topic()].append(read(message.value(), context))
    consumer.close()
    ours = [name for name in sys.modules if name.split(".")[0] == "services"]
    if ours:
        raise SystemExit(f"of ours: {ours}")
    sys.stdout.write(json.dumps(values, default=str))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
