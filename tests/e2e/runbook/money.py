"""Payments that a person has to look at: parked, doubled, missing; and days that do not add up."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

from tests.e2e.both_sides import Customer
from tests.e2e.runbook.situation import Situation


class WithPayments(Situation):
    """Pays as InvoiceCloud does, for one customer of the biller."""

    customer: Customer

    def paid(self, number: int = 1, **fields: str) -> list[dict[str, str]]:
        """So many payments of the customer, told and settled."""
        several = [self.sides.payment(self.biller, **self._whose(fields)) for _ in range(number)]
        for told in several:
            assert self.sides.pay(told, self.biller).status_code == 200
        for told in several:
            self.sides.settled(told, self.biller)
        return several

    def _whose(self, fields: dict[str, str]) -> dict[str, str]:
        return {"InvoiceNumber": self.customer.invoice} | fields

    def at_imt(self, method: str, told: dict[str, str], way: str = "", after: int = 0, **given: Any) -> None:
        """Does something to IMT's rows of a payment, those `after` a sequence number, behind our back."""
        where = {"biller": self.biller, "natural_id": told["PaymentGUID"], "after": after}
        self.sides.control(method, f"/ledger/payments{way}", params=where, **given)


class UnsupportedParked(WithPayments):
    """InvoiceCloud collected a payment at a kiosk, which is not supported."""

    page, biller = "unsupported-payment-parked", "elder"

    def plant(self) -> dict[str, str]:
        self.customer = self.sides.customer(self.biller)
        (told,) = self.paid(Product="Kiosk", PaymentAmount="40.00")
        return {"BILLER": self.biller, "PAYMENT": told["PaymentGUID"]}


class Parked(WithPayments):
    """A payment came before the invoice that it is for."""

    page, biller = "something-is-parked", "gorse"

    def plant(self) -> dict[str, str]:
        self.row = self.sides.new_row(self.biller)
        told = self.sides.payment(self.biller, InvoiceNumber=self.row["InvoiceNumber"], PaymentAmount="31.00")
        assert self.sides.pay(told, self.biller).status_code == 200
        self.sides.settled(told, self.biller)
        return {"BILLER": self.biller, "PAYMENT": told["PaymentGUID"]}

    def the_invoice_comes(self) -> None:
        self.sides.seed(self.row["AccountNumber"], self.biller)
        assert self.sides.deliver(self.row, biller=self.biller).status_code == 200
        self.sides.known(self.row["AccountNumber"], self.biller)


class DoubleSuspected(WithPayments):
    """A person at IMT keyed in a payment by hand that had come through the bus."""

    page, biller = "double-suspected", "hazel"

    def plant(self) -> dict[str, str]:
        self.customer = self.sides.customer(self.biller)
        self.told, *_ = self.paid(3)
        asked = {"biller": self.biller, "natural_id": self.told["PaymentGUID"]}
        [row] = self.sides.control("GET", "/ledger/payments", params=asked)["rows"]
        self.first = row["seq"]
        self.at_imt("POST", self.told, "/repeat")
        return {"BILLER": self.biller, "PAYMENT": self.told["PaymentGUID"], "DAY": self.day}

    def imt_takes_one_back(self) -> None:
        self.at_imt("DELETE", self.told, after=self.first)


class BatchDoesNotMatch(WithPayments):
    """IMT has one payment of the day with another amount, and another in yesterday's batch."""

    page, biller = "batch-does-not-match", "juniper"

    def plant(self) -> dict[str, str]:
        self.customer = self.sides.customer(self.biller)
        self.changed, self.moved, *_ = self.paid(6)
        self._at_imt("52.00", (date.fromisoformat(self.day) - timedelta(days=1)).isoformat())
        return {"BILLER": self.biller, "DAY": self.day}

    def imt_mends_both(self) -> None:
        self._at_imt("25.00", self.day)

    def _at_imt(self, amount: str, batch: str) -> None:
        self.at_imt("PATCH", self.changed, json={"fields": {"PaymentAmount": amount}, "amount": amount})
        self.at_imt("PATCH", self.moved, json={"fields": {"BatchDate": batch}})


class RestoredBackup(WithPayments):
    """IMT lost what it took since noon."""

    page, biller = "partner-restored-a-backup", "larch"

    def plant(self) -> dict[str, str]:
        self.customer = self.sides.customer(self.biller)
        for told in self.paid(8)[3:]:
            self.at_imt("DELETE", told)
        return {"BILLER": self.biller, "DAY": self.day}


class PaymentMissing(WithPayments):
    """A customer has paid, and InvoiceCloud has not told us yet."""

    page, biller = "payment-missing", "pine"

    def plant(self) -> dict[str, str]:
        self.customer = self.sides.customer(self.biller)
        self.told = self.sides.payment(self.biller, InvoiceNumber=self.customer.invoice)
        return {"BILLER": self.biller, "PAYMENT": self.told["PaymentGUID"]}

    def invoicecloud_sends_it(self) -> None:
        assert self.sides.pay(self.told, self.biller).status_code == 200
        self.sides.settled(self.told, self.biller)


class Voided(WithPayments):
    """InvoiceCloud voided a payment that is posted; the void itself it could not tell us."""

    page, biller = "void-reject-refund", "rowan"

    def plant(self) -> dict[str, str]:
        self.customer = self.sides.customer(self.biller)
        (told,) = self.paid(1)
        void = f"/ic/{self.biller}/payments/{told['PaymentGUID']}/void"
        assert self.sides.ask("payments", "POST", void, self.biller).status_code == 422
        return {"BILLER": self.biller, "PAYMENT": told["PaymentGUID"], "DAY": self.day}


class ReplayedDay(WithPayments):
    """A day of which nothing is open, and one payment that is parked."""

    page, biller = "replay-a-day", "sorrel"

    def plant(self) -> dict[str, str]:
        self.customer = self.sides.customer(self.biller)
        self.paid(5)
        self.paid(1, Product="Kiosk")
        return {"BILLER": self.biller, "DAY": self.day}
