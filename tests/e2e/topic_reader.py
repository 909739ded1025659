"""Events as another team reads them: stock clients of Kafka, registry and CloudEvents, nothing of ours."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from jsonschema import Draft7Validator

from deploy.local.day.witness import BY_TOPIC_NAME
from deploy.local.processes import ROOT

PREFIX, VERSION = "billing.", ".v1"
QUIET_S = 5.0
MOVED = (KafkaError.UNKNOWN_LEADER_EPOCH, KafkaError.FENCED_LEADER_EPOCH)
"""A broker that just came back answers so, and the client does not call it retriable."""


@dataclass(frozen=True)
class Read:
    """One record: its key, its CloudEvents id and place in a trace (a compacted view has none), its value."""

    key: str
    ce_id: str
    value: dict[str, Any]
    traceparent: str = ""


def told_headers(topic: str) -> Draft7Validator | None:
    """The headers of records as docs/asyncapi.json tells other teams; None where it tells of none."""
    document = json.loads((ROOT / "docs" / "asyncapi.json").read_text(encoding="utf-8"))
    [message] = document["channels"][topic]["messages"]
    headers = document["components"]["messages"][message].get("headers")
    return None if headers is None else Draft7Validator(headers)


class TopicReader:
    """All records of one topic from its beginning; each look goes on where the last one ended."""

    def __init__(self, bootstrap: str, registry: str, name: str) -> None:
        self.topic = f"{PREFIX}{name}{VERSION}"
        self._headers = told_headers(self.topic)
        self._registry = SchemaRegistryClient({"url": registry, "timeout": 20})
        self._value = AvroDeserializer(self._registry, conf=BY_TOPIC_NAME)
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        self._consumer = Consumer(
            {
                "bootstrap.servers": bootstrap,
                "group.id": "another-team",
                "enable.auto.commit": False,
                "log_level": 0,
            }
        )
        found = self._consumer.list_topics(self.topic, timeout=10).topics[self.topic].partitions
        self._next = dict.fromkeys(found, 0)
        self._go_on()
        self._seen: list[Read] = []

    def all(self) -> list[Read]:
        """Every record that is on the topic now."""
        try:
            ends = {p.partition: found.result().offset for p, found in self._ask_ends().items()}
        except KafkaException as error:
            if not error.args[0].retriable() and error.args[0].code() not in MOVED:
                raise
            return self._seen  # a partition finds its leader: the next look sees more
        while any(self._next[number] < end for number, end in ends.items()):
            message = self._consumer.poll(QUIET_S)
            assert message is not None, f"{self.topic} gives less than it says it has"
            if message.error() is None:
                self._take(message)
                continue
            assert message.error().retriable(), message.error()
            self._go_on()
            break  # a broker that just came back: the next look sees more
        return self._seen

    def _go_on(self) -> None:
        self._consumer.assign([TopicPartition(self.topic, number, at) for number, at in self._next.items()])

    def _ask_ends(self) -> dict[TopicPartition, Any]:
        # on a connection of its own: behind a waiting fetch each question would wait as long
        latest = {TopicPartition(self.topic, number): OffsetSpec.latest() for number in self._next}
        asked: dict[TopicPartition, Any] = self._admin.list_offsets(latest, request_timeout=10)
        return asked

    def close(self) -> None:
        self._consumer.close()
        self._registry.close()

    def _take(self, message: Any) -> None:
        self._next[message.partition()] = message.offset() + 1
        key, headers = message.key().decode(), dict(message.headers() or [])
        ce_id = ""
        assert bool(headers) == (self._headers is not None), f"{self.topic}: asyncapi.json says otherwise"
        if self._headers is not None:
            texts = {name: text.decode() for name, text in headers.items()}
            assert [error.message for error in self._headers.iter_errors(texts)] == []
            event = from_binary(KafkaMessage(headers, key, message.value()), JSONFormat())
            assert (event.get_type(), event.get_datacontenttype()) == (self.topic, "application/avro")
            ce_id = event.get_id()
        context = SerializationContext(self.topic, MessageField.VALUE)
        value = self._value(message.value(), context)
        if isinstance(value, dict):
            traceparent = headers.get("traceparent", b"").decode()
            self._seen.append(Read(key, ce_id, value, traceparent))
