"""How many changes a second the settings intake takes, each acknowledged by the broker before its answer.

    python -m benchmarks.intake [--seconds 5] [--connections 32] [--batch 1]

Starts a broker, a registry, the sandbox and the settings service of its own on 127.0.0.1, posts changes for
so many seconds, and ends everything. The caller, the broker and the service share this machine, so a figure
compares with another only when both come from one machine at rest. Nothing is warmed but one first second.
"""

import argparse
import asyncio
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp

from deploy.local import Stack
from deploy.local.processes import ROOT, Processes
from services.bus import topics
from services.bus.catalog import load_catalog

WARM_S = 1.0


async def post(
    session: aiohttp.ClientSession, url: str, ids: Iterator[int], batch: int, until: float
) -> list[float]:
    """Posts one log after another until the instant `until`; the seconds that each took."""
    took = []
    while (began := time.monotonic()) < until:
        changes = [
            {"ChangeID": f"bench-{next(ids)}", "Type": "AutoPay", "AccountNumber": "1", "AutoPay": "True"}
            for _ in range(batch)
        ]
        async with session.post(url, json={"changes": changes}) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()
        took.append(time.monotonic() - began)
    return took


async def measure(processes: Processes, seconds: float, connections: int, batch: int) -> list[float]:
    url = f"{processes.url('settings')}/ic/acme/changes"
    headers = {"Authorization": f"Bearer {processes.secret('acme-intake-bearer')}"}
    ids = itertools.count()
    async with aiohttp.ClientSession(headers=headers) as session:
        for limit in (WARM_S, seconds):
            until = time.monotonic() + limit
            posting = [post(session, url, ids, batch, until) for _ in range(connections)]
            took = [each for some in await asyncio.gather(*posting) for each in some]
    return sorted(took)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--seconds", type=float, default=5)
    asked.add_argument("--connections", type=int, default=32)
    asked.add_argument("--batch", type=int, default=1, help="changes in a request, 1 to 500")
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder, Stack(Path(folder) / "stack") as stack:
        topics.apply(stack.bootstrap, stack.registry, load_catalog(ROOT / "schemas"))
        with Processes(
            Path(folder) / "services", bootstrap=stack.bootstrap, registry=stack.registry
        ) as processes:
            processes.start_all(("sandbox", "settings"))
            took = asyncio.run(measure(processes, given.seconds, given.connections, given.batch))
    changes = len(took) * given.batch
    middle, late = took[len(took) // 2], took[int(len(took) * 0.99)]
    print(f"{changes} changes in {given.seconds:.0f} s: {changes / given.seconds:.0f} a second")
    print(f"a request of {given.batch}: median {middle * 1000:.0f} ms, 99th percentile {late * 1000:.0f} ms")


if __name__ == "__main__":
    main()
