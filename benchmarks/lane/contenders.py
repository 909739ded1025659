"""Who brings the payments to the partner: our own service, and what a user would pick instead."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from benchmarks.lane.payments import OurTopics, connect, delete_topic, load_peer_topic
from benchmarks.machine import ending_with_us
from deploy.local import Stack
from deploy.local.processes import ROOT, Processes

PEERS = Path(__file__).with_name("peers")
PYTHON_PEERS = ("asyncio_loop", "aiohttp_loop")
STOP_LIMIT_S = 10


class Missing(Exception):
    """A tool that a part of the benchmark needs is not on this machine; the message names both."""


class Running(Protocol):
    """A contender at work."""

    def pids(self) -> list[int]:
        """Its processes; raises RuntimeError where one has ended by itself."""


class Contender(Protocol):
    """Brings a topic's payments to the partner."""

    def load(self, count: int, hot_share: float) -> None:
        """Makes its topic anew, with these payments in it."""

    def running(self, partner_url: str, in_flight: int) -> AbstractContextManager[Running]:
        """Runs it until the block ends."""


def build_go(source: Path, work: Path) -> Path:
    """The program of a folder; Missing without Go."""
    binary = work / "bin" / source.name
    _build("go", ["go", "build", "-o", str(binary), "."], source)
    return binary


def _build(tool: str, command: list[str], source: Path) -> None:
    if shutil.which(tool) is None:
        raise Missing(f"{source.name} is left out: it needs {tool}, which is not here")
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    if done.returncode:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise Missing(f"{source.name} is left out: {tool} could not build it ({' '.join(last)[:200]})")


def peer_command(name: str, work: Path) -> list[str]:
    """How a peer is started, built where it has to be; raises Missing."""
    if name in PYTHON_PEERS:
        return [sys.executable, "-m", f"benchmarks.lane.peers.{name}"]
    if name == "franz-go":
        return [str(build_go(PEERS / name, work))]
    target = work / "java"
    _build("mvn", ["mvn", "-q", "-B", f"-Doutput={target}", "package"], PEERS / "parallel-consumer")
    mode = name.rpartition("-")[2]
    java = ["java", *shlex.split(os.environ.get("JAVA_OPTS", "-Xmx512m"))]
    return [*java, "-cp", f"{target}/classes:{target}/lib/*", "lab.Peer", "--mode", mode]


@dataclass
class PeerProcess:
    name: str
    log: Path
    process: "subprocess.Popen[bytes]"

    def pids(self) -> list[int]:
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended by itself; read {self.log}")
        return [self.process.pid]

    def stop(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def launch(name: str, command: list[str], environment: Mapping[str, str], log: Path) -> PeerProcess:
    """Starts a program in the repository's root, its output going to `log`."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            ending_with_us(command),
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    return PeerProcess(name, log, process)


@dataclass
class Peer:
    """A peer: told everything by its environment, it posts a record's value as it is."""

    name: str
    command: list[str]
    bootstrap: str
    work: Path
    loads: int = 0

    @property
    def topic(self) -> str:
        return f"bench-{self.name}-{self.loads}"

    def load(self, count: int, hot_share: float) -> None:
        delete_topic(connect(self.bootstrap), self.topic)
        self.loads += 1
        load_peer_topic(self.bootstrap, self.topic, count, hot_share)

    @contextmanager
    def running(self, partner_url: str, in_flight: int) -> Iterator[PeerProcess]:
        told = {"BOOTSTRAP": self.bootstrap, "TOPIC": self.topic, "GROUP": self.topic}
        told |= {"PARTNER_URL": partner_url, "IN_FLIGHT": str(in_flight), "INSTANCE": ""}
        log = self.work / f"{self.topic}.log"
        peer = launch(self.name, self.command, os.environ | told, log)
        try:
            yield peer
        finally:
            peer.stop()


@dataclass
class OurProcesses:
    processes: Processes
    names: list[str]

    def pids(self) -> list[int]:
        return [self.processes.pid(name) for name in self.names]


@dataclass
class Ours:
    """The payments service as a user runs it, in one process or more, with the partner in IMT's place."""

    stack: Stack
    topics: OurTopics
    work: Path
    replicas: int = 1

    @property
    def folder(self) -> Path:
        return self.work / f"ours-{self.replicas}"

    def load(self, count: int, hot_share: float) -> None:
        self.topics.load(count, hot_share)

    def processes(self, partner_url: str, in_flight: int) -> Processes:
        """Nothing of an earlier run is kept: its index of outcomes is of other topics."""
        shutil.rmtree(self.folder, ignore_errors=True)
        told = {"BILLBUS_SANDBOX_URL": partner_url, "BILLBUS_IN_FLIGHT": str(in_flight)}
        told |= {"BILLBUS_PARTNER_CONNECTIONS": str(in_flight), "BILLBUS_LOG_LEVEL": "WARNING"}
        stack = self.stack
        return Processes(self.folder, bootstrap=stack.bootstrap, registry=stack.registry, environment=told)

    @contextmanager
    def running(self, partner_url: str, in_flight: int) -> Iterator[Running]:
        names = ["payments", *(f"payments-{number}" for number in range(2, self.replicas + 1))]
        with self.processes(partner_url, in_flight) as processes:
            for name in names:
                processes.launch(name)
            yield OurProcesses(processes, names)
