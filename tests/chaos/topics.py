"""Reads the topics as any team could: a stock Kafka consumer, a stock registry client, nothing of ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container
from types import TracebackType
from typing import Any

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from deploy.local.day.facts import Id, Outcome
from deploy.local.day.witness import BY_TOPIC_NAME, PAYMENT_OUTCOME, SETTING_OUTCOME
from tests.chaos.facts import Place

PAYMENT_RECEIVED = "billing.payment.received.v1"
DEAD_LETTERS = f"{PAYMENT_RECEIVED}.dlq"
AT_ONCE, POLL_S, LIMIT_S = 2000, 0.3, 20.0


class Topics:
    """`with` it, and `read_on` from time to time: what stands on the topics is there to look at.

    `poison`: where records stand that nobody can decode; any other that cannot be decoded raises.
    """

    def __init__(self, bootstrap: str, registry: str, poison: Container[Place]) -> None:
        self._poison = poison
        self.places: dict[Id, Place] = {}
        self.copies: Counter[Id] = Counter()
        self.outcomes: list[Outcome] = []
        self.settled: set[tuple[str, Id]] = set()
        self.dead: set[Place] = set()
        self._first_content: dict[Id, str] = {}
        self._readers: dict[str, Callable[[Message], None]] = {
            PAYMENT_RECEIVED: self._received,
            PAYMENT_OUTCOME: self._payment_outcome,
            SETTING_OUTCOME: self._setting_outcome,
            DEAD_LETTERS: self._dead_letter,
        }
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "nobody", "enable.auto.commit": False}
        )
        self._schemas = SchemaRegistryClient({"url": registry, "timeout": LIMIT_S})
        self._decode = AvroDeserializer(self._schemas, conf=BY_TOPIC_NAME)

    def __enter__(self) -> Topics:
        found = self._consumer.list_topics(timeout=LIMIT_S).topics
        self._consumer.assign(
            [
                TopicPartition(topic, number, 0)
                for topic in self._readers
                for number in found[topic].partitions
            ]
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()
        self._schemas.close()

    def read_on(self) -> None:
        """Reads what is there now; returns at the first silence. A broker that is away is a silence too."""
        while messages := self._consumer.consume(AT_ONCE, POLL_S):
            for message in messages:
                if message.error() is None:
                    self._readers[message.topic()](message)
                elif not message.error().retriable():
                    raise KafkaException(message.error())

    def _event(self, message: Message) -> dict[str, Any]:
        context = SerializationContext(message.topic(), MessageField.VALUE)
        return dict(self._decode(message.value(), context))

    def _received(self, message: Message) -> None:
        place = Place(message.partition(), message.offset())
        if place in self._poison:
            return  # the dead letters are asked for it
        event = self._event(message)
        natural = (event["biller"], event["payment_guid"])
        if self._first_content.setdefault(natural, event["content"]) != event["content"]:
            natural = (natural[0], f"{natural[1]}#")
        self.copies[natural] += 1
        self.places.setdefault(natural, place)

    def _payment_outcome(self, message: Message) -> None:
        event = self._event(message)
        guid, conflicting, _ = event["natural_id"].partition("#")
        self._outcome("payments", guid + conflicting, event)

    def _setting_outcome(self, message: Message) -> None:
        event = self._event(message)
        self._outcome("settings", event["natural_id"].rpartition("/")[0], event)

    def _outcome(self, flow: Any, natural: str, event: dict[str, Any]) -> None:
        self.outcomes.append(
            Outcome(
                flow,
                event["biller"],
                natural,
                event["state"],
                event["reason"] or "",
                event["origin_partition"],
                event["origin_offset"],
            )
        )
        self.settled.add((flow, (event["biller"], natural)))

    def _dead_letter(self, message: Message) -> None:
        headers = dict(message.headers() or [])
        self.dead.add(Place(int(headers["billbus_origin_partition"]), int(headers["billbus_origin_offset"])))
