"""Reads the topics of the day as any team could: a stock Kafka consumer and a stock registry client."""

from __future__ import annotations

import threading
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from deploy.local.day.facts import Batch, Id, Outcome, Sum

PREFIX = "billing."
INVOICE_OUTCOME = "billing.invoice.outcome.v1"
PAYMENT_OUTCOME = "billing.payment.outcome.v1"
SETTING_OUTCOME = "billing.setting.outcome.v1"
BATCH_CLOSED = "billing.batch.closed.v1"
BILL_LINKED = "billing.bill.linked.v1"
ACCOUNT_CURRENT = "billing.account.current.v1"
POLL_S = 0.2
METADATA_LIMIT_S, REGISTRY_LIMIT_S = 20, 10
# the deserializer's default asks for associations; see docs/decisions/readers-name-their-subject.md
BY_TOPIC_NAME = {"subject.name.strategy.type": "TOPIC"}


class Witness:
    """Follows the topics from their beginning in a thread of its own; `with` it.

    What it read is there to look at while it goes on: `places` is the next offset by topic and partition.
    `check` raises what ended it.
    """

    def __init__(self, bootstrap: str, registry: str) -> None:
        self.outcomes: list[Outcome] = []
        self.batches: list[Batch] = []
        self.live: set[Id] = set()
        self.accounts: set[Id] = set()
        self.account_records = 0
        self.places: dict[str, dict[int, int]] = {}
        self._settled: set[tuple[str, Id]] = set()
        self._readers: dict[str, Callable[[dict[str, Any], Message], None]] = {
            INVOICE_OUTCOME: self._invoice,
            PAYMENT_OUTCOME: self._payment,
            SETTING_OUTCOME: self._setting,
            BATCH_CLOSED: self._batch,
            BILL_LINKED: self._linked,
            ACCOUNT_CURRENT: self._account,
        }
        self._consumer = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": "nobody", "enable.auto.commit": False}
        )
        self._registry = SchemaRegistryClient({"url": registry, "timeout": REGISTRY_LIMIT_S})
        self._decode = AvroDeserializer(self._registry, conf=BY_TOPIC_NAME)
        self._thread = threading.Thread(target=self._follow, name="witness", daemon=True)
        self._ending = threading.Event()
        self._failure: Exception | None = None

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join(METADATA_LIMIT_S)

    def settled(self, flow: str, natural: Id) -> bool:
        """Whether an outcome was seen for it."""
        return (flow, natural) in self._settled

    def check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _follow(self) -> None:
        try:
            self._consumer.assign(
                [partition for topic in self._readers for partition in self._partitions(topic)]
            )
            while not self._ending.is_set():
                message = self._consumer.poll(POLL_S)
                if message is not None:
                    self._take(message)
        except Exception as failure:
            self._failure = failure
        finally:
            self._consumer.close()
            self._registry.close()

    def _partitions(self, topic: str) -> list[TopicPartition]:
        found = self._consumer.list_topics(topic, timeout=METADATA_LIMIT_S).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        self.places[topic] = dict.fromkeys(found.partitions, 0)
        return [TopicPartition(topic, number, 0) for number in found.partitions]

    def _take(self, message: Message) -> None:
        if message.error() is not None:
            if message.error().code() != KafkaError._PARTITION_EOF and not message.error().retriable():
                raise KafkaException(message.error())
            return
        value, topic = message.value(), message.topic()
        if value is not None:
            self._readers[topic](
                self._decode(value, SerializationContext(topic, MessageField.VALUE)), message
            )
        self.places[topic][message.partition()] = message.offset() + 1

    def _outcome(self, flow: Any, natural: str, event: dict[str, Any]) -> None:
        self.outcomes.append(
            Outcome(
                flow=flow,
                biller=event["biller"],
                id=natural,
                state=event["state"],
                reason=event["reason"] or "",
                partition=event["origin_partition"],
                offset=event["origin_offset"],
            )
        )
        self._settled.add((flow, (event["biller"], natural)))

    def _invoice(self, event: dict[str, Any], _: Message) -> None:
        self._outcome("invoices", event["invoice_number"], event)

    def _payment(self, event: dict[str, Any], _: Message) -> None:
        self._outcome("payments", event["natural_id"], event)

    def _setting(self, event: dict[str, Any], _: Message) -> None:
        self._outcome("settings", event["natural_id"].rpartition("/")[0], event)

    def _linked(self, event: dict[str, Any], _: Message) -> None:
        if event["state"] == "live":
            self.live.add((event["biller"], event["invoice_number"]))

    def _account(self, event: dict[str, Any], _: Message) -> None:
        self.account_records += 1
        self.accounts.add((event["biller"], event["account"]))

    def _batch(self, event: dict[str, Any], _: Message) -> None:
        self.batches.append(
            Batch(
                biller=event["biller"],
                day=event["batch_day"],
                all=_sum(event),
                totals={(each["tender"], each["product"]): _sum(each) for each in event["totals"]},
                agents={each["agent"]: _sum(each) for each in event["agents"]},
                ranges={each["partition"]: (each["begin"], each["end"]) for each in event["ranges"]},
            )
        )


def _sum(told: dict[str, Any]) -> Sum:
    return Sum(told["count"], Decimal(told["amount"]), Decimal(told["convenience_fee"]))
