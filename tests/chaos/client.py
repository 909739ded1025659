"""IC's side of a storm: what is sent to which replica, at what pace, and what it was told.

It behaves as a partner does: what is not accepted for certain is sent again, the very same, to another
replica, until it is accepted or its patience ends.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any, Literal, Protocol

import aiohttp

from deploy.local.day.partners import Answer, items
from tests.chaos.facts import Change, Payment

AGAIN_S, TRY_S, PATIENCE_S = 0.3, 8.0, 180.0
OPEN_AT_A_TIME = 64
LATER_S = (2.0, 10.0)
ACCEPTED, REFUSED = range(200, 300), frozenset({400, 404, 409, 413, 422})
How = Literal["batch", "form", "changes"]


class Doors(Protocol):
    """Where the replicas of a service listen now, and with which credential a biller speaks."""

    def addresses(self, service: str) -> Sequence[str]: ...
    def bearer(self, biller: str) -> str: ...


@dataclass(slots=True)
class Request:
    """What goes out together at `at_s` seconds of the storm: payments of one biller, or changes.

    With `after` it goes out only when that payment is accepted.
    """

    at_s: float
    biller: str
    how: How
    said: Sequence[Payment | Change]
    after: Payment | None = None


@dataclass
class Client:
    """`async with` it; `send` returns when every request is answered for certain or given up.

    While `duplicating`, each request goes to two replicas at the same moment, and once more later;
    `copies` counts the payments sent again that way.
    """

    doors: Doors
    random: Random
    duplicating: bool = False
    copies: int = 0
    tries: int = 0
    _turn: count[int] = field(default_factory=count)

    async def __aenter__(self) -> Client:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=TRY_S),
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def send(self, requests: Sequence[Request]) -> None:
        """Each at its time, later when too many are open."""
        began, room = time.monotonic(), asyncio.Semaphore(OPEN_AT_A_TIME)
        async with asyncio.TaskGroup() as group:
            for request in requests:
                await asyncio.sleep(max(0.0, began + request.at_s - time.monotonic()))
                await room.acquire()
                task = group.create_task(self._insist(request))
                task.add_done_callback(lambda _: room.release())
                if self.duplicating and request.how != "changes":
                    group.create_task(self._repeat(request, 0.0))
                    group.create_task(self._repeat(request, self.random.uniform(*LATER_S)))

    async def _repeat(self, request: Request, after_s: float) -> None:
        """The same once more; what it is answered is no news."""
        await asyncio.sleep(after_s)
        self.copies += len(request.said)
        await self._ask(request, request.said)

    async def _insist(self, request: Request) -> None:
        until = time.monotonic() + PATIENCE_S
        if request.after is not None:
            await self._wait_for(request.after, until)
        waiting = list(request.said)
        for each in waiting:
            each.sent = time.time()
        while True:
            for each, answer in zip(waiting, await self._ask(request, waiting), strict=True):
                take(each, answer)
            waiting = [each for each in waiting if each.accepted is None and not each.refused]
            if not waiting or time.monotonic() > until:
                break
            await asyncio.sleep(AGAIN_S)

    async def _wait_for(self, payment: Payment, until: float) -> None:
        while payment.accepted is None and time.monotonic() < until:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(AGAIN_S)

    async def _ask(self, request: Request, said: Sequence[Payment | Change]) -> list[Answer]:
        """One answer for each; status 0 where nobody answered."""
        self.tries += 1
        path, body = _body(request.how, said)
        doors = self.doors.addresses("settings" if request.how == "changes" else "payments")
        url = f"{doors[next(self._turn) % len(doors)]}/ic/{request.biller}/{path}"
        headers = {"Authorization": f"Bearer {self.doors.bearer(request.biller)}"}
        try:
            async with self._session.post(url, headers=headers, **body) as reply:
                told = await reply.json(content_type=None)
                answer: Answer = {"status": reply.status, "body": told}
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as fault:
            answer = {"status": 0, "error": type(fault).__name__}
        return [answer] if request.how == "form" else items(answer, len(said))


def _body(how: How, said: Sequence[Payment | Change]) -> tuple[str, dict[str, Any]]:
    if how == "form":
        return "payments", {"data": said[0].wire}
    envelope = "payments" if how == "batch" else "changes"
    path = "payments/batch" if how == "batch" else "changes"
    return path, {"json": {envelope: [each.wire for each in said]}}


def take(said: Payment | Change, answer: Answer) -> None:
    """Enters an answer that counts: accepted or refused; anything else leaves it to be sent again."""
    said.tries += 1
    status = answer["status"]
    if status in ACCEPTED:
        said.accepted = said.accepted or time.time()
    elif status in REFUSED:
        told = answer.get("body")
        said.refused = f"{status} {told.get('title', told) if isinstance(told, dict) else ''}".strip()
