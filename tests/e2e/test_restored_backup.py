"""The story 'IMT restored last night's backup': the partner has lost an afternoon, and gets it back, once.

BILLBUS_STORY_PAYMENTS=20000 makes a whole day of it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any
from uuid import uuid4

import httpx

from tests.deadline import until
from tests.e2e.both_sides import BothSides, Customer
from tests.e2e.replaying import adds_up, begin, dry_run, ended, now, replay, states

PAYMENTS = int(os.environ.get("BILLBUS_STORY_PAYMENTS", "1500"))
AT_ONCE = 250
AT_A_TIME = 200
"""On their way to a partner at a time, as the service has it."""
BILLER = "birch"
LIMIT_S = 90 + PAYMENTS / 50


def test_imt_gets_back_what_its_backup_lacks_to_the_cent_and_nothing_twice(sides: BothSides) -> None:
    customers = sides.customers(30, BILLER)
    earlier = at_imt(sides).keys()
    morning = now()
    pay(sides, customers, PAYMENTS // 2)
    until(
        lambda: len(at_imt(sides).keys() - earlier) >= PAYMENTS // 2, LIMIT_S, "the morning's payments at IMT"
    )
    noon = int(overview(sides)["last_seq"])
    pay(sides, customers, PAYMENTS - PAYMENTS // 2)
    until(lambda: len(at_imt(sides).keys() - earlier) >= PAYMENTS, LIMIT_S, "the day's payments at IMT")
    evening = now()
    before = {guid: there for guid, there in at_imt(sides).items() if guid not in earlier}
    day = ("payment.received", "--biller", BILLER, "--from", morning, "--to", evening, "--recheck")
    until(lambda: states(dry_run(sides.processes, *day)) == {"posted": PAYMENTS}, LIMIT_S, "the outcomes")

    sides.control("DELETE", "/ledger/payments", params={"biller": BILLER, "after": noon})
    assert len(of_day(sides, before)) == PAYMENTS // 2
    with live_traffic(sides, customers) as live:
        first = begin(sides.processes, *day)
        until(lambda: len(of_day(sides, before)) > PAYMENTS * 0.55, LIMIT_S, "some of what was lost at IMT")
        first.kill()
        first.communicate()
        second = begin(sides.processes, *day)
        until(lambda: len(of_day(sides, before)) > PAYMENTS * 0.7, LIMIT_S, "more of what was lost at IMT")
        sides.processes.kill("payments")
        sides.processes.start("payments")
        report = ended(second)
    assert of_day(sides, before) == before
    assert overview(sides)["doubled"] == []
    sums = adds_up(report)
    assert (sums["selected"], sums["refused"], sums["parked"], sums["open"]) == (PAYMENTS, 0, 0, 0)
    # what the killed process had just delivered was there when its successor asked: that is skipped
    assert PAYMENTS // 2 - AT_A_TIME <= sums["delivered"] <= PAYMENTS // 2
    assert (report["continued"], report["finished"]) == (True, True)
    assert report["emitted"] < PAYMENTS
    until(lambda: live <= at_imt(sides).keys(), LIMIT_S, "what was paid meanwhile")

    again = replay(sides.processes, *day)
    assert adds_up(again) == sums | {"skipped": PAYMENTS, "delivered": 0}
    assert of_day(sides, before) == before
    assert overview(sides)["doubled"] == []


def pay(sides: BothSides, customers: list[Customer], number: int) -> None:
    """As many payments of different amounts, in batches as IC sends them."""
    like = sides.payment(BILLER)
    for first in range(0, number, AT_ONCE):
        payments = [a_payment(like, customers, n) for n in range(first, min(first + AT_ONCE, number))]
        answer = sides.ask(
            "payments", "POST", f"/ic/{BILLER}/payments/batch", BILLER, json={"payments": payments}
        )
        assert answer.status_code == 200, answer.text


def a_payment(like: dict[str, str], customers: list[Customer], number: int) -> dict[str, str]:
    """Another one, of the customer whose turn it is."""
    account = customers[number % len(customers)].account
    amount = f"{10 + number % 977}.{number % 100:02d}"
    return like | {"PaymentGUID": str(uuid4()), "AccountNumber": account, "PaymentAmount": amount}


@contextmanager
def live_traffic(sides: BothSides, customers: list[Customer]) -> Iterator[set[str]]:
    """A payment every 50 ms until it ends; those that were accepted, by id."""
    accepted: set[str] = set()
    over = threading.Event()

    def go_on() -> None:
        number, like = 0, sides.payment(BILLER)
        while not over.wait(0.05):
            told = a_payment(like, customers, number)
            number += 1
            with suppress(httpx.HTTPError):  # while the service is down: it is paid again another time
                if sides.pay(told, BILLER).status_code == 200:
                    accepted.add(told["PaymentGUID"])

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield accepted
    finally:
        over.set()
        thread.join()


def at_imt(sides: BothSides) -> dict[str, tuple[str, Decimal]]:
    """Account and amount of each payment that IMT has, by its id."""
    told = sides.control("GET", "/ledger/payments", params={"biller": BILLER, "limit": "100000"})
    return {row["natural_id"]: (row["account"], Decimal(row["amount"])) for row in told["rows"]}


def of_day(sides: BothSides, day: dict[str, tuple[str, Decimal]]) -> dict[str, tuple[str, Decimal]]:
    return {guid: there for guid, there in at_imt(sides).items() if guid in day}


def overview(sides: BothSides) -> dict[str, Any]:
    found: dict[str, Any] = sides.control("GET", "/ledger", params={"biller": BILLER})["payments"]
    return found
