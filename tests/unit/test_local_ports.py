"""A taken port is named, with the variable that moves the part."""

import socket

import pytest

from deploy.local import LocalError
from deploy.local.ports import DEFAULTS, answers, free_ports, port_of, require_free


def test_a_taken_port_is_named_with_the_variable_that_moves_the_part() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LocalError) as problem:
            require_free("kafka-controller", port)
    assert f"Port {port}" in str(problem.value)
    assert "BILLBUS_KAFKA_CONTROLLER_PORT" in str(problem.value)


def test_a_free_port_is_taken_without_a_word() -> None:
    port = free_ports()["registry"]
    require_free("registry", port)
    assert not answers(port)


def test_every_part_gets_a_free_port_of_its_own() -> None:
    ports = free_ports()
    assert ports.keys() == DEFAULTS.keys()
    assert len(set(ports.values())) == len(DEFAULTS)


def test_the_environment_moves_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BILLBUS_KAFKA_PORT", "29092")
    monkeypatch.delenv("BILLBUS_REGISTRY_PORT", raising=False)
    assert port_of("kafka") == 29092
    assert port_of("registry") == DEFAULTS["registry"]


@pytest.mark.parametrize("text", ["", "kafka", "0", "65536", "-1"])
def test_what_is_no_port_is_refused_by_the_name_of_its_variable(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILLBUS_KAFKA_PORT", text)
    with pytest.raises(LocalError, match="BILLBUS_KAFKA_PORT"):
        port_of("kafka")
