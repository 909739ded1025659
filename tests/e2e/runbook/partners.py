"""Partners that are away, slow, or have forgotten what they were told."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from tests.deadline import until
from tests.e2e.both_sides import LIMIT_S
from tests.e2e.runbook.situation import Situation

SLOW_S = 3.0


class PartnerDown(Situation):
    """IMT answers with a maintenance page, to this biller alone, and comes back."""

    page, biller = "partner-down", "fir"

    def plant(self) -> dict[str, str]:
        customer = self.sides.customer(self.biller)
        self.sides.fault("imt", "maintenance", biller=self.biller)
        self.told = self.sides.payment(self.biller, InvoiceNumber=customer.invoice)
        assert self.sides.pay(self.told, self.biller).status_code == 200
        until(self._breaker_opens, LIMIT_S, "the breaker")
        return {"BILLER": self.biller, "PAYMENT": self.told["PaymentGUID"]}

    def _breaker_opens(self) -> bool:
        return self.sides.metric("payments", "billbus_breaker_open", biller=self.biller) == 1

    def imt_comes_back(self) -> None:
        self.sides.control("DELETE", "/faults")


class LagGrows(Situation):
    """IMT answers this biller so slowly that its payments pile up."""

    page, biller = "lag-grows", "oak"

    def plant(self) -> dict[str, str]:
        self.customer = self.sides.customer(self.biller)
        self.sides.fault("imt.datapump", "slow", biller=self.biller, delay_s=SLOW_S)
        several = [
            self.sides.payment(self.biller, InvoiceNumber=self.customer.invoice, PaymentAmount=f"{number}.00")
            for number in range(1, 9)
        ]
        answer = self.sides.ask(
            "payments", "POST", f"/ic/{self.biller}/payments/batch", self.biller, json={"payments": several}
        )
        assert answer.status_code == 200, answer.text
        self.last = several[-1]
        return {"BILLER": self.biller, "PAYMENT": self.last["PaymentGUID"]}

    def imt_is_quick_again(self) -> None:
        self.sides.control("DELETE", "/faults")


class Drifted(Situation):
    """IMT has forgotten that a customer pays automatically."""

    page, biller = "drift", "maple"

    def plant(self) -> dict[str, str]:
        customer = self.sides.customer(self.biller, PaperInvoices="T")
        change: dict[str, Any] = {
            "ChangeID": str(uuid4()),
            "ChangedAt": "2026-11-20T10:00:00Z",
            "Type": "AutoPay",
            "AutoPay": "True",
            "AccountNumber": customer.account,
        }
        assert self.sides.change(change, biller=self.biller).status_code == 200
        self.sides.one("setting.outcome", biller=self.biller, natural_id=f"{change['ChangeID']}/autopay")
        where = {"biller": self.biller, "account": customer.account}
        at_ic = {"fields": {"Customer.AutoPay": True}}
        self.sides.control("PATCH", "/ledger/invoices", params=where, json=at_ic)
        self.sides.control("DELETE", "/ledger/settings", params=where)
        return {"BILLER": self.biller}
