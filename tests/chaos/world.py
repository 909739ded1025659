"""What a storm rages over: a broker and a registry of its own, the sandbox, replicas of two services.

Replicas that end are started again, as an orchestrator would do it, until `close`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import aiohttp
from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

from deploy.local.errors import LocalError
from deploy.local.installation import apply_topics
from deploy.local.processes import Processes
from deploy.local.progress import fetch_with_progress
from deploy.local.stack import Stack
from services.events import AccountCurrent
from tests.chaos.plan import accounts
from tests.on_the_bus import publish
from tests.stacks import Addresses

LOOK_EVERY_S = 0.1
ANSWER_S = 5.0
READY_LIMIT_S = 60.0
CREW = 6
T = TypeVar("T")


class World:
    """`async with` it: started whole, ended whole. `replicas` are those that should run."""

    def __init__(self, folder: Path, say: Callable[[str], None], replicas: int = 2) -> None:
        self._say = say
        self.stack = Stack(folder, parts=fetch_with_progress())
        self.processes = Processes(folder, bootstrap=self.stack.bootstrap, registry=self.stack.registry)
        self.replicas = ["payments", *(f"payments-{n}" for n in range(2, replicas + 1)), "settings"]
        self._back_at: dict[str, float] = {}
        self.ended_by_themselves: list[str] = []
        # a process ends with the thread that started it, so these live as long as the world
        self._crew = ThreadPoolExecutor(CREW, "crew")

    async def __aenter__(self) -> World:
        try:
            await self.do(self.stack.start)
            await self.do(apply_topics, self.stack.bootstrap, self.stack.registry)
            await self.do(publish_accounts, Addresses(self.stack.bootstrap, self.stack.registry, "its own"))
            await self.do(self.processes.start_all, ["sandbox", *self.replicas])
            self._session = aiohttp.ClientSession(trust_env=False)
            await self._open_books()
        except BaseException:
            await self._end()
            raise
        self._keeping = asyncio.create_task(self._keep())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._keeping.cancel()
        await self._session.close()
        await self._end()

    async def do(self, work: Callable[..., T], *args: Any) -> T:
        """Runs what blocks, in a thread that outlives it."""
        return await asyncio.get_running_loop().run_in_executor(self._crew, work, *args)

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        """The sandbox's control API."""
        url = self.processes.url("sandbox") + path
        async with self._session.request(method, url, json=body) as reply:
            reply.raise_for_status()
            return await reply.json() if reply.status != 204 else None

    # -- as the client sees it -------------------------------------------------------------------------

    def addresses(self, service: str) -> Sequence[str]:
        return [self.processes.url(name) for name in self.replicas if name.partition("-")[0] == service]

    def bearer(self, biller: str) -> str:
        return self.processes.secret(f"{biller}-intake-bearer")

    async def ready(self, name: str) -> bool:
        """Whether a replica runs and says that it is ready."""
        return self.processes.alive(name) and await self.do(self.processes.ready, name)

    async def has_settled(self, group: str, members: int) -> bool:
        """Whether the group's partitions are shared out among so many members, and nobody is joining."""
        return await self.do(self._has_settled, group, members)

    def _has_settled(self, group: str, members: int) -> bool:
        admin = AdminClient({"bootstrap.servers": self.stack.bootstrap})
        try:
            found = admin.describe_consumer_groups([group], request_timeout=ANSWER_S)[group].result(ANSWER_S)
        except KafkaException:
            return False  # its coordinator is being found
        return found.state == ConsumerGroupState.STABLE and len(found.members) == members

    # -- what can happen to a replica ------------------------------------------------------------------

    async def kill(self, name: str, back_after_s: float) -> None:
        """kill -9; it is started again after so many seconds."""
        self._back_at[name] = time.monotonic() + back_after_s
        await self.do(self.processes.kill, name)

    def freeze(self, name: str) -> None:
        """SIGSTOP: it is there and does nothing."""
        os.killpg(self.processes.pid(name), signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """SIGCONT: it goes on where it stopped."""
        os.killpg(self.processes.pid(name), signal.SIGCONT)

    async def scale_out(self, name: str) -> None:
        """One more replica, when it is ready."""
        await self.do(self.processes.start, name)
        self.replicas.append(name)

    async def scale_in(self, name: str) -> None:
        """SIGTERM; returns when it is gone."""
        self.replicas.remove(name)
        await self.do(self.processes.stop, name)

    async def settled(self) -> None:
        """Returns when every replica that should run is ready; raises LocalError when one is not in time."""
        until = time.monotonic() + READY_LIMIT_S
        for name in self.replicas:
            while not await self.ready(name):
                if time.monotonic() > until:
                    raise LocalError(f"{name} was not ready {READY_LIMIT_S:.0f} s after the storm.")
                await asyncio.sleep(LOOK_EVERY_S)

    async def _keep(self) -> None:
        while True:
            for name in list(self.replicas):
                if self.processes.alive(name) or time.monotonic() < self._back_at.get(name, 0.0):
                    continue
                if self._back_at.pop(name, None) is None:
                    self.ended_by_themselves.append(name)
                    self._say(f"{name} ended by itself and is started again")
                await self.do(self.processes.launch, name)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _open_books(self) -> None:
        for biller, numbers in accounts().items():
            seed = {"biller": biller, "accounts": [{"account": number} for number in numbers]}
            await self.control("POST", "/control/accounts", seed)

    async def _end(self) -> None:
        await self.do(self.processes.stop_all)
        await self.do(self.stack.stop)
        self._crew.shutdown()


def publish_accounts(stack: Addresses) -> None:
    """Every account is known to the services, as after a delivery of bills."""
    now = datetime.now(UTC)
    publish(
        stack,
        *(
            AccountCurrent(
                biller=biller,
                account=number,
                normalised=number.replace("-", "").lstrip("0"),
                policies=(),
                invoice_number=f"INV-{number}",
                invoice_date=date(2026, 11, 1),
                invoices=(),
                updated_at=now,
            )
            for biller, numbers in accounts().items()
            for number in numbers
        ),
    )
