"""The five services and the sandbox as processes of their own, as a person would start them."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType

from deploy.local.demo_secrets import make_secrets
from deploy.local.errors import LocalError
from deploy.local.managed import Managed
from deploy.local.ports import DEFAULTS, HOST, free_port, free_ports, http_status, require_free

ROOT = Path(__file__).resolve().parents[2]
DEMO_BILLERS = Path(__file__).with_name("billers")
SERVICES = ("invoices", "balances", "payments", "settings", "bills")
ALL = ("sandbox", *SERVICES)
READY_LIMIT_S, GRACE_S = 90, 30
SESSION_TIMEOUT_MS = 3000  # the local broker allows it
PASSED_ON = ("HOME", "LANG", "LC_ALL", "PATH", "TMPDIR", "TZ")  # of the person's own environment


def prepare(folder: Path, billers: Path) -> tuple[Path, Path, Path]:
    """A copy of the billers' files, secrets and drop folders under `folder`, where they are not there."""
    own, secrets, drop = folder / "billers", folder / "secrets", folder / "drop"
    if not own.exists():
        part = own.with_name("billers.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(billers, part)
        part.rename(own)
    slugs = sorted(path.stem for path in own.glob("*.yaml"))
    make_secrets(secrets, slugs)
    for slug in slugs:
        (drop / slug).mkdir(parents=True, exist_ok=True)
    return own, secrets, drop


class Processes:
    """Services with state, secrets, logs and a copy of the billers' files of their own under `folder`.

    `ports` by name (default: free ones); `environment` is added to every process. A process is named
    by its service; "payments-2" is a second replica of payments. Attached processes end with this
    one, whatever ends it; detached ones stay until `stop_recorded(folder)`. Raises LocalError.
    """

    def __init__(
        self,
        folder: Path,
        *,
        bootstrap: str,
        registry: str,
        ports: Mapping[str, int] | None = None,
        billers: Path = DEMO_BILLERS,
        environment: Mapping[str, str] | None = None,
        detached: bool = False,
    ) -> None:
        self.folder = folder.resolve()
        self.bootstrap, self.registry = bootstrap, registry
        self.ports = dict(ports or free_ports())
        self.detached = detached
        self._extra = dict(environment or {})
        self._running: dict[str, Managed] = {}
        self.billers, self.secrets, self.drop_folder = prepare(self.folder, billers)

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_all()

    def url(self, name: str) -> str:
        """Where a process listens, without a slash at the end."""
        return f"http://{HOST}:{self.port(name)}"

    def secret(self, name: str) -> str:
        """The value of a demo secret, such as "acme-intake-password"."""
        return (self.secrets / name).read_text()

    def pid(self, name: str) -> int:
        """The process id; raises LocalError when it does not run."""
        return self._managed(name).pid

    def log(self, name: str) -> Path:
        """What the process writes, all its lives in one file."""
        return self._managed(name).log

    def alive(self, name: str) -> bool:
        return name in self._running and self._running[name].alive

    def environment(self, name: str) -> dict[str, str]:
        """The whole environment of a process: nothing of the person's own settings leaks into it."""
        return {
            **{variable: os.environ[variable] for variable in PASSED_ON if variable in os.environ},
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "BILLBUS_BOOTSTRAP": self.bootstrap,
            "BILLBUS_REGISTRY": self.registry,
            "BILLBUS_BILLERS": str(self.billers),
            "BILLBUS_SECRETS": str(self.secrets),
            "BILLBUS_STATE": str(self.folder / "state" / name),
            "BILLBUS_HOST": HOST,
            "BILLBUS_PORT": str(self.port(name)),
            "BILLBUS_PUBLIC_BILLS_URL": self.url("bills"),
            "BILLBUS_SANDBOX_URL": self.url("sandbox"),
            "BILLBUS_DROP_FOLDER": str(self.drop_folder),
            "BILLBUS_SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_MS),
            **{f"BILLBUS_{service.upper()}_URL": self.url(service) for service in SERVICES},
            **self._extra,
        }

    def start_all(self, names: Iterable[str] = ALL) -> None:
        """Starts them side by side and returns when all are ready; ends all when one does not come up."""
        names = tuple(names)
        try:
            for name in names:
                self.launch(name)
            for name in names:
                self.wait_ready(name)
        except BaseException:
            self.kill_all()
            raise

    def start(self, name: str) -> None:
        """Starts one, on the port and state it had before, and returns when it is ready."""
        self.launch(name)
        self.wait_ready(name)

    def launch(self, name: str) -> None:
        """Starts one without waiting."""
        if self.alive(name):
            raise LocalError(f"{name} runs already; stop it first.")
        require_free(name, self.port(name))
        state = self.folder / "state" / name
        state.mkdir(parents=True, exist_ok=True)
        self._running[name] = Managed(
            name=name,
            command=_command(name),
            folder=self.folder,
            environment=self.environment(name),
            detached=self.detached,
            cwd=self.folder,
        )
        self._running[name].start()

    def wait_ready(self, name: str, limit_s: float = READY_LIMIT_S) -> None:
        """Returns when the process says it is ready; raises LocalError after `limit_s` seconds."""
        self._managed(name).wait_until(lambda: self.ready(name), limit_s)

    def ready(self, name: str) -> bool:
        """What /readyz says now; False when nobody answers."""
        return http_status(self.port(name), "/readyz") == 200

    def stop(self, name: str, grace_s: float = GRACE_S) -> None:
        """SIGTERM, and SIGKILL after `grace_s` seconds."""
        self._managed(name).stop(grace_s)

    def kill(self, name: str) -> None:
        """kill -9, as a crash would; returns when it is gone."""
        self._managed(name).kill()

    def restart(self, name: str) -> None:
        """Stops and starts one, with the same port and state."""
        self.stop(name)
        self.start(name)

    def stop_all(self) -> None:
        """Ends all at once, the sandbox last so that what is in flight can still finish."""
        partners = [process for name, process in self._running.items() if name == "sandbox"]
        services = [process for name, process in self._running.items() if name != "sandbox"]
        for process in services:
            process.terminate()
        for process in [*services, *partners]:
            process.stop(GRACE_S)

    def kill_all(self) -> None:
        for process in self._running.values():
            process.kill()

    def port(self, name: str) -> int:
        """On which port a process listens; raises LocalError for one that there is not."""
        if name not in self.ports:
            if _service_of(name) not in DEFAULTS:
                raise LocalError(f"There is no service named {name}; there are {', '.join(ALL)}.")
            self.ports[name] = free_port()
        return self.ports[name]

    def _managed(self, name: str) -> Managed:
        if name not in self._running:
            raise LocalError(f"{name} was never started here; start it first.")
        return self._running[name]


def _service_of(name: str) -> str:
    return name.partition("-")[0]


def _command(name: str) -> list[str]:
    if _service_of(name) == "sandbox":
        return [sys.executable, "-m", "services.sandbox"]
    return [str(Path(sys.executable).with_name("billbus")), "run", _service_of(name)]
