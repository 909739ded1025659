"""IMT's people: they open their books and deliver the BIF files, by upload and by drop folder."""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from deploy.local.day.bills import BifFile, Bill
from deploy.local.day.facts import Effect, Id, Said
from deploy.local.day.partners import PATIENCE_S, Answer, BrokeOff, Partners

DROPPED = "birch"
"""This biller's file comes by the drop folder, the others' by HTTP."""
TWICE = "acme"
"""This biller's file is delivered once more when it is taken."""
POLL_S, AGAIN_S = 0.1, 0.5


class Deliveries:
    """The invoices of the day. `owed` is what each account owed in IMT's books before anybody paid."""

    def __init__(self, partners: Partners, files: list[BifFile]) -> None:
        self._partners = partners
        self._files = files
        self._said = {(file.biller, bill.line): _said(bill) for file in files for bill in file.bills}
        self.said = list(self._said.values())
        self.owed: dict[Id, Decimal] = {}
        self._taken: dict[str, dict[str, Any]] = {}

    async def open_books(self) -> None:
        """IMT has every account of the files, with what it owes and its bills."""
        for file in self._files:
            accounts: dict[str, dict[str, Any]] = {}
            for bill in file.good:
                kept = accounts.setdefault(
                    bill.account, {"account": bill.account, "bills": [], "cause": "invoice"}
                )
                kept["bills"].append({"bill_id": bill.bill_id, "bytes": 20_000})
                if not bill.superseded:
                    kept |= _owing(bill) | {"policies": list(bill.policies)}
                    self.owed[bill.biller, bill.account] = bill.past_due + bill.current_charges
            seed = {"biller": file.biller, "accounts": list(accounts.values())}
            await self._partners.control("POST", "/control/accounts", seed)

    async def deliver(self) -> None:
        """All files, each until it is accepted; raises BrokeOff when one is refused whole."""
        await asyncio.gather(*(self._deliver(file) for file in self._files))
        again = next(file for file in self._files if file.biller == TWICE)
        first = self._taken[TWICE]
        second = await self._upload(again)
        if second != first:
            raise BrokeOff(f"the BIF file of {TWICE}, sent once more, was answered otherwise: {second}")

    async def _deliver(self, file: BifFile) -> None:
        taken = await (self._drop(file) if file.biller == DROPPED else self._upload(file))
        self._taken[file.biller] = taken
        self._enter(file, taken)

    async def _upload(self, file: BifFile) -> dict[str, Any]:
        content = await asyncio.to_thread(file.path.read_bytes)
        path = f"/imt/{file.biller}/bif?name={file.path.name}"
        until = time.monotonic() + PATIENCE_S
        while True:
            answer: Answer = await self._partners.ask("invoices", "POST", path, file.biller, data=content)
            if answer["status"] == 200:
                return dict(answer["body"])
            if 400 <= answer["status"] < 500 and answer["status"] != 429:
                raise BrokeOff(f"the BIF file of {file.biller} is refused: {answer['body']}")
            if time.monotonic() > until:
                raise BrokeOff(f"the BIF file of {file.biller} was not accepted within {PATIENCE_S} s")
            await asyncio.sleep(AGAIN_S)

    async def _drop(self, file: BifFile) -> dict[str, Any]:
        """Lays the file into the drop folder whole, and reads the report that comes beside it."""
        folder = self._partners.installation.drop_folder / file.biller
        part = folder / f"{file.path.name}.part"
        await asyncio.to_thread(part.write_bytes, await asyncio.to_thread(file.path.read_bytes))
        part.rename(folder / file.path.name)
        until = time.monotonic() + PATIENCE_S
        while True:
            for place in ("done", "refused"):
                report = folder / place / f"{file.path.stem}.report.json"
                if report.exists():
                    return _reported(report)
            if time.monotonic() > until:
                raise BrokeOff(f"the BIF file of {file.biller} was not taken within {PATIENCE_S} s")
            await asyncio.sleep(POLL_S)

    def _enter(self, file: BifFile, taken: dict[str, Any]) -> None:
        """What each row was answered: refused with a reason, or accepted."""
        if taken["state"] != "accepted":
            raise BrokeOff(f"the BIF file of {file.biller} is refused: {taken['reason']}")
        refused: dict[int, list[dict[str, Any]]] = {}
        for each in taken["refusals"]:
            refused.setdefault(each["line"], []).append(each)
        now = datetime.now(UTC)
        for bill in file.bills:
            said = self._said[file.biller, bill.line]
            said.tries = 1
            if bill.line in refused:
                reasons = refused[bill.line]
                ours = [each for each in reasons if bill.bad and each["column"] == bill.bad.column] or reasons
                said.refuse("; ".join(f"{each['column']}: {each['expected']}" for each in ours))
            else:
                said.accept(None, now)


def _said(bill: Bill) -> Said:
    if bill.bad is not None:
        return Said(
            "invoices",
            bill.biller,
            f"line {bill.line}",
            "refused",
            name=bill.bad.says,
            amount=bill.balance_due,
        )
    said = Said("invoices", bill.biller, bill.invoice_number, "effect", amount=bill.balance_due)
    if bill.superseded:
        said.expects = "superseded"
    else:
        said.effects = (Effect(bill.invoice_number, bill.account, bill.balance_due),)
    return said


def _owing(bill: Bill) -> dict[str, str]:
    """IMT's books know no charge below zero: what is left over is a credit."""
    net = bill.past_due + bill.current_charges
    if net < 0:
        return {"past_due": "0.00", "current_charges": "0.00", "credit": str(-net)}
    past_due = max(bill.past_due, Decimal("0.00"))
    return {"past_due": str(past_due), "current_charges": str(net - past_due), "credit": "0.00"}


def _reported(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))
