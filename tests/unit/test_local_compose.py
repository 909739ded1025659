"""docker-compose.yml says the same as the processes do, and its containers may do little."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.local.artifacts import load_pins
from deploy.local.ports import DEFAULTS, variable
from deploy.local.processes import ALL
from deploy.local.stack import kafka_limits

ROOT = Path(__file__).resolve().parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def test_the_broker_is_set_as_the_process_is() -> None:
    environment = COMPOSE["kafka"]["environment"]
    for key, value in kafka_limits().items():
        assert environment[f"KAFKA_{key.upper().replace('.', '_')}"] == value


def test_the_images_have_the_pinned_versions() -> None:
    pins = load_pins()
    broker = next(artifact for artifact in pins.kafka if artifact.name == "kafka-clients")
    assert COMPOSE["kafka"]["image"] == f"apache/kafka:{broker.version}"
    assert COMPOSE["registry"]["image"] == f"apicurio/apicurio-registry:{pins.registry.version}"


def test_every_port_is_published_on_this_machine_only_and_moved_by_its_variable() -> None:
    published = [port for service in COMPOSE.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)
    for part in DEFAULTS.keys() - {"kafka-controller"}:
        outside = re.escape(f"${{{variable(part)}:-{DEFAULTS[part]}}}")
        assert len([port for port in published if re.match(rf"127\.0\.0\.1:{outside}:", port)]) == 1


@pytest.mark.parametrize("name", [*ALL, "topics", "machine"])
def test_a_container_of_ours_writes_nothing_but_its_state_and_has_no_rights(name: str) -> None:
    service = COMPOSE[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["user"].startswith("${BILLBUS_UID:-10001}")


@pytest.mark.parametrize("name", [name for name in ALL if name != "sandbox"])
def test_a_service_waits_for_topics_and_partners(name: str) -> None:
    assert COMPOSE[name]["command"] == ["run", name]
    assert COMPOSE[name]["depends_on"] == {
        "topics": {"condition": "service_completed_successfully"},
        "sandbox": {"condition": "service_healthy"},
    }
