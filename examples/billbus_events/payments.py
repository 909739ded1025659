"""Prints what the customers of each insurer have paid since a day: python payments.py 2026-11-20"""

import asyncio
import os
import sys
from collections import defaultdict
from contextlib import suppress
from datetime import date
from decimal import Decimal

from billbus.events import PaymentReceived
from billbus.events.reader import read

KAFKA = os.environ.get("KAFKA", "127.0.0.1:19092")
REGISTRY = os.environ.get("REGISTRY", "http://127.0.0.1:18081/apis/ccompat/v7")
GROUP = os.environ.get("GROUP", "another-team-typed")


async def main(since: date) -> None:
    paid: defaultdict[str, Decimal] = defaultdict(Decimal)
    async for received in read(PaymentReceived, kafka=KAFKA, registry=REGISTRY, group=GROUP, since=since):
        payment = received.event
        if payment.approved:
            paid[payment.biller] += payment.amount
            print(payment.biller, payment.amount, payment.tender, "so far", paid[payment.biller], flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(date.fromisoformat(sys.argv[1])))
