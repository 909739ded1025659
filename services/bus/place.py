"""A broker and a registry as those see them who look after topics: clients, and plain answers."""

from collections.abc import Callable, Collection
from typing import Any, Self

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from services.bus.connection import Brokers, confluent_client

NOT_THERE = (404,)
BROKER_DEADLINE_S = 5.0


class Unreachable(Exception):
    """Broker or registry does not answer; the message says which and where."""


class Place:
    """A broker and a registry, asked with a deadline; use it in `with`."""

    def __init__(self, brokers: Brokers, registry: str) -> None:
        self._addresses = (str(brokers), registry)
        self.client = {**confluent_client(brokers), "log_level": 0, "error_cb": _quiet}
        self.admin = AdminClient(self.client)
        self.registry = SchemaRegistryClient({"url": registry, "timeout": 10, "max.retries": 1})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.registry.close()

    def topics(self) -> dict[str, int]:
        """Partitions by topic."""
        try:
            found = self.admin.list_topics(timeout=BROKER_DEADLINE_S).topics
        except KafkaException as error:
            raise Unreachable(
                f"Kafka at {self._addresses[0]} does not answer: {error.args[0].str()}"
            ) from None
        return {name: len(topic.partitions) for name, topic in found.items()}

    def settings(self, names: Collection[str]) -> dict[str, dict[str, str]]:
        """The settings of topics by name."""
        asked = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
        answers = self.admin.describe_configs(asked, request_timeout=10) if asked else {}
        return {
            resource.name: {entry.name: entry.value for entry in future.result().values()}
            for resource, future in answers.items()
        }

    def ask_registry(self, question: Callable[..., Any], *arguments: Any) -> Any:
        """The registry's answer; None where it knows no such subject or schema."""
        try:
            return question(*arguments)
        except SchemaRegistryError as error:
            if error.http_status_code in NOT_THERE:
                return None
            raise
        except Exception as error:  # the client lets its HTTP library's own errors through
            raise Unreachable(
                f"The registry at {self._addresses[1]} does not answer: {type(error).__name__}"
            ) from None


def _quiet(_error: KafkaError) -> None:
    """Errors come with the answer of the call; the client's own log would only repeat them."""
