"""A control plane as plain processes on 127.0.0.1: no container, no root, no cluster; ended when left."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from deploy.k8s.check.kubectl import Kubectl
from deploy.local.errors import LocalError
from deploy.local.ports import free_port

CHILD = Path(__file__).parents[2] / "local" / "child.py"
CRDS = Path(__file__).with_name("crds")
READY_S, STOP_S = 120.0, 15.0


class ControlPlane:
    """etcd and an API server with our CRDs; with `nodes` also what makes pods of workloads, on fake nodes.

    Args:
        programs: the folder with the programs (deploy/k8s/check/programs.py).
        folder: an empty folder, for its owner's eyes only: state, keys and logs.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self.folder = programs, folder
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []
        self.kubectl = Kubectl(programs / "kubectl", folder / "kubeconfig")

    def __enter__(self) -> ControlPlane:
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def launch(self, name: str, arguments: Sequence[str]) -> None:
        """Starts one of the programs; it ends with this control plane, and with this process."""
        with (self.folder / f"{name}.log").open("wb") as log:
            program = [str(self._programs / name), *arguments]
            process = subprocess.Popen(
                [sys.executable, "-S", str(CHILD), str(os.getpid()), *program], stdout=log, stderr=log
            )
        self._running.append((name, process))

    def until(self, what: str, holds: Callable[[], bool], limit_s: float = READY_S) -> None:
        """Waits; raises LocalError after `limit_s`, and for a program that ended, with its last words."""
        end = time.monotonic() + limit_s
        while not holds():
            for name, process in self._running:
                if process.poll() is not None:
                    log = (self.folder / f"{name}.log").read_text(errors="replace")
                    raise LocalError(f"{name} ended:\n{log[-1500:]}")
            if time.monotonic() > end:
                raise LocalError(f"{what} took longer than {limit_s:g} s; logs are in {self.folder}")
            time.sleep(0.2)

    def _start(self) -> None:
        clients, peers, api = (free_port() for _ in range(3))
        self._write_keys(api)
        local = "http://127.0.0.1:"
        self.launch(
            "etcd",
            [
                f"--data-dir={self.folder}/etcd",
                "--unsafe-no-fsync",
                "--log-level=warn",
                f"--listen-client-urls={local}{clients}",
                f"--advertise-client-urls={local}{clients}",
                f"--listen-peer-urls={local}{peers}",
                f"--initial-advertise-peer-urls={local}{peers}",
                f"--initial-cluster=default={local}{peers}",
            ],
        )
        issuer = f"https://127.0.0.1:{api}"
        self.launch(
            "kube-apiserver",
            [
                f"--etcd-servers={local}{clients}",
                "--bind-address=127.0.0.1",
                f"--secure-port={api}",
                f"--cert-dir={self.folder}/certs",
                "--service-cluster-ip-range=10.0.0.0/24",
                "--allow-privileged=true",  # that Pod Security refuses it is to be seen
                "--authorization-mode=RBAC",
                f"--token-auth-file={self.folder}/tokens.csv",
                f"--service-account-issuer={issuer}",
                f"--service-account-key-file={self.folder}/sa.pub",
                f"--service-account-signing-key-file={self.folder}/sa.key",
            ],
        )
        ask = self.kubectl.ask
        self.until("the API server", lambda: ask("get", "--raw", "/readyz").ok)
        self.until("the first namespace", lambda: ask("get", "namespace", "default").ok)
        self.kubectl.must("apply", "--server-side", "-f", str(CRDS), "--validate=false")
        self.kubectl.must("wait", "--for=condition=Established", "--timeout=60s", "-f", str(CRDS))

    def _write_keys(self, port: int) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        token = secrets.token_hex(24)
        (self.folder / "sa.key").write_bytes(private)
        (self.folder / "sa.pub").write_bytes(public)
        (self.folder / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n")
        authority = self.folder / "certs" / "apiserver.crt"
        (self.folder / "kubeconfig").write_text(
            KUBECONFIG.format(port=port, authority=authority, token=token), encoding="utf-8"
        )

    def _stop(self) -> None:
        for _, process in reversed(self._running):
            process.terminate()
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._running.clear()


KUBECONFIG = """apiVersion: v1
kind: Config
clusters:
- name: check
  cluster: {{server: "https://127.0.0.1:{port}", certificate-authority: "{authority}"}}
users:
- name: admin
  user: {{token: "{token}"}}
contexts:
- name: check
  context: {{cluster: check, user: admin}}
current-context: check
"""
