"""What the day says when it cannot go on: who has ended, who is behind, by name and number."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from deploy.local.day.contract import Contract
from deploy.local.day.partners import Partners
from deploy.local.day.stall import explain
from deploy.local.day.witness import Witness
from deploy.local.processes import ROOT, Processes
from tests.deadline import until
from tests.on_the_bus import publish
from tests.stacks import Addresses
from tests.unit.test_bills import issued

LIMIT_S = 60


def told(running: Processes, witness: Witness) -> str:
    async def ask() -> str:
        contract = Contract(ROOT / "schemas" / "partners")
        async with Partners(running, contract) as partners:  # type: ignore[arg-type]  # as much as is asked for
            return await explain(partners, witness)

    return asyncio.run(ask())


def test_a_stall_names_who_has_ended_and_who_is_behind(services_running: Processes, stack: Addresses) -> None:
    with Witness(stack.bootstrap, stack.registry) as witness:
        until(lambda: told(services_running, witness).startswith("all services are ready"), LIMIT_S)
        services_running.kill("bills")
        publish(stack, replace(issued(), biller="acme", invoice_number="INV-STALL"))
        text = told(services_running, witness)
    assert "bills has ended" in text
    assert "billbus.bills.check is 1 records behind billing.invoice.issued.v1" in text
