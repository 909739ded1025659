"""All of billbus as containers, by docker-compose.yml, for those who have a Docker engine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from deploy.local.errors import LocalError
from deploy.local.installation import Say
from deploy.local.ports import HOST, chosen_ports, require_free
from deploy.local.processes import DEMO_BILLERS, ROOT, prepare

NOBODY = 10001  # the image's own user, for a person who is root
UP_LIMIT_S, LIMIT_S = 900, 120


class InContainers:
    """An Installation of containers; billers, secrets and logs are under `folder` on this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._ports = chosen_ports()
        self.bootstrap = f"{HOST}:{self._ports['kafka']}"
        self.registry = f"http://{HOST}:{self._ports['registry']}/apis/ccompat/v7"
        self.billers, self.secrets, self.drop_folder = prepare(self.folder, DEMO_BILLERS)
        self._compose: Sequence[str] = ()

    def start_parts(self, say: Say) -> None:
        self._compose = find_compose()
        for part, port in self._ports.items():
            if part != "kafka-controller":
                require_free(part, port)
        self._hand_over()
        say("images and containers (the first time takes minutes)")
        try:
            self._run("build", limit_s=UP_LIMIT_S)
            self._run("up", "--detach", "--wait", "kafka", "registry", limit_s=UP_LIMIT_S)
        except BaseException:
            self.stop()
            raise

    def start_services(self, say: Say) -> None:
        say("the five services and the sandbox")
        try:
            self._run("up", "--detach", limit_s=UP_LIMIT_S)
            for name in ("invoices", "balances", "payments", "settings", "bills"):
                self._await_healthy(name)
        except BaseException:
            self.stop()
            raise

    def url(self, name: str) -> str:
        return f"http://{HOST}:{self._ports[name]}"

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text()

    def log(self, name: str) -> Path:
        path = self.folder / "logs" / f"{name}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._run("logs", "--no-color", name))
        return path

    def alive(self, name: str) -> bool:
        return bool(self._run("ps", "--quiet", "--filter", "status=running", name).strip())

    def kill(self, name: str) -> None:
        self._run("kill", "--signal", "SIGKILL", name)

    def start_service(self, name: str) -> None:
        self._run("start", name)
        self._await_healthy(name)

    def stop(self) -> None:
        if self._compose:
            self._run("down", "--volumes", "--remove-orphans")

    def _await_healthy(self, name: str) -> None:
        self._run("up", "--detach", "--no-recreate", "--wait", "--no-deps", name, limit_s=LIMIT_S)

    def _hand_over(self) -> None:
        """Lets the containers' user read what only its owner may read."""
        if os.getuid():
            return
        for folder in (self.secrets, self.billers, self.drop_folder):
            for path in (folder, *folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY)

    def _run(self, *arguments: str, limit_s: float = LIMIT_S) -> str:
        try:
            done = subprocess.run(
                [*self._compose, *arguments],
                cwd=ROOT,
                env=self._environment(),
                capture_output=True,
                text=True,
                timeout=limit_s,
            )
        except subprocess.TimeoutExpired as problem:
            raise LocalError(
                f"`docker compose {arguments[0]}` took over {limit_s:.0f} s; look at `docker compose logs`."
            ) from problem
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise LocalError(f"`docker compose {' '.join(arguments[:1])}` failed: {said[:300]}.")
        return done.stdout

    def _environment(self) -> dict[str, str]:
        user = os.getuid() or NOBODY
        return {
            **os.environ,
            "BILLBUS_UID": str(user),
            "BILLBUS_GID": str(os.getgid() or NOBODY),
            "BILLBUS_BILLERS_FOLDER": str(self.billers),
            "BILLBUS_SECRETS_FOLDER": str(self.secrets),
            "BILLBUS_DROP_FOLDER": str(self.drop_folder),
        }


def find_compose() -> Sequence[str]:
    """How Docker Compose is called here; raises LocalError when there is none or no engine answers."""
    if not shutil.which("docker"):
        raise LocalError("There is no Docker here; install it, or run the same without DOCKER=1.")
    if subprocess.run(["docker", "info"], capture_output=True).returncode:
        raise LocalError(
            "No Docker engine answers; start it (or join its group), or run the same without DOCKER=1."
        )
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        raise LocalError(
            "This Docker has no Compose; install docker-compose-v2, or run the same without DOCKER=1."
        )
    return ("docker", "compose")
