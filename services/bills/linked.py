"""What is known of each bill's link, whole in every replica."""

from dataclasses import dataclass, field, replace
from datetime import datetime

from services.bus.views import View
from services.events import BillLinked


@dataclass(slots=True)
class _Bills:
    """The bills of one biller: all of an invoice, revoked ones, and those that are not live."""

    of_invoice: dict[str, tuple[BillLinked, ...]] = field(default_factory=dict)
    revoked: dict[tuple[str, str], datetime] = field(default_factory=dict)
    not_live: dict[tuple[str, str], BillLinked] = field(default_factory=dict)

    def take(self, event: BillLinked) -> None:
        bill = (event.invoice_number, event.bill_id)
        if event.state == "revoked":
            self.revoked[bill] = event.expires_at
        elif bill in self.revoked:
            return
        others = [one for one in self.of_invoice.get(bill[0], ()) if one.bill_id != event.bill_id]
        self.of_invoice[bill[0]] = (*others, event)
        if event.state in {"unchecked", "missing"}:
            self.not_live[bill] = event
        else:
            self.not_live.pop(bill, None)

    def forget_expired(self, now: datetime) -> None:
        for bill in [bill for bill, until in self.revoked.items() if until <= now]:
            del self.revoked[bill]
        for bill in [bill for bill, event in self.not_live.items() if event.expires_at <= now]:
            del self.not_live[bill]
        for invoice, events in list(self.of_invoice.items()):
            good = tuple(event for event in events if event.expires_at > now)
            if not good:
                del self.of_invoice[invoice]
            elif len(good) < len(events):
                self.of_invoice[invoice] = good


class LinkedBills(View[BillLinked]):
    """The newest state of each bill's link. What was revoked stays so, whatever a later check finds.

    Memory: one event for each bill whose link has not expired.
    """

    def __init__(self) -> None:
        self._billers: dict[str, _Bills] = {}
        super().__init__(reads=BillLinked, apply=self.take)

    def take(self, event: BillLinked) -> None:
        """Enters what was found of a bill."""
        self._billers.setdefault(event.biller, _Bills()).take(event)

    def of_invoice(self, biller: str, invoice_number: str) -> tuple[BillLinked, ...]:
        """The bills of an invoice; a corrected invoice has more than one."""
        bills = self._billers.get(biller)
        return bills.of_invoice.get(invoice_number, ()) if bills else ()

    def is_revoked(self, biller: str, invoice_number: str, bill_id: str) -> bool:
        bills = self._billers.get(biller)
        return bills is not None and (invoice_number, bill_id) in bills.revoked

    def has(self, event: BillLinked) -> bool:
        """Whether it says nothing new of its bill: the instant of asking apart, all is known."""
        bills = self.of_invoice(event.biller, event.invoice_number)
        return any(replace(known, checked_at=event.checked_at) == event for known in bills)

    def not_live(self, biller: str) -> list[BillLinked]:
        """Bills that are missing or could not be checked, those longest unasked first."""
        bills = self._billers.get(biller)
        return sorted(bills.not_live.values(), key=lambda event: event.checked_at) if bills else []

    def forget_expired(self, now: datetime) -> None:
        """Drops what no link can open any more: an expired one is refused without asking here."""
        for bills in self._billers.values():
            bills.forget_expired(now)
