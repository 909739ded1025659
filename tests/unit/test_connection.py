"""How a process gets into Kafka: what is wrong is named before it starts, and no password is ever shown."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from services.bus.connection import Kafka, aiokafka_client, confluent_client, kafka_of
from services.bus.settings import ConfigurationError, load_settings
from services.bus.tables import faust_client

PASSWORD = "hush"


@pytest.fixture
def given(tmp_path: Path) -> dict[str, Any]:
    """Settings of a process that logs in."""
    (tmp_path / "kafka-password").write_text(f"{PASSWORD}\n")
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return {
        "bootstrap": "one:1,two:2",
        "kafka_protocol": "SASL_SSL",
        "kafka_user": "payments",
        "kafka_ca": tmp_path / "ca.pem",
        "secrets": tmp_path,
    }


def test_brokers_that_let_everyone_in_need_no_secret() -> None:
    assert kafka_of(load_settings(bootstrap="one:1")) == "one:1"
    assert confluent_client("one:1") == {"bootstrap.servers": "one:1"}
    assert aiokafka_client("one:1") == {"bootstrap_servers": "one:1"}
    assert faust_client("one:1,two:2") == {"broker": ["kafka://one:1", "kafka://two:2"]}


def test_all_three_clients_log_in_alike_and_the_password_is_not_shown(given: dict[str, Any]) -> None:
    kafka = kafka_of(load_settings(**given))
    assert isinstance(kafka, Kafka)
    assert PASSWORD not in repr(kafka)
    confluent, aio, tables = confluent_client(kafka), aiokafka_client(kafka), faust_client(kafka)
    credentials = tables["broker_credentials"]
    assert (confluent["sasl.username"], confluent["sasl.password"]) == ("payments", PASSWORD)
    assert (aio["sasl_plain_username"], aio["sasl_plain_password"]) == ("payments", PASSWORD)
    assert (credentials.username, credentials.password) == ("payments", PASSWORD)
    assert {confluent["security.protocol"], aio["security_protocol"], credentials.protocol.value} == {
        "SASL_SSL"
    }
    assert {confluent["sasl.mechanism"], aio["sasl_mechanism"], credentials.mechanism.value} == {
        "SCRAM-SHA-512"
    }
    for context in (aio["ssl_context"], credentials.ssl_context):
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


def test_tls_alone_needs_no_user(given: dict[str, Any]) -> None:
    kafka = kafka_of(load_settings(**given | {"kafka_protocol": "SSL", "kafka_user": ""}))
    assert "sasl.username" not in confluent_client(kafka)
    assert "sasl_plain_username" not in aiokafka_client(kafka)
    assert faust_client(kafka)["broker_credentials"].protocol.value == "SSL"


def test_what_is_missing_is_named(given: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="BILLBUS_KAFKA_USER: SASL_SSL needs a user"):
        kafka_of(load_settings(**given | {"kafka_user": ""}))
    with pytest.raises(ConfigurationError, match="secret kafka-other: missing"):
        kafka_of(load_settings(**given | {"kafka_password_secret": "kafka-other"}))
    with pytest.raises(ConfigurationError, match=r"BILLBUS_KAFKA_CA: .*nowhere.pem is not a file"):
        load_settings(**given | {"kafka_ca": tmp_path / "nowhere.pem"})
    with pytest.raises(ConfigurationError, match=r"BILLBUS_KAFKA_CA: .*kafka-password: no certificate in it"):
        kafka_of(load_settings(**given | {"kafka_ca": tmp_path / "kafka-password"}))
