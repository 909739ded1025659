"""What IC does on the day: who pays how and how much, who changes what, who asks, who opens a bill.

A plan is drawn from the bills by a seeded random number generator; the same seed plans the same day. How
many of each is the day's script and stands in the constants below.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from uuid import UUID

from deploy.local.day.bills import BifFile, Bill, lonely
from deploy.local.day.changes import plan_changes
from deploy.local.day.contract import Contract
from deploy.local.day.facts import ZERO, Effect, Paid, Said

PORTAL, BATCH, AGENT, IVR, BANK, FIXED, IN_FULL, AUTOPAY = 150, 150, 60, 60, 80, 30, 30, 40  # 600 in all
LATE_FORMS, LATE_BATCH = 40, 20
"""Of the portal's and the batch's payments: told only after the cut-off."""
DECLINED, NOTHING_DUE, ODD_BANK_RECORDS = 3, 3, 2
REPEATS_AT_ONCE, REPEATS_LATER = 10, 30
RTDR, RTDR_BURST, OPENED = 180, 20, 100
AGENTS = ("A-17", "A-23", "A-42", "A-58", "A-61", "A-77")
CARDS = ("Visa", "MasterCard", "Discover")
FEES = {"1": Decimal("2.95"), "4": Decimal("1.50")}
"""Convenience fee in USD by PaymentTypeID."""
UNSUPPORTED = (
    ("CheckFreeFiservCash", "check_free_fiserv_cash"),
    ("CloudPay", "cloud_pay"),
    ("CloudStore", "cloud_store"),
    ("CSRConnect", "csr_connect"),
    ("EMV", "emv"),
    ("Kiosk", "kiosk"),
    ("OutboundIVR", "outbound_ivr"),
    ("POSConnect", "pos_connect"),
)
ASKED_FOR = ("ach_rejects", "void", "void_by_guid", "change")
CHANGES_REFUSED = {"acme": "SSO", "birch": "MultiUserLogIn", "cedar": "CoOwnerRegistration"}


@dataclass
class Plan:
    """The day, in the order of its hours; every list is of things to say."""

    forms: list[Said] = field(default_factory=list)
    batch: list[Said] = field(default_factory=list)
    ivr: list[Said] = field(default_factory=list)
    bank: list[Said] = field(default_factory=list)
    late_forms: list[Said] = field(default_factory=list)
    late_batch: list[Said] = field(default_factory=list)
    at_once: list[Said] = field(default_factory=list)
    unsupported: list[Said] = field(default_factory=list)
    changes: list[Said] = field(default_factory=list)
    late_changes: list[Said] = field(default_factory=list)
    rtdr: list[Said] = field(default_factory=list)
    links: list[Said] = field(default_factory=list)
    refusals: list[Said] = field(default_factory=list)

    @property
    def payments(self) -> list[Said]:
        """All 600, early and late."""
        early = [*self.at_once, *self.forms, *self.batch, *self.ivr, *self.bank]
        return [*early, *self.late_forms, *self.late_batch]


def plan_day(files: list[BifFile], contract: Contract, seed: int) -> Plan:
    """The plan of one day; the same seed and files give the same one."""
    random = Random(seed)  # noqa: S311 - plays customers
    payers = Payers(lonely(files), contract, random)
    plan = Plan()
    portal = [payers.form(payers.next_bill(), "portal") for _ in range(PORTAL - DECLINED)]
    portal += [payers.form(payers.next_bill(), "portal", approved=False) for _ in range(DECLINED)]
    batch = [payers.form(payers.next_bill(), "batch") for _ in range(BATCH)]
    plan.late_forms, plan.late_batch = portal[:LATE_FORMS], batch[:LATE_BATCH]
    plan.at_once = portal[LATE_FORMS : LATE_FORMS + REPEATS_AT_ONCE]
    again = random.sample(payers.billed, AGENT)  # a second payment for the same account keeps its order
    plan.forms = [
        *portal[LATE_FORMS + REPEATS_AT_ONCE :],
        *(payers.form(bill, "agent", agent=random.choice(AGENTS)) for bill in again),
        *(payers.form(payers.next_bill(), "fixed", schedule="Fixed") for _ in range(FIXED)),
        *(
            payers.form(payers.next_bill(), "in_full", schedule="PayInFull")
            for _ in range(IN_FULL - NOTHING_DUE)
        ),
        *(payers.nothing_due(bill) for bill in random.sample(payers.in_credit, NOTHING_DUE)),
        *(payers.form(payers.next_bill(), "autopay") for _ in range(AUTOPAY)),
    ]
    random.shuffle(plan.forms)
    plan.batch = batch[LATE_BATCH:]
    plan.ivr = [payers.by_account(payers.next_bill(), "ivr") for _ in range(IVR)]
    plan.bank = [payers.by_account(payers.next_bill(), "bank") for _ in range(BANK - ODD_BANK_RECORDS)]
    plan.bank += payers.odd_bank_records(files)
    plan.unsupported = [payers.unsupported(payers.next_bill(), *each) for each in UNSUPPORTED]
    good = [bill for file in files for bill in file.good]
    plan.changes, plan.late_changes = plan_changes(lonely(files), contract, random)
    clear = lonely(files)  # a number that could mean two accounts gets no balance, and rightly so
    burst = [random.choice(clear)] * RTDR_BURST
    plan.rtdr = [_enquiry(n, bill) for n, bill in enumerate([*random.sample(clear, RTDR), *burst])]
    uploaded = [bill for bill in good if not bill.superseded]
    plan.links = [_opening(bill) for bill in random.sample(uploaded, OPENED)]
    plan.refusals = list(_refusals(files, contract))
    return plan


def repeat(said: Said) -> Said:
    """The same thing said once more; it must be answered alike and change nothing."""
    return Said("repeats", said.biller, said.id, "answer", amount=said.amount, wire=said.wire)


def typed(account: str, random: Random) -> str:
    """An account number as a person types it, or a bank has it."""
    if account.isdigit():
        bare = random.choice((account, account.lstrip("0")))
        return random.choice((bare, f"{bare[:3]} {bare[3:]}", f"{bare[:-4]}-{bare[-4:]}", f" {bare} "))
    return random.choice((account, account.lower(), account.replace("-", " "), account.replace("-", "")))


class Payers:
    """Draws payments from the bills, each bill for one payment unless it is named again."""

    def __init__(self, bills: list[Bill], contract: Contract, random: Random) -> None:
        self._random = random
        self._names = contract.payment
        self._bank = contract.bank
        self._tenders: dict[str, str] = contract.cloud["payment_types"]
        self._products = contract.products
        self._words: dict[bool, str] = contract.cloud["payment_form"]["words"]
        self._row_names = contract.row_names
        self.in_credit = [bill for bill in bills if bill.balance_due == 0]
        self._owing = [bill for bill in bills if bill.balance_due > 0]
        random.shuffle(self._owing)
        self.billed: list[Bill] = []

    def next_bill(self) -> Bill:
        self.billed.append(self._owing.pop())
        return self.billed[-1]

    def form(
        self,
        bill: Bill,
        channel: str,
        *,
        approved: bool = True,
        agent: str | None = None,
        schedule: str | None = None,
    ) -> Said:
        """A payment by invoice number, as IC's form tells it."""
        amount = bill.balance_due if channel in ("in_full", "autopay") else self._amount(bill)
        word = {"agent": "AgentConnect", "fixed": "Scheduled", "in_full": "Scheduled", "autopay": "AutoPay"}
        told: dict[str, str | None] = {
            "invoice_number": bill.invoice_number,
            "payer_name": bill.customer_name,
            "product": word.get(channel),
            "agent": agent,
            "schedule_id": f"S-{self._random.randrange(10**6):06d}" if schedule else None,
            "schedule_kind": schedule,
        }
        return self._payment(bill, channel, amount, told, approved=approved)

    def nothing_due(self, bill: Bill) -> Said:
        """A pay-in-full schedule that meets a credit: nothing is paid and nothing is posted."""
        told: dict[str, str | None] = {
            "invoice_number": bill.invoice_number,
            "product": "Scheduled",
            "schedule_id": f"S-{self._random.randrange(10**6):06d}",
            "schedule_kind": "PayInFull",
        }
        said = self._payment(bill, "in_full", ZERO, told, tender="2")
        said.expects, said.name, said.effects = "nothing", "nothing_due", ()
        return said

    def by_account(self, bill: Bill, channel: str) -> Said:
        """A payment by account number as it was typed: over the phone, or by a bank."""
        told: dict[str, str | None] = {"account_as_sent": typed(bill.account, self._random)}
        if channel == "ivr":
            told["product"] = "IVR"
            return self._payment(bill, channel, self._amount(bill), told)
        return self._bank_record(bill, str(told["account_as_sent"]))

    def odd_bank_records(self, files: list[BifFile]) -> list[Said]:
        """One record for an account that nobody knows, one that could mean two accounts."""
        acme, birch = files[0].good[5], next(bill for bill in files[1].good if bill.account.startswith("00"))
        odd = []
        for bill, number, reason in (
            (acme, "9999999999", "account_unknown"),
            (birch, birch.account.lstrip("0"), "account_ambiguous"),
        ):
            said = self._bank_record(bill, number)
            said.expects, said.name, said.effects = "parked", reason, ()
            odd.append(said)
        return odd

    def unsupported(self, bill: Bill, product: str, row: str) -> Said:
        """An approved payment of a product that is not supported: taken, and parked by its name."""
        told: dict[str, str | None] = {"invoice_number": bill.invoice_number, "product": product}
        said = self._payment(bill, product, self._amount(bill), told)
        said.flow, said.expects, said.effects = "unsupported", "parked", ()
        said.name = f"unsupported: {self._row_names[row]}"
        return said

    def _payment(
        self,
        bill: Bill,
        channel: str,
        amount: Decimal,
        told: dict[str, str | None],
        *,
        tender: str = "",
        approved: bool = True,
    ) -> Said:
        kind = tender or self._random.choice(sorted(self._tenders))
        fee = FEES.get(kind, ZERO)
        guid = self._guid()
        told |= {
            "payment_guid": guid,
            "amount": str(amount),
            "payment_type": kind,
            "card_type": self._random.choice(CARDS) if kind == "1" else None,
            "convenience_fee": str(fee),
            "approved": self._words[approved],
        }
        product = self._products[told.get("product") or "Portal"]
        return Said(
            "payments",
            bill.biller,
            guid,
            "effect" if approved else "nothing",
            name="" if approved else "not_approved",
            amount=amount,
            effects=(Effect(guid, bill.account, amount),) if approved else (),
            paid=Paid(amount, fee, self._tenders[kind], product, channel, told.get("agent"), approved),
            wire={self._names[name]: value for name, value in told.items() if value is not None},
        )

    def _bank_record(self, bill: Bill, number: str) -> Said:
        amount, guid = self._amount(bill), self._guid()
        told = {
            "payment_guid": guid,
            "account_as_sent": number,
            "amount": str(amount),
            "trace_number": f"MADE-UP-{guid[:8]}",
        }
        return Said(
            "payments",
            bill.biller,
            guid,
            "effect",
            amount=amount,
            effects=(Effect(guid, bill.account, amount),),
            paid=Paid(amount, ZERO, "eft", "online_bank_direct", "bank"),
            wire={self._bank[name]: value for name, value in told.items()},
        )

    def _amount(self, bill: Bill) -> Decimal:
        """Mostly what is due; now and then less or more, which is an ordinary payment as well."""
        part = self._random.choice(("1", "1", "1", "1", "0.5", "1.1"))
        return max(Decimal("0.01"), (bill.balance_due * Decimal(part)).quantize(Decimal("0.01")))

    def _guid(self) -> str:
        return str(UUID(int=self._random.getrandbits(128), version=4))


def _enquiry(number: int, bill: Bill) -> Said:
    return Said("rtdr", bill.biller, f"{number}:{bill.account}", "answer", wire={"account": bill.account})


def _opening(bill: Bill) -> Said:
    effect = Effect(bill.bill_id, bill.account)
    return Said(
        "links",
        bill.biller,
        bill.bill_id,
        "effect",
        effects=(effect,),
        wire={"invoice_number": bill.invoice_number},
    )


def _refusals(files: list[BifFile], contract: Contract) -> Iterator[Said]:
    """Twelve requests that are refused by name, four at each biller."""
    not_supported: dict[str, str] = contract.changes["not_supported"]
    for file in files:
        for what in ASKED_FOR:
            word = CHANGES_REFUSED[file.biller]
            row = {"void_by_guid": "void", "change": not_supported[word]}.get(what, what)
            yield Said(
                "refusals",
                file.biller,
                f"{what} {row}",
                "refused",
                name=contract.row_names[row],
                wire={"what": what, "type": word, "account": file.good[0].account},
            )
