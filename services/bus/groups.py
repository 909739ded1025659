"""What consumer groups have committed on the broker, read and set from outside the group."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from confluent_kafka import (
    Consumer,
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

DEADLINE_S = 30.0
NO_OFFSET = -1001
STARTING = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.FENCED_LEADER_EPOCH,
)

T = TypeVar("T")


def committed_offsets(
    client: dict[str, Any], group: str, partitions: list[TopicPartition]
) -> list[TopicPartition]:
    """What the group has committed, with the metadata; offset NO_OFFSET where it has nothing.

    `client` are the settings of the connection. Raises KafkaException.
    """
    # Not the admin client's list_consumer_group_offsets: on a broker whose coordinator has not started yet
    # it does not answer and may end the process.
    consumer = Consumer({**client, "group.id": group, "enable.auto.commit": False})
    try:
        return list(_patiently(lambda: consumer.committed(partitions, timeout=DEADLINE_S)))
    finally:
        consumer.close()


def without_offset(
    client: dict[str, Any], group: str, partitions: list[TopicPartition]
) -> list[TopicPartition]:
    """The partitions for which the group has committed nothing."""
    if not partitions:
        return []
    found = committed_offsets(client, group, partitions)
    return [TopicPartition(p.topic, p.partition) for p in found if p.offset == NO_OFFSET]


def has_members(admin: AdminClient, group: str) -> bool:
    """Whether somebody is in the group now."""
    try:
        found = _patiently(lambda: admin.describe_consumer_groups([group])[group].result(DEADLINE_S))
        return bool(found.members)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_ID_NOT_FOUND:
            return False
        raise


def edge_offsets(
    admin: AdminClient, partitions: list[TopicPartition], spec: OffsetSpec
) -> dict[TopicPartition, int]:
    """First or next offset of each partition, as `spec` says."""

    def look() -> dict[TopicPartition, int]:
        answers = admin.list_offsets(dict.fromkeys(partitions, spec), request_timeout=DEADLINE_S)
        return {partition: future.result(DEADLINE_S).offset for partition, future in answers.items()}

    return _patiently(look)


def commit_offsets(admin: AdminClient, group: str, offsets: list[TopicPartition]) -> None:
    """Commits offsets for a group without members; raises KafkaException, also when it has members."""

    def alter() -> Any:
        answer = admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, offsets)])
        return answer[group].result(DEADLINE_S)

    for partition in _patiently(alter).topic_partitions:
        if partition.error:
            raise KafkaException(partition.error)


def _patiently(ask: Callable[[], T]) -> T:
    """Asks again while a coordinator or a leader is being found, as on a new broker or a new topic."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in STARTING or time.monotonic() > deadline:
                raise
        time.sleep(0.1)
