"""The day's 150 changes of settings, late ones among them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from random import Random

from deploy.local.day.bills import Bill
from deploy.local.day.contract import Contract
from deploy.local.day.facts import Effect, Said

AUTOPAY, AUTOPAY_BY_POLICY, PAPER, LINKS, UNLINKS = 50, 20, 45, 15, 10
LATE_OLD, LATE_PAPER = 5, 5
"""Told late: autopay older than what is applied, and paperless older than an autopay change."""
LATE_BY = timedelta(hours=1)


def plan_changes(
    bills: list[Bill], contract: Contract, random: Random, now: datetime | None = None
) -> tuple[list[Said], list[Said]]:
    """The changes as they come, and the ones that come late: only once those before them are accepted."""
    who = iter(random.sample(bills, AUTOPAY + AUTOPAY_BY_POLICY + PAPER + LINKS + UNLINKS))
    desk = _Desk(contract, random, now or datetime.now(UTC))
    autopay = [next(who) for _ in range(AUTOPAY)]
    changes = [desk.autopay(bill, random.random() < 0.6) for bill in autopay]
    changes += [
        desk.autopay(next(who), random.random() < 0.6, by_policy=True) for _ in range(AUTOPAY_BY_POLICY)
    ]
    changes += [desk.paper(next(who), random.random() < 0.4) for _ in range(PAPER)]
    changes += [desk.link(next(who)) for _ in range(LINKS)]
    changes += [desk.unlink(next(who)) for _ in range(UNLINKS)]
    late = [desk.autopay(bill, random.random() < 0.5, late=True) for bill in autopay[:LATE_OLD]]
    late += [desk.paper(bill, False, late=True) for bill in autopay[LATE_OLD : LATE_OLD + LATE_PAPER]]
    random.shuffle(changes)
    return changes, late


class _Desk:
    """Writes changes as IC's change log does, each at its own instant."""

    def __init__(self, contract: Contract, random: Random, now: datetime) -> None:
        self._names = contract.change
        self._contract = contract
        self._indicators = contract.imt["services"]["settings"]["indicators"]
        self._random = random
        self._at = (now - timedelta(minutes=20)).replace(microsecond=0)

    def autopay(self, bill: Bill, on: bool, *, by_policy: bool = False, late: bool = False) -> Said:
        number = bill.policies[0] if by_policy else bill.account
        said = self._change(
            bill, "AutoPay", {"AutoPay": str(on)}, late=late, policy=number if by_policy else ""
        )
        if late:
            said.expects = "superseded"
            return said
        return self._with_effect(said, "", number, "autopay", on)

    def paper(self, bill: Bill, on: bool, *, late: bool = False) -> Said:
        """IC says whether paper goes out; IMT gets whether it does not."""
        said = self._change(bill, "PaperInvoices", {"PaperInvoices": str(on)}, late=late)
        return self._with_effect(said, "", bill.account, "paperless", not on)

    def link(self, bill: Bill) -> Said:
        """Stays with IC and on the bus; IMT is told nothing of it."""
        return self._change(bill, "AccountLink", {})

    def unlink(self, bill: Bill) -> Said:
        """Removes autopay from all of the account's numbers as well: each a change of its own."""
        said = self._change(bill, "AccountUnlink", {})
        suffixes = {bill.account: ".autopay"} | {
            policy: f".autopay.{sha256(policy.encode()).hexdigest()[:8]}" for policy in bill.policies
        }
        return self._with_effects(said, suffixes, "autopay", False)

    def _change(
        self, bill: Bill, kind: str, values: dict[str, str], *, late: bool = False, policy: str = ""
    ) -> Said:
        self._at += timedelta(seconds=1)
        at = self._at - LATE_BY if late else self._at
        change_id = f"CH-{self._random.getrandbits(48):012x}"
        names = self._names
        wire = {names["id"]: change_id, names["type"]: kind, names["changed_at"]: at.isoformat(), **values}
        wire |= {names["policy"]: policy} if policy else {names["account"]: bill.account}
        return Said("settings", bill.biller, change_id, "nothing", wire=wire)

    def _with_effect(self, said: Said, suffix: str, number: str, indicator: str, value: bool) -> Said:
        return self._with_effects(said, {number: suffix}, indicator, value)

    def _with_effects(self, said: Said, suffixes: dict[str, str], indicator: str, value: bool) -> Said:
        at = datetime.fromisoformat(said.wire[self._names["changed_at"]])
        word, name = self._contract.word(value), self._indicators[indicator]
        said.expects = "effect"
        said.effects = tuple(
            Effect(said.id + suffix, number, None, word, name, at) for number, suffix in suffixes.items()
        )
        return said
