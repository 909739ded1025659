"""What a test does as InvoiceCloud, as IMT and as a customer, and where it sees what came of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from itertools import count
from typing import Any
from uuid import uuid4

import httpx
import yaml
from prometheus_client.parser import text_string_to_metric_families

from deploy.local.processes import Processes
from tests import bif_sample
from tests.deadline import until
from tests.e2e.topic_reader import Read, TopicReader
from tests.stacks import Addresses

LIMIT_S = 40
KNOW_ACCOUNTS = ("payments", "balances", "settings")  # each has a view of its own
_number = count(int(time.time()) % 1_000_000 * 1000)


@dataclass(frozen=True)
class Customer:
    """An account that IMT, IC and the bus know by an invoice, and its ways of being named."""

    biller: str
    account: str
    invoice: str
    policies: tuple[str, ...]
    bill_id: str


@dataclass
class BothSides:
    """The running services with a partner on each side."""

    processes: Processes
    stack: Addresses
    http: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=30, trust_env=False))
    _readers: dict[str, TopicReader] = field(default_factory=dict)

    def close(self) -> None:
        self.http.close()
        for reader in self._readers.values():
            reader.close()

    def ask(self, service: str, method: str, path: str, biller: str = "acme", **given: Any) -> httpx.Response:
        """A request to one of our services with the biller's own bearer token."""
        headers = {"Authorization": f"Bearer {self.processes.secret(f'{biller}-intake-bearer')}"}
        headers |= given.pop("headers", {})
        return self.http.request(method, f"{self.processes.url(service)}{path}", headers=headers, **given)

    # as IMT

    def new_row(self, biller: str = "acme", **changes: str) -> dict[str, str]:
        """A good row of an account and an invoice that nobody had before."""
        number = next(_number)
        account = f"CM-{number % 10**8}" if biller == "cedar" else f"{number:010d}"
        today = date.today()
        days = {
            "InvoiceDate": (today - timedelta(days=2)).isoformat(),
            "InvoiceDueDate": (today + timedelta(days=30)).isoformat(),
        }
        row = bif_sample.row(number, account, **(days | changes))
        if changes.keys() & {"PastDueAmount", "CurrentCharges"}:
            due = f"{Decimal(row['PastDueAmount']) + Decimal(row['CurrentCharges']):.2f}"
            row |= {"BalanceDue": due, "MinimumAmountDue": due} | changes
        return row

    def deliver(self, *rows: dict[str, str], biller: str = "acme") -> httpx.Response:
        """A BIF file of these rows, uploaded as IMT does."""
        told = yaml.safe_load((self.processes.billers / f"{biller}.yaml").read_text())
        body = bif_sample.content(rows, told["invoice_cloud"]["biller_code"])
        return self.ask("invoices", "POST", f"/imt/{biller}/bif", biller, content=body)

    def seed(self, account: str, biller: str = "acme", **given: Any) -> None:
        """What IMT has of an account: amounts, policies, bills."""
        told = {"biller": biller, "accounts": [{"account": account, **given}]}
        self.control("POST", "/accounts", json=told)

    def customer(self, biller: str = "acme", **changes: str) -> Customer:
        """A new account with one invoice, at IMT, at IC and in every service that resolves accounts."""
        return self.customers(1, biller, **changes)[0]

    def customers(self, number: int, biller: str = "acme", **changes: str) -> list[Customer]:
        """As many new accounts, in one file."""
        rows = [self.new_row(biller, **changes) for _ in range(number)]
        made = [
            Customer(
                biller,
                row["AccountNumber"],
                row["InvoiceNumber"],
                tuple(row["PolicyNumbers"].split(";")),
                row["BillID"],
            )
            for row in rows
        ]
        for row, one in zip(rows, made, strict=True):
            amounts = {"past_due": row["PastDueAmount"], "current_charges": row["CurrentCharges"]}
            self.seed(one.account, biller, policies=one.policies, bills=[one.bill_id], **amounts)
        answer = self.deliver(*rows, biller=biller)
        assert (answer.status_code, answer.json()["refusals"]) == (200, []), answer.text
        for one in made:
            self.known(one.account, biller)
        return made

    def known(self, account: str, biller: str = "acme") -> None:
        """Waits until the account is on its topic and read by each service that resolves accounts."""
        until(lambda: self.events("account.current", biller=biller, account=account), LIMIT_S, "the account")
        told = len(self.reader("account.current").all())
        topic = self.reader("account.current").topic
        for service in KNOW_ACCOUNTS:
            until(
                lambda name=service: self.metric(name, "billbus_view_records_total", view=topic) >= told,  # type: ignore[misc]  # bound now
                LIMIT_S,
                f"{service} knowing the account",
            )

    # as InvoiceCloud

    def payment(self, biller: str = "acme", /, **fields: str | None) -> dict[str, str]:
        """The wire fields of a new payment; `fields` replace them, None leaves one out."""
        told = yaml.safe_load((self.processes.billers / f"{biller}.yaml").read_text())
        made = {
            "BillerGUID": told["invoice_cloud"]["biller_guid"],
            "PaymentGUID": str(uuid4()),
            "PaymentDate": date.today().isoformat(),
            "Approved": "True",
            "PaymentAmount": "25.00",
            "PaymentTypeID": "1",
            "CustomerName": "Ada Aldertree",
            "RemoteIP": "192.0.2.7",
        }
        return {name: value for name, value in (made | fields).items() if value is not None}

    def pay(self, told: Mapping[str, str], biller: str = "acme", **given: Any) -> httpx.Response:
        """The form that IC posts for one payment."""
        return self.ask("payments", "POST", f"/ic/{biller}/payments", biller, data=dict(told), **given)

    def change(self, *changes: dict[str, Any], biller: str = "acme") -> httpx.Response:
        """IC's change log."""
        return self.ask("settings", "POST", f"/ic/{biller}/changes", biller, json={"changes": list(changes)})

    # what came of it

    def control(self, method: str, path: str, **given: Any) -> Any:
        """The sandbox's control API."""
        answer = self.http.request(method, f"{self.processes.url('sandbox')}/control{path}", **given)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def fault(self, service: str, kind: str, **more: Any) -> int:
        """Makes a partner fail; returns the fault's id."""
        return int(self.control("PUT", "/faults", json={"service": service, "kind": kind, **more})["id"])

    def hits(self, fault: int) -> int:
        """How many calls a fault has seen."""
        told = self.control("GET", "/faults")["on"]
        return next(int(one["matched"]) for one in told if one["id"] == fault)

    def ledger(self, kind: str, biller: str = "acme", **query: str) -> list[dict[str, Any]]:
        """The partner's rows, oldest first: wire fields as they were sent."""
        told = self.control("GET", f"/ledger/{kind}", params={"biller": biller, **query})
        return [row["fields"] for row in told["rows"]]

    def paid(self, told: Mapping[str, str], biller: str = "acme") -> list[dict[str, Any]]:
        """IMT's rows of a payment."""
        return self.ledger("payments", biller, natural_id=told["PaymentGUID"])

    def reader(self, name: str) -> TopicReader:
        if name not in self._readers:
            self._readers[name] = TopicReader(self.stack.bootstrap, self.stack.registry, name)
        return self._readers[name]

    def records(self, name: str, **fields: Any) -> list[Read]:
        """The records of a topic whose values have these fields."""
        return [
            read
            for read in self.reader(name).all()
            if all(read.value[wanted] == value for wanted, value in fields.items())
        ]

    def events(self, name: str, **fields: Any) -> list[dict[str, Any]]:
        """The values of a topic that have these fields, oldest first within an account."""
        return [read.value for read in self.records(name, **fields)]

    def one(self, name: str, **fields: Any) -> dict[str, Any]:
        """Waits for an event with these fields; fails where there is more than one."""
        until(lambda: self.events(name, **fields), LIMIT_S, f"{name} with {fields}")
        (event,) = self.events(name, **fields)
        return event

    def settled(self, told: Mapping[str, str], biller: str = "acme") -> dict[str, Any]:
        """Waits for the outcome of a payment."""
        return self.one("payment.outcome", biller=biller, natural_id=told["PaymentGUID"])

    def metric(self, service: str, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have these labels."""
        text = self.http.get(f"{self.processes.url(service)}/metrics").text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )
