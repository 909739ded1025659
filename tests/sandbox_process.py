"""The sandbox as a process of its own, with invented secrets, for tests that need nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from deploy.local.ports import free_port
from deploy.local.processes import DEMO_BILLERS, ROOT
from tests.deadline import until

SLUGS = ("acme", "birch", "cedar")
ACME_GUID = "0f6f7c1e-5a0b-4c5e-9d52-7c1a2b3c4d01"
SECRETS = ("imt-token", "ic-key", "intake-password", "intake-bearer")


def secret(slug: str, name: str) -> str:
    """An invented secret."""
    return f"{slug}-{name}-of-tests"


def write_secrets(folder: Path) -> Path:
    """A folder of invented secrets for the demo's billers."""
    folder.mkdir(parents=True, exist_ok=True)
    for slug in SLUGS:
        for name in SECRETS:
            (folder / f"{slug}-{name}").write_text(secret(slug, name))
    return folder


class RunningSandbox:
    """A client of a running sandbox, as IMT's caller and as the one who controls it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, timeout=10, trust_env=False)

    def imt(self, method: str, path: str, slug: str = "acme", **given: Any) -> httpx.Response:
        """A call to one of IMT's services with the insurer's token."""
        headers = {"Authorization": f"Bearer {secret(slug, 'imt-token')}"}
        return self.http.request(method, f"/imt/{slug}{path}", headers=headers, **given)

    def pay(self, guid: str, account: str = "0000001001", amount: str = "10.00") -> httpx.Response:
        """Posts a payment to IMT."""
        return self.imt("POST", "/datapump/payments", json=payment(guid, account, amount))

    def seed(self, *accounts: Mapping[str, Any], slug: str = "acme") -> None:
        """Gives IMT accounts."""
        self.http.post("/control/accounts", json={"biller": slug, "accounts": accounts}).raise_for_status()

    def ledger(self, kind: str, **query: str) -> dict[str, Any]:
        """A ledger as the control API shows it."""
        reply = self.http.get(f"/control/ledger/{kind}", params=query).raise_for_status()
        return dict(reply.json())

    def fault(self, **spec: Any) -> dict[str, Any]:
        """Switches a fault on."""
        return dict(self.http.put("/control/faults", json=spec).raise_for_status().json())

    def forget(self) -> None:
        """As it was in the beginning."""
        for path in ("/control/faults", "/control/ledger", "/control/accounts"):
            self.http.delete(path).raise_for_status()
        self.http.put("/control/options", json={"unknown_accounts": "refuse"}).raise_for_status()


def payment(guid: str, account: str = "0000001001", amount: str = "10.00") -> dict[str, str]:
    """A payment as IMT takes it."""
    return {
        "PaymentGUID": guid,
        "AccountNumber": account,
        "PaymentAmount": amount,
        "PaymentDate": "2026-11-20T15:04:05.678Z",
        "BatchDate": "2026-11-20",
        "Tender": "card",
        "Product": "portal",
    }


@contextmanager
def running_sandbox(folder: Path, **environment: str) -> Iterator[RunningSandbox]:
    """A sandbox that ends with the block; `environment` is added to its own."""
    port = free_port()
    settings = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(ROOT),
        "BILLBUS_SANDBOX_PORT": str(port),
        "BILLBUS_STATE": str(folder / "state"),
        "BILLBUS_BILLERS": str(DEMO_BILLERS),
        "BILLBUS_SECRETS": str(write_secrets(folder / "secrets")),
        **environment,
    }
    log = folder / "sandbox.log"
    with log.open("wb") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.sandbox"],
            env=settings,
            cwd=folder,
            stdout=written,
            stderr=subprocess.STDOUT,
        )
        client = RunningSandbox(f"http://127.0.0.1:{port}")
        try:
            until(lambda: _ready(client, process, log), 60, "the sandbox being ready")
            yield client
        finally:
            client.http.close()
            process.terminate()
            process.wait(20)


def _ready(client: RunningSandbox, process: subprocess.Popen[bytes], log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    try:
        return client.http.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False
