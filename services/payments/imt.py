"""The client of IMT's DataPump Payments."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from services.bus.billers import Billers
from services.bus.imt import ImtCalls
from services.bus.lane import Rejected
from services.bus.partner import PartnerHttp, Reply
from services.bus.secrets import Secrets
from services.bus.wire import Imt, WireError, instant, money, read_date, read_money
from services.events import PaymentReceived

SERVICE = "imt.datapump"


@dataclass(frozen=True, slots=True)
class Posting:
    """A payment as IMT has it; `amount` in USD, `count` how often its PaymentGUID was posted."""

    account: str
    amount: Decimal
    reference: str | None
    batch_day: date | None
    count: int = 1


@dataclass(frozen=True, slots=True)
class Page:
    """Part of IMT's list of a batch date, by PaymentGUID as IMT has it; one posted twice may stand there
    twice. `after` leads to the next page, None from the last; `count` and `amount` (USD) are what IMT says
    of the whole list, where it does."""

    payments: tuple[tuple[str, Posting], ...]
    after: str | None
    count: int | None
    amount: Decimal | None


def guid_at_imt(payment: PaymentReceived) -> str:
    """The PaymentGUID as IMT gets it and is asked for it: as IC spells it."""
    return payment.payment_guid_as_sent or payment.payment_guid


class DataPump:
    """Posts payments and looks them up by PaymentGUID; raises services.bus.partner's errors."""

    def __init__(self, partners: PartnerHttp, billers: Billers, secrets: Secrets, imt: Imt) -> None:
        self._billers = billers
        self._imt = imt
        self._wire = imt.services.datapump
        self._calls = ImtCalls(
            SERVICE, partners, secrets, imt, self._wire, lambda biller: biller.imt.datapump
        )

    async def post(self, payment: PaymentReceived, batch_day: date) -> Posting | Rejected:
        """Posts the premium, never the convenience fee; Rejected with IMT's own code where it says no."""
        body = self._wire.out(
            payment_guid=guid_at_imt(payment),
            account=payment.account,
            invoice_number=payment.invoice_number,
            amount=money(payment.amount),
            paid_at=instant(payment.paid_at),
            batch_date=batch_day.isoformat(),
            tender=payment.tender,
            card_type=payment.card_type,
            product=payment.product,
            agent=payment.agent,
            schedule_id=payment.schedule_id,
            schedule_kind=payment.schedule_kind,
            external_reference=guid_at_imt(payment),
        )
        biller = self._billers[payment.biller]
        reply = await self._calls.call(biller, "post_payment", body=body)
        if not reply.ok:
            return self._no(reply)
        answer = reply.json()
        reference = self._wire.read(answer, "reference") if isinstance(answer, dict) else None
        if not reference:
            raise reply.refused("the answer to a payment names no reference")
        return Posting(payment.account, payment.amount, str(reference), batch_day)

    async def find(self, biller: str, payment_guid: str) -> Posting | None:
        """The payment that IMT has under a PaymentGUID, or None."""
        reply = await self._calls.call(self._billers[biller], "read_payment", guid=payment_guid)
        if not reply.ok:
            if self._imt.errors.code(reply.json()) == "not_found":
                return None
            raise reply.refused(f"the look-up was answered with {reply.status}")
        try:
            return self._posting(reply.json())
        except WireError as error:
            raise reply.refused(str(error)) from None

    async def list_batch(self, biller: str, batch_day: date, after: str | None = None) -> Page:
        """What IMT has posted under a batch date, page by page: those behind `after`, first the first."""
        reply = await self._calls.call(
            self._billers[biller],
            "list_payments",
            batch_date=batch_day.isoformat(),
            after=after,
            limit=self._wire.limits["default_page"],
        )
        if not reply.ok:
            raise reply.refused(f"the list was answered with {reply.status}")
        try:
            return self._page(reply.json())
        except WireError as error:
            raise reply.refused(str(error)) from None

    def patience_s(self, biller: str) -> float:
        """Our deadline, IMT's own and a margin: after that a request we gave up cannot take effect."""
        imt = self._billers[biller].imt
        return imt.deadline_s + imt.margin_s

    def looks_up(self, biller: str) -> bool:
        return self._billers[biller].imt.looks_up_payments

    def lists(self, biller: str) -> bool:
        return self._billers[biller].imt.lists_payments

    def _page(self, answer: object) -> Page:
        items, after = self._wire.read(answer, "items"), self._wire.read(answer, "next")
        if not isinstance(items, list):
            raise WireError(f"{self._wire.envelope['items']} is not a list")
        more = self._wire.read(answer, "more") is True
        if more and not (items and after):
            raise WireError(f"{self._wire.envelope['more']} without a {self._wire.envelope['next']}")
        envelope = answer if isinstance(answer, dict) else {}
        count, total = (envelope.get(self._wire.envelope[name]) for name in ("count", "total"))
        return Page(
            payments=tuple((str(self._wire.read(i, "payment_guid")), self._posting(i)) for i in items),
            after=str(after) if more else None,
            count=count if isinstance(count, int) else None,
            amount=None if total is None else read_money(total, self._wire.envelope["total"]),
        )

    def _posting(self, record: object) -> Posting:
        day, count = self._wire.read(record, "batch_date"), self._wire.read(record, "count")
        return Posting(
            account=str(self._wire.read(record, "account")),
            amount=read_money(self._wire.read(record, "amount"), self._wire.names["amount"]),
            reference=str(self._wire.read(record, "reference") or "") or None,
            batch_day=read_date(day, self._wire.names["batch_date"]) if day else None,
            count=count if isinstance(count, int) and count > 0 else 1,
        )

    def _no(self, reply: Reply) -> Rejected:
        code = self._imt.errors.code(reply.json()) or f"status {reply.status}"
        return Rejected(code, f"IMT refused the payment with {reply.status}")
