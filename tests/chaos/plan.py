"""What is sent in a storm, drawn from its seed: payments of 2,000 accounts of three billers, and settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from uuid import UUID

from deploy.local.day.contract import Contract
from tests.chaos.client import How, Request
from tests.chaos.facts import CONFLICT, Change, Payment

ACCOUNTS = {"acme": 1000, "birch": 600, "cedar": 400}
NUMBERS = {"acme": "1{:09d}", "birch": "2{:07d}", "cedar": "CD-{:05d}"}
SIZES, WEIGHTS = (1, 5, 20, 50, 100, 500), (60, 15, 15, 6, 3, 1)
"""How many payments go out together, and how often; one goes as a form."""
PLANTED_EVERY = 400
"""One payment in so many is one that must be parked."""
UNSUPPORTED, UNKNOWN = "Kiosk", "account_unknown"
BUSY_ACCOUNTS, BUSY_SHARE = 10, 0.2
"""So many accounts of each biller have this share of all its payments: theirs wait for one another."""
CHANGES_OF_ONE = 4
CONFLICT_AFTER_S = 8.0


@dataclass
class Plan:
    """Everything that is sent, by the second of the storm in which it goes out."""

    requests: list[Request] = field(default_factory=list)
    payments: list[Payment] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)


def accounts() -> dict[str, list[str]]:
    """The account numbers of each biller."""
    return {
        biller: [NUMBERS[biller].format(n) for n in range(1, many + 1)] for biller, many in ACCOUNTS.items()
    }


def draw_plan(seed: int, events: int, length_s: float, contract: Contract, now: datetime) -> Plan:
    """The same seed draws the same plan, but for the instants `now` stands for."""
    return _Drawing(Random(f"plan {seed}"), contract, now).draw(events, length_s)


class _Drawing:
    def __init__(self, random: Random, contract: Contract, now: datetime) -> None:
        self._random = random
        self._names = contract.payment
        self._change_names = contract.change
        self._now = now
        self._accounts = accounts()
        self._billers = list(ACCOUNTS)
        self._drawn = 0

    def draw(self, events: int, length_s: float) -> Plan:
        plan = Plan()
        while len(plan.payments) < events:
            (biller,) = self._random.choices(self._billers, [ACCOUNTS[slug] for slug in self._billers])
            size = min(self._random.choices(SIZES, WEIGHTS)[0], events - len(plan.payments))
            said = [self._payment(biller) for _ in range(size)]
            at_s = length_s * len(plan.payments) / events
            how: How = "form" if size == 1 else "batch"
            plan.requests.append(Request(at_s, biller, how, said))
            plan.payments += said
            plan.requests += self._conflicts(plan, said, at_s, length_s)
        self._settings(plan, length_s)
        plan.requests.sort(key=lambda request: request.at_s)
        return plan

    def _payment(self, biller: str) -> Payment:
        self._drawn += 1
        guid = str(UUID(int=self._random.getrandbits(128), version=4))
        busy = self._random.random() < BUSY_SHARE
        account = self._random.choice(self._accounts[biller][: BUSY_ACCOUNTS if busy else None])
        amount = Decimal(self._random.randrange(1, 50_000)) / 100
        planted = ""
        if self._drawn % PLANTED_EVERY == 0:
            planted = self._random.choice((UNSUPPORTED, UNKNOWN))
        told = {
            "payment_guid": guid,
            "paid_at": self._now.isoformat(timespec="milliseconds"),
            "account_as_sent": NUMBERS[biller].format(99_000 + self._drawn % 999)
            if planted == UNKNOWN
            else account,
            "amount": str(amount),
            "payment_type": self._random.choice("1234"),
            "approved": "True",
        }
        if planted == UNSUPPORTED:
            told["product"] = UNSUPPORTED
        return Payment(
            biller, guid, account, amount, planted, {self._names[name]: value for name, value in told.items()}
        )

    def _conflicts(self, plan: Plan, said: list[Payment], at_s: float, length_s: float) -> Iterator[Request]:
        """Another payment under a GUID that is taken, once the first is surely there."""
        first = said[0]
        if first.planted or self._drawn % PLANTED_EVERY > len(said) or at_s + CONFLICT_AFTER_S > length_s:
            return
        other = Payment(first.biller, first.guid, first.account, first.amount + 1, CONFLICT)
        other.wire = first.wire | {self._names["amount"]: str(other.amount)}
        plan.payments.append(other)
        yield Request(at_s + CONFLICT_AFTER_S, first.biller, "form", [other], after=first)

    def _settings(self, plan: Plan, length_s: float) -> None:
        """For some accounts autopay goes on and off; the changes come in any order, each a minute apart."""
        for biller in self._billers:
            for account in self._random.sample(
                self._accounts[biller], max(len(self._accounts[biller]) // 20, 1)
            ):
                changes = [self._change(biller, account, turn) for turn in range(CHANGES_OF_ONE)]
                plan.changes += changes
                for change in self._random.sample(changes, len(changes)):
                    at_s = self._random.uniform(0, length_s)
                    plan.requests.append(Request(at_s, biller, "changes", [change]))

    def _change(self, biller: str, account: str, turn: int) -> Change:
        change_id = f"CH-{self._random.getrandbits(48):012x}"
        at = (self._now - timedelta(minutes=60 - turn)).replace(microsecond=0)
        names = self._change_names
        wire = {
            names["id"]: change_id,
            names["type"]: "AutoPay",
            names["changed_at"]: at.isoformat(),
            names["account"]: account,
            "AutoPay": str(turn % 2 == 0),
        }
        return Change(biller, change_id, account, "AutoPay", at.timestamp(), wire)


def utc_now() -> datetime:
    return datetime.now(UTC)
