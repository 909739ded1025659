"""What comes in over HTTP: IC's payment form, batches of payments, banks' files."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, Field

from services.bus import metrics
from services.bus.accounts import AccountsView
from services.bus.auth import biller_of
from services.bus.billers import Biller
from services.bus.bodies import document_of, form_of, items_of, takes
from services.bus.direct import as_json, direct
from services.bus.problem import Problem
from services.bus.publisher import NotAcknowledged
from services.bus.service import Bus
from services.bus.support import Unsupported
from services.bus.wire import Malformed
from services.events import PaymentReceived
from services.payments.bank_file import BankFileReader, BrokenFile
from services.payments.handlers import receive_payment
from services.payments.notice import NoticeReader

Speaker = Annotated[Biller, Depends(biller_of)]
MOST_FIELDS = 100
RETRY_AFTER_S = 2
AT_ONCE = 500
"""Payments read, or published together, before anybody else gets a turn."""


class Receipt(BaseModel):
    """What IC is answered for one payment; the same for a first notice and for a repeat."""

    PaymentGUID: str
    Status: str = "accepted"


class ItemResult(BaseModel):
    """What became of one item of a batch."""

    index: int
    PaymentGUID: str | None = None
    status: str = Field(description="accepted, malformed or try_again")
    field: str | None = Field(default=None, description="The field that does not read as agreed.")
    expected: str | None = None


class BatchReceipt(BaseModel):
    accepted: int
    malformed: int
    try_again: int = Field(description="Not acknowledged by the bus: send these again.")
    results: list[ItemResult]


SOME_REFUSED: dict[int | str, dict[str, Any]] = {
    207: {"model": BatchReceipt, "description": "Not all were accepted; each has its own result."}
}


class Intake:
    """Payments as they come, one or many, onto the bus."""

    def __init__(self, bus: Bus, accounts: AccountsView, reader: NoticeReader) -> None:
        self._bus = bus
        self._accounts = accounts
        self._reader = reader

    def received(self, told: object, biller: Biller, via: str, at: datetime) -> PaymentReceived:
        """The event of one payment; raises Malformed, or Problem 503 while the accounts are being read."""
        if not self._accounts.ready:  # every account would look unknown, and the payment be parked
            raise Problem(503, "Not ready", "The accounts are still being read.", retry_after=RETRY_AFTER_S)
        if isinstance(told, Malformed):
            raise told
        notice = self._reader.read(told, biller)
        meant = notice.biller_guid
        if meant is not None and meant.lower() != biller.invoice_cloud.biller_guid.lower():
            raise Malformed(self._reader.contract.wire("biller_guid"), "the GUID of the biller in the path")
        return receive_payment(notice, biller, self._accounts, via, at)

    async def one(self, told: Mapping[str, object], biller: Biller) -> Receipt:
        """Takes one form; a field that does not read as agreed is answered with its name."""
        try:
            event = self.received(told, biller, "form", self._bus.clock.now())
        except Malformed as error:
            raise Problem(
                422, "Malformed payment", f"{error.field}: expected {error.expected}.", field=error.field
            ) from None
        await self._bus.publisher.publish(event)
        metrics.ACCEPTED.labels("payments", biller.slug, "payment").inc()
        return Receipt(PaymentGUID=event.payment_guid_as_sent or event.payment_guid)

    async def many(self, items: Sequence[object], biller: Biller, via: str) -> Response:
        """Takes each for itself and answers a BatchReceipt, 207 when not all were accepted.

        Raises NotAcknowledged when the bus has none of them.
        """
        at = self._bus.clock.now()
        results: list[ItemResult] = []
        events: list[tuple[int, PaymentReceived]] = []
        for index, told in enumerate(items):
            if index % AT_ONCE == AT_ONCE - 1:  # a bank's file is long: others get their turn
                await asyncio.sleep(0)
            try:
                event = self.received(told, biller, via, at)
            except Malformed as error:
                results.append(
                    ItemResult(index=index, status="malformed", field=error.field, expected=error.expected)
                )
                continue
            events.append((index, event))
            results.append(ItemResult(index=index, PaymentGUID=event.payment_guid_as_sent, status="accepted"))
        await self._publish(biller, results, events)
        counts = Counter(result.status for result in results)
        if counts["try_again"] and not counts["accepted"]:
            raise NotAcknowledged("none of the batch was acknowledged")
        receipt = BatchReceipt(
            accepted=counts["accepted"],
            malformed=counts["malformed"],
            try_again=counts["try_again"],
            results=results,
        )
        return as_json(receipt, 200 if receipt.accepted == len(results) else 207)

    async def _publish(
        self, biller: Biller, results: list[ItemResult], events: Sequence[tuple[int, PaymentReceived]]
    ) -> None:
        """Publishes a part at a time; once nothing of a part is acknowledged, the rest is not tried."""
        away = False
        for start in range(0, len(events), AT_ONCE):
            part = events[start : start + AT_ONCE]
            failures: Sequence[object] = [True] * len(part)
            if not away:
                failures = await self._bus.publisher.publish_each([event for _, event in part])
            away = None not in failures
            metrics.ACCEPTED.labels("payments", biller.slug, "payment").inc(failures.count(None))
            for (index, _), failure in zip(part, failures, strict=True):
                if failure is not None:
                    results[index].status = "try_again"


def routes(bus: Bus, accounts: AccountsView, reader: NoticeReader, bank_files: BankFileReader) -> APIRouter:
    """The intake of payments; each answer 2xx comes after all in-sync replicas have every event."""
    router = APIRouter()
    intake = Intake(bus, accounts, reader)
    add_form(router, intake, reader)
    add_batch(router, intake, reader)
    add_bank_file(router, intake, bank_files)
    add_refusals(router, bus)
    return router


def add_form(router: APIRouter, intake: Intake, reader: NoticeReader) -> None:
    form = reader.contract.payment_form
    fields = {name: {"type": "string"} for name in (*form.fields.values(), *form.assumed.values())}
    form_schema = {"type": "object", "properties": fields}

    @router.post(
        "/ic/{biller}/payments",
        response_model=Receipt,
        openapi_extra=takes_body("application/x-www-form-urlencoded", form_schema),
    )
    @direct
    @takes(texts=True)
    async def pay(request: Request, biller: Speaker) -> Receipt:
        """One posted payment, as IC's form."""
        return await intake.one(await form_of(request, MOST_FIELDS), biller)


def add_batch(router: APIRouter, intake: Intake, reader: NoticeReader) -> None:
    rule = reader.contract.payment_form.batch
    payments = {"type": "array", "minItems": 1, "maxItems": rule.max_items, "items": {"type": "object"}}
    batch_schema = {
        "title": "Batch",
        "type": "object",
        "additionalProperties": True,
        "required": [rule.envelope],
        "properties": {rule.envelope: payments},
    }

    @router.post(
        "/ic/{biller}/payments/batch",
        response_model=BatchReceipt,
        responses=SOME_REFUSED,
        openapi_extra=takes_body("application/json", batch_schema),
    )
    @direct
    @takes(batch=rule.envelope)
    async def pay_batch(request: Request, biller: Speaker) -> Response:
        """Payments with a result for each; 207 when not all were accepted."""
        items = items_of(request, document_of(request), rule.envelope, rule.max_items)
        return await intake.many(items, biller, "batch")


def add_bank_file(router: APIRouter, intake: Intake, bank_files: BankFileReader) -> None:
    @router.post(
        "/ic/{biller}/bank-files",
        response_model=BatchReceipt,
        responses=SOME_REFUSED,
        openapi_extra=takes_body(bank_files.layout.content_type, {"type": "string", "format": "binary"}),
    )
    @takes(limit=bank_files.layout.limits.bytes)
    async def bank_file(request: Request, biller: Speaker) -> Response:
        """A bank's file of payments (Online Bank Direct); a file that is not whole is refused whole."""
        try:
            items = bank_files.read(await request.body())
        except BrokenFile as error:
            raise Problem(422, "The bank's file is refused", str(error)) from None
        return await intake.many(items, biller, "bank_file")


def add_refusals(router: APIRouter, bus: Bus) -> None:
    @router.post("/ic/{biller}/ach-rejects", dependencies=[Depends(biller_of)])
    async def ach_rejects() -> None:
        """Not supported: refused by name."""
        raise Unsupported(bus.support.row("ach_rejects"))

    @router.post("/ic/{biller}/voids", dependencies=[Depends(biller_of)])
    @router.post("/ic/{biller}/payments/{guid}/void", dependencies=[Depends(biller_of)])
    async def void() -> None:
        """Not supported: refused by name."""
        raise Unsupported(bus.support.row("void"))


def takes_body(content_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    """What the OpenAPI document says of a body that the framework does not read."""
    return {"requestBody": {"content": {content_type: {"schema": schema}}, "required": True}}
