"""Whether this process has its rights on the broker, asked once before it starts."""

from collections.abc import Collection, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AclOperation, AdminClient

from services.bus.catalog import Topic
from services.bus.connection import Kafka, kafka_of
from services.bus.groups import has_members
from services.bus.place import Place
from services.bus.rights import Right, rights_of
from services.bus.settings import ConfigurationError, Settings

ANSWER_S = 20.0
NEEDED = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}


def require_rights(settings: Settings, catalog: Mapping[str, Topic]) -> None:
    """Returns when the service may do all it needs; raises ConfigurationError with what it may not.

    Where the brokers do not ask who we are nothing is asked.
    """
    kafka = kafka_of(settings)
    if not isinstance(kafka, Kafka) or not kafka.sasl:
        return
    with Place(kafka, settings.registry) as place:
        missing = missing_rights(place.admin, rights_of(catalog)[settings.service])
    if missing:
        raise ConfigurationError(
            [
                f"Kafka does not give user {kafka.user} what {settings.service} needs: "
                f"{'; '.join(str(right) for right in missing)}. "
                f"All that it needs: billbus topics rights --user {settings.service}"
            ]
        )


def missing_rights(admin: AdminClient, rights: Collection[Right]) -> list[Right]:
    """Those that the user of this connection does not have; a topic that is not there is nobody's lack."""
    topics = sorted({right.name for right in rights if right.resource == "topic"})
    answers = admin.describe_topics(
        TopicCollection(topics), include_authorized_operations=True, request_timeout=ANSWER_S
    )
    allowed = {name: _operations(future) for name, future in answers.items()}
    return [
        right
        for right in rights
        if (right.resource == "topic" and not _includes(allowed[right.name], right))
        or (right.resource == "group" and not _sees_group(admin, right))
    ]


def _includes(allowed: Collection[AclOperation] | None, right: Right) -> bool:
    return allowed is None or NEEDED[right.operation] in allowed


def _operations(future: Any) -> Collection[AclOperation] | None:
    """What may be done with a topic; None where there is no such topic."""
    try:
        return set(future.result(ANSWER_S).authorized_operations)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return set()
        if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            return None
        raise


def _sees_group(admin: AdminClient, right: Right) -> bool:
    try:
        has_members(admin, f"{right.name}any" if right.prefixed else right.name)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.GROUP_AUTHORIZATION_FAILED:
            return False
        raise
    return True
