"""How many invoices a second reach IC: many in one call, and one in a call, in turn within one run.

    python -m benchmarks.invoices [--invoices 2000] [--rounds 3] [--in-flight 200]

Starts a broker and a registry of its own on 127.0.0.1, and for each round the sandbox and the invoices
service; delivers a BIF file and waits until the sandbox's ledger holds each of its invoices. One in a call
is the same service with `max_invoices: 1` in the partner's contract. The seconds run from the file's upload
to the last invoice at IC, so they hold its checking and publishing too. The sandbox, the broker and the
service share this machine: only the ratio compares with another machine's. A file of 200 warms up.
"""

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import httpx

from deploy.local import Stack
from deploy.local.processes import ROOT, Processes
from services.bus import topics
from services.bus.catalog import load_catalog
from tests import bif_sample

WARM, LIMIT_S = 200, 120.0


def schemas_of(folder: Path, most: int) -> Path:
    """The contracts, with so many invoices in a call."""
    shutil.copytree(ROOT / "schemas", folder)
    contract = folder / "partners" / "invoicecloud.yaml"
    stated = contract.read_text(encoding="utf-8")
    assert "max_invoices: 100 " in stated
    contract.write_text(stated.replace("max_invoices: 100 ", f"max_invoices: {most} "), encoding="utf-8")
    return folder


def cpu_seconds(pid: int) -> float:
    """What a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def at_ic(control: httpx.Client) -> int:
    """Invoices in the sandbox's ledger."""
    count: int = control.get("/control/ledger/invoices", params={"limit": 0}).json()["count"]
    return count


def deliver(imt: httpx.Client, control: httpx.Client, first: int, count: int) -> float:
    """Seconds from the upload of a file of so many invoices to the last of them at IC."""
    before = at_ic(control)
    content = bif_sample.content(bif_sample.row(number) for number in range(first, first + count))
    began = time.monotonic()
    imt.post("/imt/acme/bif", content=content).raise_for_status()
    while at_ic(control) < before + count:
        assert time.monotonic() - began < LIMIT_S, "not all invoices reached IC in time"
        time.sleep(0.02)
    took = time.monotonic() - began
    assert at_ic(control) == before + count, "an invoice reached IC twice"
    return took


def calls(control: httpx.Client) -> int:
    """Uploads that the sandbox was asked for, by a fault that does nothing but count."""
    hits: int = control.get("/control/faults").json()["on"][0]["hits"]
    return hits


def measure(processes: Processes, first: int, count: int) -> tuple[float, float, float]:
    """Invoices a second, milliseconds of the service's CPU for one, and invoices in a call."""
    bearer = {"Authorization": f"Bearer {processes.secret('acme-intake-bearer')}"}
    with (
        httpx.Client(base_url=processes.url("invoices"), headers=bearer, timeout=LIMIT_S) as imt,
        httpx.Client(base_url=processes.url("sandbox"), timeout=LIMIT_S) as control,
    ):
        deliver(imt, control, first, WARM)
        counts = {"service": "ic.soap", "operation": "upload_invoice", "kind": "slow", "delay_s": 0}
        control.put("/control/faults", json=counts).raise_for_status()
        used = cpu_seconds(processes.pid("invoices"))
        took = deliver(imt, control, first + WARM, count)
        used = cpu_seconds(processes.pid("invoices")) - used
        return count / took, used / count * 1000, count / calls(control)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--invoices", type=int, default=2000)
    asked.add_argument("--rounds", type=int, default=3)
    asked.add_argument("--in-flight", type=int, default=200)
    given = asked.parse_args()
    found: dict[int, list[tuple[float, float, float]]] = {100: [], 1: []}
    with tempfile.TemporaryDirectory() as temporary, Stack(Path(temporary) / "stack") as stack:
        folder = Path(temporary)
        topics.apply(stack.bootstrap, stack.registry, load_catalog(ROOT / "schemas"))
        schemas = {most: schemas_of(folder / f"schemas-{most}", most) for most in found}
        first = 0
        for _ in range(given.rounds):
            for most, figures in found.items():
                with Processes(
                    folder / f"services-{first}",
                    bootstrap=stack.bootstrap,
                    registry=stack.registry,
                    environment={
                        "BILLBUS_SCHEMAS": str(schemas[most]),
                        "BILLBUS_IN_FLIGHT": str(given.in_flight),
                    },
                ) as processes:
                    processes.start_all(("sandbox", "invoices"))
                    figures.append(measure(processes, first, given.invoices))
                first += WARM + given.invoices
    medians = {}
    for most, figures in found.items():
        rates, used, sizes = zip(*figures, strict=True)
        medians[most] = statistics.median(rates)
        shown = ", ".join(f"{rate:.0f}" for rate in rates)
        print(
            f"up to {most} in a call: {medians[most]:.0f} invoices a second ({shown}), "
            f"{statistics.median(used):.2f} ms of CPU each, "
            f"{statistics.median(sizes):.0f} in a call"
        )
    print(f"ratio {medians[100] / medians[1]:.1f}")


if __name__ == "__main__":
    main()
