"""Where the broker and the registry of the tests come from: one that runs, Docker, or Java processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import docker
from docker.errors import DockerException
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy, LogMessageWaitStrategy

from deploy.local import Stack
from deploy.local.ports import free_port
from deploy.local.progress import fetch_with_progress
from deploy.local.stack import kafka_limits

KAFKA_IMAGE, REGISTRY_IMAGE = "apache/kafka:4.3.1", "apicurio/apicurio-registry:3.3.3"
KAFKA_LIMIT_S, REGISTRY_LIMIT_S = 120, 120


@dataclass(frozen=True)
class Addresses:
    """What a test needs of a stack; `source` says where it comes from."""

    bootstrap: str
    registry: str
    source: str


def chosen(folder: Path) -> AbstractContextManager[Addresses]:
    """The stack that BILLBUS_TEST_BOOTSTRAP names, else the one BILLBUS_TEST_PARTS says, else what is there.

    BILLBUS_TEST_PARTS is "docker" or "processes"; without it, Docker where an engine answers that has or
    gets the images.
    """
    if "BILLBUS_TEST_BOOTSTRAP" in os.environ:
        return external()
    parts = os.environ.get("BILLBUS_TEST_PARTS") or ("docker" if docker_serves() else "processes")
    return containers() if parts == "docker" else processes(folder)


@contextmanager
def external() -> Iterator[Addresses]:
    """A broker and a registry that somebody else runs."""
    yield Addresses(
        os.environ["BILLBUS_TEST_BOOTSTRAP"], os.environ["BILLBUS_TEST_REGISTRY"], "a running stack"
    )


@contextmanager
def processes(folder: Path) -> Iterator[Addresses]:
    """Java processes on free ports; they end with the tests, whatever ends those."""
    with Stack(folder, parts=fetch_with_progress()) as stack:
        yield Addresses(stack.bootstrap, stack.registry, "Java processes")


@contextmanager
def containers() -> Iterator[Addresses]:
    """The same versions from their makers' images."""
    port = free_port()
    kafka = (
        DockerContainer(KAFKA_IMAGE)
        .with_bind_ports(9092, port)
        .with_envs(**_kafka_environment(port))
        .waiting_for(LogMessageWaitStrategy("Kafka Server started").with_startup_timeout(KAFKA_LIMIT_S))
    )
    registry = (
        DockerContainer(REGISTRY_IMAGE)
        .with_exposed_ports(8080)
        .waiting_for(
            HttpWaitStrategy(8080, "/apis/ccompat/v7/subjects").with_startup_timeout(REGISTRY_LIMIT_S)
        )
    )
    with kafka, registry:
        host = kafka.get_container_host_ip()
        address = f"http://{registry.get_container_host_ip()}:{registry.get_exposed_port(8080)}"
        yield Addresses(f"{host}:{port}", f"{address}/apis/ccompat/v7", "Docker")


def docker_serves() -> bool:
    """Whether a Docker engine runs here and has the images or gets them."""
    if "DOCKER_HOST" not in os.environ and not Path("/var/run/docker.sock").exists():
        return False  # the client would leave a socket open on its way to the same answer
    try:
        client = docker.from_env(timeout=120)
        try:
            for image in (KAFKA_IMAGE, REGISTRY_IMAGE):
                if not client.images.list(name=image):
                    client.images.pull(image)
        finally:
            client.close()
    except (DockerException, OSError):
        return False
    return True


def _kafka_environment(port: int) -> dict[str, str]:
    """The image's way of saying what kafka.properties says elsewhere."""
    settings = {
        "node.id": "1",
        "process.roles": "broker,controller",
        "controller.quorum.voters": "1@localhost:9093",
        "controller.listener.names": "CONTROLLER",
        "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        **kafka_limits(),
    }
    return {f"KAFKA_{key.upper().replace('.', '_')}": value for key, value in settings.items()}
