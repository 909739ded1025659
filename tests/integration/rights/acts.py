"""What a user tries on the broker, with its own credentials; each answers the names that were refused."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition

LIMIT_S = 20.0
DENIED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}
Client = Mapping[str, Any]


def refused_to_read(client: Client, group: str, topics: Collection[str]) -> set[str]:
    """Asks where each is, and reads the first partition of those that the broker shows.

    `group` is one that the user may see; it is not joined.
    """
    consumer = Consumer(
        {**client, "group.id": group, "enable.partition.eof": True, "enable.auto.commit": False}
    )
    refused = {topic for topic in topics if _hidden(consumer, topic)}
    ended: set[str] = set()
    deadline = time.monotonic() + LIMIT_S
    try:
        consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING) for topic in set(topics) - refused])
        while not refused | ended >= set(topics):
            assert time.monotonic() < deadline, f"no answer about {set(topics) - refused - ended}"
            for record in consumer.consume(100, timeout=0.2):
                if record.error() and record.error().code() in DENIED:
                    refused.add(record.topic())
                elif record.error() and record.error().code() == KafkaError._PARTITION_EOF:
                    ended.add(record.topic())
    finally:
        consumer.close()
    return refused


def _hidden(consumer: Consumer, topic: str) -> bool:
    error = consumer.list_topics(topic, timeout=LIMIT_S).topics[topic].error
    return error is not None and error.code() in DENIED


def refused_to_write(client: Client, topics: Collection[str]) -> set[str]:
    """Writes one record to each; waits until each is refused or acknowledged."""
    answers: dict[str, KafkaError | None] = {}
    producer = Producer({**client, "message.timeout.ms": int(LIMIT_S * 1000)})

    def note(error: KafkaError | None, record: Any) -> None:
        answers[record.topic()] = error

    for topic in topics:
        producer.produce(topic, None, b"nobody/1", partition=0, on_delivery=note)
    producer.flush(LIMIT_S)
    assert answers.keys() == set(topics)
    return {topic for topic, error in answers.items() if error is not None and error.code() in DENIED}


def refused_to_join(client: Client, groups: Collection[str], topic: str) -> set[str]:
    """Subscribes to a topic in each group, side by side; waits until each is refused or gets a partition."""
    given: set[str] = set()
    refused: set[str] = set()
    deadline = time.monotonic() + LIMIT_S
    members = {
        group: Consumer({**client, "group.id": group, "enable.auto.commit": False}) for group in groups
    }
    try:
        for group, member in members.items():
            member.subscribe([topic], on_assign=lambda _, __, group=group: given.add(group))
        while not refused | given >= set(groups):
            assert time.monotonic() < deadline, f"no answer about {set(groups) - refused - given}"
            for group, member in members.items():
                record = member.poll(0.05)
                if record is not None and record.error() and record.error().code() in DENIED:
                    refused.add(group)
    finally:
        for member in members.values():
            member.close()
    return refused


def is_refused(act: Callable[[], Any]) -> bool:
    """Whether the broker denies an act; `act` answers futures by name, or nothing."""
    try:
        for future in (act() or {}).values():
            future.result(LIMIT_S)
    except KafkaException as error:
        if error.args[0].code() not in DENIED:
            raise
        return True
    return False
