"""IC's side and IMT's people over HTTP: through the sandbox, which knows how IC talks, and to our intakes.

They behave as partners do: what is not accepted for certain (nobody there, a time-out, 503, 429) is sent
again, the very same, until it is accepted or the day's patience ends.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import aiohttp

from deploy.local.day.contract import Contract
from deploy.local.day.facts import Row, Said
from deploy.local.installation import Installation

AGAIN_S = 0.3
"""Pause before something is sent again."""
TRY_S = 15
"""Time-out of one try."""
CONTROL_S = 150
"""Time-out of what the sandbox is told to do; it may be many tries of IC's side, one after the other."""
LOOK_S = 5
"""Time-out of a look at a service's probes and metrics."""
PATIENCE_S = 120
"""How long something is sent again before it counts as never accepted."""
MOST_ROWS = 100_000
Answer = dict[str, Any]


class BrokeOff(Exception):
    """The day cannot go on; the message says why."""


class Partners:
    """`async with` it."""

    def __init__(self, installation: Installation, contract: Contract) -> None:
        self.installation = installation
        self.contract = contract

    async def __aenter__(self) -> Partners:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=50, force_close=True),
            timeout=aiohttp.ClientTimeout(total=CONTROL_S),
            trust_env=False,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    # -- the sandbox -----------------------------------------------------------------------------------

    async def control(self, method: str, path: str, body: Any = None) -> Any:
        """Calls the sandbox's control API; raises BrokeOff with what it says when it says no, or nothing."""
        url, what = self.installation.url("sandbox") + path, f"{method} {path.partition('?')[0]}"
        try:
            async with self._session.request(method, url, json=body) as reply:
                said = await reply.text()
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            name = type(fault).__name__
            raise BrokeOff(f"the sandbox gave no answer to {what} within {CONTROL_S} s ({name})") from fault
        if reply.status >= 400:
            raise BrokeOff(f"the sandbox refuses {what}: {said[:300]}")
        return json.loads(said) if said else None

    async def play(self, what: str, biller: str, **body: Any) -> list[Answer]:
        """Lets IC's side act; the answers that it got, in order."""
        asked = {"biller": biller, "timeout_s": TRY_S, **body}
        answers: list[Answer] = (await self.control("POST", f"/control/play/{what}", asked))["answers"]
        return answers

    async def insist(
        self, said: Sequence[Said], send: Callable[[list[Said]], Awaitable[list[Answer]]]
    ) -> None:
        """Sends until every one has an answer that counts. `send` gives an answer for each, in order."""
        until = time.monotonic() + PATIENCE_S
        waiting = list(said)
        while waiting:
            for each in waiting:
                each.tries += 1
            for each, answer in zip(waiting, await send(waiting), strict=True):
                take(each, answer)
            waiting = [each for each in waiting if not each.answer]
            if waiting:
                if time.monotonic() > until:
                    return  # the judge names them
                await asyncio.sleep(AGAIN_S)

    # -- our intakes -----------------------------------------------------------------------------------

    async def ask(
        self,
        service: str,
        method: str,
        path: str,
        biller: str,
        *,
        data: bytes | None = None,
        body: Any = None,
    ) -> Answer:
        """One request to one of our services with the biller's credential, answered as `play` answers."""
        url, headers = (
            self.installation.url(service) + path,
            {"Authorization": f"Bearer {self._bearer(biller)}"},
        )
        try:
            async with self._session.request(
                method,
                url,
                data=data,
                json=body,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=2 * TRY_S),
            ) as reply:
                text = await reply.text()
                return {
                    "status": reply.status,
                    "body": json.loads(text) if text.startswith(("{", "[")) else text,
                }
        except (aiohttp.ClientError, TimeoutError, OSError) as fault:
            return {"status": 0, "error": type(fault).__name__}

    async def metric(self, service: str, name: str, **labels: str) -> float:
        """A service's metric, 0 when it is not there or nobody answers."""
        wanted = name + "{" + ",".join(f'{label}="{value}"' for label, value in labels.items()) + "} "
        try:
            url = f"{self.installation.url(service)}/metrics"
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=LOOK_S)) as reply:
                lines = (await reply.text()).splitlines()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return 0.0
        return next((float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted)), 0.0)

    async def not_ready(self, service: str) -> str:
        """What a service's /readyz is missing, in words; empty when it is ready."""
        try:
            url = f"{self.installation.url(service)}/readyz"
            async with self._session.get(url, timeout=aiohttp.ClientTimeout(total=LOOK_S)) as reply:
                told = json.loads(await reply.text())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as fault:
            return f"does not answer ({type(fault).__name__})"
        return "" if reply.status == 200 else f"is not ready ({told.get('detail', reply.status)})"

    def _bearer(self, biller: str) -> str:
        return self.installation.secret(f"{biller}-intake-bearer")

    # -- the ledger ------------------------------------------------------------------------------------

    async def ledger(self) -> list[Row]:
        """Everything that stands in the partners' ledger, never deduplicated."""
        rows: list[Row] = []
        for kind in ("payments", "invoices", "settings", "bills"):
            found = await self.control("GET", f"/control/ledger/{kind}?limit={MOST_ROWS}")
            rows += [self._row(kind, each) for each in found["rows"]]
        return rows

    async def bill_links(self, biller: str) -> dict[str, str]:
        """The links that IC got with a biller's invoices, by invoice number."""
        found = await self.control("GET", f"/control/ledger/invoices?biller={biller}&limit={MOST_ROWS}")
        name = self.contract.cloud["soap"]["invoice"]["bill_link"]
        return {row["natural_id"]: row["fields"][name] for row in found["rows"] if row["fields"].get(name)}

    def _row(self, kind: Any, shown: dict[str, Any]) -> Row:
        fields = shown["fields"]
        settings, datapump = self.contract.posted("settings"), self.contract.posted("datapump")
        day = fields.get(datapump["batch_date"])
        return Row(
            flow=kind,
            biller=shown["biller"],
            id=shown["natural_id"],
            account=shown["account"],
            seq=shown["seq"],
            amount=None if shown["amount"] is None else Decimal(shown["amount"]),
            value=fields.get(settings["value"]),
            indicator=fields.get(settings["indicator"]),
            batch_day=date.fromisoformat(day) if day else None,
            opened=fields.get("Method") == "GET",
        )


def take(said: Said, answer: Answer) -> None:
    """Enters an answer that counts: 2xx or a no; anything else leaves it to be sent again."""
    status, body = answer["status"], answer.get("body")
    if 200 <= status < 300:
        said.accept(body, datetime.now(UTC))
    elif 400 <= status < 500 and status not in (408, 425, 429):
        told = body if isinstance(body, dict) else {}
        kind = told.get("type", "")
        said.refuse(": ".join(str(part) for part in (told.get("title"), told.get("detail"), kind) if part))


def items(answer: Answer, count: int) -> list[Answer]:
    """One answer for each item of a batch, in the words of a single request's answer."""
    body = answer.get("body")
    results = body.get("results") if isinstance(body, dict) else None
    if not 200 <= answer["status"] < 300 or not isinstance(results, list):
        return [answer] * count
    statuses = {"accepted": 200, "try_again": 503}
    by_index = {result["index"]: result for result in results}
    return [{"status": statuses.get(by_index[n]["status"], 422), "body": by_index[n]} for n in range(count)]
