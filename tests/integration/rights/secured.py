"""A broker that asks for TLS and a user and gives each only its rights, and the services on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trustme
from confluent_kafka.admin import (
    AdminClient,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from deploy.local import Stack
from deploy.local.ports import HOST
from deploy.local.processes import Processes
from deploy.local.progress import fetch_with_progress
from services.bus.connection import Kafka, confluent_client

ADMIN, ITERATIONS = "admin", 4096
LIMIT_S = 30.0


@dataclass(frozen=True)
class Seen:
    """The broker and the registry as one user sees them."""

    bootstrap: Kafka
    registry: str


class Secured:
    """The broker and the registry; `kafka` is how a user gets in, its password made of its name."""

    def __init__(self, folder: Path) -> None:
        self.ca = folder / "ca.pem"
        self._store = folder / "broker.pem"
        folder.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.ca))
        self._store.write_bytes(_key_store(authority.issue_cert(HOST)))
        self.stack = Stack(
            folder / "stack",
            parts=fetch_with_progress(),
            broker_settings=self._settings,
            format_options=["--add-scram", f"SCRAM-SHA-512=[name={ADMIN},password={password_of(ADMIN)}]"],
        )

    @property
    def registry(self) -> str:
        return self.stack.registry

    @property
    def bootstrap(self) -> str:
        return self.stack.bootstrap

    def kafka(self, user: str = ADMIN, password: str | None = None) -> Kafka:
        return Kafka(
            self.stack.bootstrap, "SASL_SSL", "SCRAM-SHA-512", user, password or password_of(user), self.ca
        )

    def seen_by(self, user: str) -> Seen:
        return Seen(self.kafka(user), self.registry)

    def client(self, user: str = ADMIN, password: str | None = None) -> dict[str, Any]:
        """The settings of a confluent-kafka client."""
        return {**confluent_client(self.kafka(user, password)), "log_level": 0}

    def add_users(self, names: Iterable[str]) -> None:
        admin = AdminClient(self.client())
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
        wanted = [UserScramCredentialUpsertion(name, info, password_of(name).encode()) for name in names]
        for made in admin.alter_user_scram_credentials(wanted).values():
            made.result(LIMIT_S)

    def _settings(self, ports: Mapping[str, int]) -> Mapping[str, str]:
        listener = f"SASL_SSL://{HOST}:{ports['kafka']}"
        login = "org.apache.kafka.common.security.scram.ScramLoginModule required"
        return {
            "listeners": f"{listener},CONTROLLER://{HOST}:{ports['kafka-controller']}",
            "advertised.listeners": listener,
            "listener.security.protocol.map": "SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "SASL_SSL",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "sasl.mechanism.inter.broker.protocol": "SCRAM-SHA-512",
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
                f'{login} username="{ADMIN}" password="{password_of(ADMIN)}";'
            ),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._store),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # nobody is anonymous but the broker itself, where it speaks to its own controller
            "super.users": f"User:{ADMIN};User:ANONYMOUS",
        }


class SecuredProcesses(Processes):
    """The services, each logged in as the user of its name."""

    def __init__(self, folder: Path, secured: Secured) -> None:
        super().__init__(folder, bootstrap=secured.bootstrap, registry=secured.registry)
        self._ca = secured.ca

    def environment(self, name: str) -> dict[str, str]:
        return super().environment(name) | self._login(name)

    def login_as(self, user: str) -> dict[str, str]:
        """The environment of a command by a user."""
        return super().environment("payments-2") | self._login(user)

    def _login(self, user: str) -> dict[str, str]:
        secret = f"kafka-of-{user}"
        (self.secrets / secret).write_text(password_of(user))
        return {
            "BILLBUS_KAFKA_PROTOCOL": "SASL_SSL",
            "BILLBUS_KAFKA_USER": user,
            "BILLBUS_KAFKA_PASSWORD_SECRET": secret,
            "BILLBUS_KAFKA_CA": str(self._ca),
        }


def password_of(user: str) -> str:
    return f"{user}-has-a-password"


def _key_store(certificate: trustme.LeafCert) -> bytes:
    """Key and chain in the one form of PEM that Kafka reads."""
    key = load_pem_private_key(certificate.private_key_pem.bytes(), None)
    readable = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return readable + b"".join(part.bytes() for part in certificate.cert_chain_pems)
