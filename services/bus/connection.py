"""How a process gets into Kafka: addresses, and where the brokers ask for it TLS, a user and a password."""

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from services.bus.secrets import Secrets
from services.bus.settings import ConfigurationError, Settings, variable


@dataclass(frozen=True)
class Kafka:
    """Brokers that do not let everyone in; `protocol` and `mechanism` are Kafka's own names.

    `ca` is a PEM file with the authorities that may vouch for a broker; None for those of the machine.
    """

    bootstrap: str
    protocol: str
    mechanism: str
    user: str
    password: str = field(repr=False)
    ca: Path | None

    def __str__(self) -> str:
        return self.bootstrap

    @property
    def sasl(self) -> bool:
        """Whether the brokers ask who we are."""
        return self.protocol.startswith("SASL")

    def tls(self) -> ssl.SSLContext | None:
        """What checks a broker's certificate and name; None without TLS."""
        if not self.protocol.endswith("SSL"):
            return None
        return ssl.create_default_context(cafile=self.ca)


Brokers: TypeAlias = str | Kafka
"""Kafka, or the addresses of brokers that let everyone in."""


def kafka_of(settings: Settings, secrets: Secrets | None = None) -> Brokers:
    """The brokers of the settings; raises ConfigurationError, which names variable, file or secret."""
    if settings.kafka_protocol == "PLAINTEXT":
        return settings.bootstrap
    user = password = ""
    if settings.kafka_protocol.startswith("SASL"):
        if not (user := settings.kafka_user):
            raise ConfigurationError([f"{variable('kafka_user')}: {settings.kafka_protocol} needs a user"])
        password = (secrets or Secrets(settings.secrets)).get(settings.kafka_password_secret)
    kafka = Kafka(
        settings.bootstrap,
        settings.kafka_protocol,
        settings.kafka_mechanism,
        user,
        password,
        settings.kafka_ca,
    )
    try:
        kafka.tls()
    except OSError as error:
        reason = "no certificate in it" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError([f"{variable('kafka_ca')}: {settings.kafka_ca}: {reason}"]) from None
    return kafka


def aiokafka_client(brokers: Brokers) -> dict[str, Any]:
    """The arguments by which a client of aiokafka connects."""
    if isinstance(brokers, str):
        return {"bootstrap_servers": brokers}
    found = {
        "bootstrap_servers": brokers.bootstrap,
        "security_protocol": brokers.protocol,
        "ssl_context": brokers.tls(),
    }
    if not brokers.sasl:
        return found
    return found | {
        "sasl_mechanism": brokers.mechanism,
        "sasl_plain_username": brokers.user,
        "sasl_plain_password": brokers.password,
    }


def confluent_client(brokers: Brokers) -> dict[str, Any]:
    """The settings by which a client of confluent-kafka connects."""
    if isinstance(brokers, str):
        return {"bootstrap.servers": brokers}
    found = {"bootstrap.servers": brokers.bootstrap, "security.protocol": brokers.protocol}
    if brokers.ca is not None:
        found["ssl.ca.location"] = str(brokers.ca)
    if not brokers.sasl:
        return found
    return found | {
        "sasl.mechanism": brokers.mechanism,
        "sasl.username": brokers.user,
        "sasl.password": brokers.password,
    }
