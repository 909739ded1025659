"""All of billbus at once, on the real parts: as processes, or as containers where Docker is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from deploy.local.managed import stop_recorded
from deploy.local.ports import chosen_ports
from deploy.local.processes import ROOT, Processes
from deploy.local.progress import fetch_with_progress
from deploy.local.stack import Stack

Say = Callable[[str], None]


class Installation(Protocol):
    """Broker, registry, sandbox and the five services, started together and each to be killed alone."""

    bootstrap: str
    registry: str
    billers: Path
    """The running services' own copy of the billers' files; a change counts from the next start."""
    drop_folder: Path
    """Watched by `invoices`, one sub-folder a biller."""

    def start_parts(self, say: Say) -> None:
        """Starts broker and registry, telling each step; else ends everything and raises LocalError."""

    def start_services(self, say: Say) -> None:
        """Starts the services and the sandbox after the parts, likewise; returns when all are ready."""

    def url(self, name: str) -> str:
        """Where a service listens, without a slash at the end."""

    def secret(self, name: str) -> str:
        """The value of a demo secret, such as "acme-intake-password"."""

    def log(self, name: str) -> Path:
        """A file with what a service has written."""

    def alive(self, name: str) -> bool:
        """Whether a service runs."""

    def kill(self, name: str) -> None:
        """kill -9 of one service; returns when it is gone."""

    def start_service(self, name: str) -> None:
        """Starts one that was killed, and returns when it is ready."""

    def stop(self) -> None:
        """Ends everything; what was written stays in the folder."""


def apply_topics(bootstrap: str, registry: str) -> None:
    """Topics, subjects and first offsets, as the catalog has them."""
    from services.bus import topics  # the parts alone need no Kafka client
    from services.bus.catalog import load_catalog

    topics.apply(bootstrap, registry, load_catalog(ROOT / "schemas"))


class OnThisMachine:
    """An Installation of processes under `folder`; with `keep` they outlive this one until `make down`."""

    def __init__(self, folder: Path, *, keep: bool = False) -> None:
        self.folder, self.keep = folder.resolve(), keep
        ports = chosen_ports()
        self._stack = Stack(self.folder, ports=ports, detached=keep)
        self.bootstrap, self.registry = self._stack.bootstrap, self._stack.registry
        self._processes = Processes(
            self.folder, bootstrap=self.bootstrap, registry=self.registry, ports=ports, detached=keep
        )
        self.billers, self.drop_folder = self._processes.billers, self._processes.drop_folder
        self.url, self.secret = self._processes.url, self._processes.secret
        self.log, self.alive = self._processes.log, self._processes.alive
        self.kill, self.start_service = self._processes.kill, self._processes.start

    def start_parts(self, say: Say) -> None:
        fetch_with_progress()
        try:
            say("Kafka and the registry")
            self._stack.start()
            say("topics and subjects")
            apply_topics(self.bootstrap, self.registry)
        except BaseException:
            self.stop()
            raise

    def start_services(self, say: Say) -> None:
        try:
            say("the five services and the sandbox")
            self._processes.start_all()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        self._processes.stop_all()
        self._stack.stop()
        stop_recorded(self.folder)
