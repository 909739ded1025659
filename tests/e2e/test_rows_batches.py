"""Batch closure: the biller's cut-off passes, and its day is closed with totals that match IMT's ledger."""

from __future__ import annotations

import time
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from services.bus.business_day import business_day, cut_off
from tests.deadline import until
from tests.e2e.both_sides import LIMIT_S, BothSides, Customer
from tests.unit.parts import a_biller

MARGIN_S = 10


def test_batch_closure(sides: BothSides, dusk: str) -> None:
    customer = sides.customer(dusk)
    ends = move_the_cut_off(sides, dusk)
    before = [
        pay(sides, customer, "1", "Portal", "10.00", "1.50"),
        pay(sides, customer, "1", "Portal", "20.00"),
    ]
    before.append(pay(sides, customer, "2", "AgentConnect", "30.00", AgentID="AG-7"))
    sides.pay(before[0], dusk)  # a repeat
    declined = pay(sides, customer, "1", "Portal", "99.00", Approved="False")
    assert datetime.now(ends.tzinfo) < ends, "the payments came in too late to say anything"
    until(lambda: datetime.now(ends.tzinfo) > ends, LIMIT_S, "the cut-off")
    after = pay(sides, customer, "1", "Portal", "40.00")
    closed = sides.one("batch.closed", biller=dusk)

    assert (closed["batch_day"], closed["closed_at"]) == (ends.date(), ends)
    assert (closed["count"], closed["amount"], closed["convenience_fee"]) == (
        3,
        Decimal("60.00"),
        Decimal("1.50"),
    )
    assert sums(closed["totals"], "tender", "product") == {
        ("card", "portal"): (2, Decimal("30.00")),
        ("eft", "agent_connect"): (1, Decimal("30.00")),
    }
    assert sums(closed["agents"], "agent") == {("AG-7",): (1, Decimal("30.00"))}
    assert (closed["declined"], closed["repeats"], closed["rule"]) == (1, 1, "received_by_cut_off")
    for told in (*before, after):
        assert sides.settled(told, dusk)["state"] == "posted"
    days = {told["PaymentGUID"]: sides.paid(told, dusk)[0]["BatchDate"] for told in (*before, after)}
    assert {days[told["PaymentGUID"]] for told in before} == {ends.date().isoformat()}
    assert days[after["PaymentGUID"]] == (ends.date() + timedelta(days=1)).isoformat()
    (group,) = [g for g in batches_at_imt(sides, dusk) if g["BatchDate"] == ends.date().isoformat()]
    assert (group["count"], group["total"]) == (3, "60.00")
    assert sides.paid(declined, dusk) == []
    only_one_after_a_crash(sides, dusk)


def move_the_cut_off(sides: BothSides, slug: str) -> datetime:
    """Sets it near, in the biller's timezone, and starts payments anew as after a crash."""
    path = sides.processes.billers / f"{slug}.yaml"
    told = yaml.safe_load(path.read_text())
    began = time.monotonic()
    sides.processes.kill("payments")
    sides.processes.start("payments")  # how long a start takes now says how near the cut-off may be
    takes_s = 2 * (time.monotonic() - began) + MARGIN_S
    ends = datetime.now(ZoneInfo(told["timezone"])) + timedelta(seconds=takes_s)
    ends = ends.replace(microsecond=0)
    told["batch"]["cut_off"] = ends.strftime("%H:%M:%S")
    path.write_text(yaml.safe_dump(told))
    sides.processes.kill("payments")
    sides.processes.start("payments")
    return ends


def pay(
    sides: BothSides, customer: Customer, tender: str, product: str, amount: str, fee: str = "0", **more: str
) -> dict[str, str]:
    told = sides.payment(
        customer.biller,
        InvoiceNumber=customer.invoice,
        PaymentTypeID=tender,
        Product=product,
        PaymentAmount=amount,
        ConvenienceFee=fee,
        **more,
    )
    assert sides.pay(told, customer.biller).status_code == 200
    return told


def sums(totals: list[dict[str, Any]], *by: str) -> dict[tuple[str, ...], tuple[int, Decimal]]:
    return {tuple(each[name] for name in by): (each["count"], each["amount"]) for each in totals}


def batches_at_imt(sides: BothSides, biller: str) -> list[dict[str, Any]]:
    query = {"biller": biller, "by": "BatchDate", "limit": "0"}
    groups: list[dict[str, Any]] = sides.control("GET", "/ledger/payments", params=query)["groups"]
    return groups


def only_one_after_a_crash(sides: BothSides, biller: str) -> None:
    """Killed and started again, payments knows that the day is closed."""
    sides.processes.kill("payments")
    sides.processes.start("payments")
    other = sides.payment(biller, AccountNumber="1")
    sides.pay(other, biller)
    sides.settled(other, biller)
    assert len({read.ce_id for read in sides.records("batch.closed", biller=biller)}) == 1
    assert len(sides.events("batch.closed", biller=biller)) == 1


@pytest.mark.parametrize(("changes", "hours"), [("2026-03-08", 23), ("2026-11-01", 25)])
def test_batch_closure_on_the_days_when_clocks_change(changes: str, hours: int) -> None:
    biller = a_biller()
    day = datetime.fromisoformat(changes).date()
    begins, ends = cut_off(biller, day - timedelta(days=1)), cut_off(biller, day)

    assert ends - begins == timedelta(hours=hours)
    assert ends.astimezone(biller.timezone).timetz().replace(tzinfo=None) == biller.batch.cut_off
    assert {business_day(biller, begins + timedelta(minutes=n)) for n in range(hours * 60)} == {day}
    assert business_day(biller, begins - timedelta(milliseconds=1)) == day - timedelta(days=1)
    assert business_day(biller, ends) == day + timedelta(days=1)
