"""What comes in over HTTP: IC's change log, and the question how an account is enrolled."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Request, Response
from pydantic import BaseModel, Field

from services.bus import metrics
from services.bus.accounts import AccountsView, Ambiguous, NoMatch
from services.bus.auth import biller_of
from services.bus.billers import Biller
from services.bus.bodies import items_of, takes
from services.bus.problem import Problem
from services.bus.publisher import NotAcknowledged
from services.bus.service import Bus
from services.bus.support import Unsupported
from services.bus.views import View
from services.bus.wire import Malformed
from services.events import EnrollmentCurrent, SettingChanged
from services.settings.change import ChangeReader
from services.settings.handlers import receive_setting, spread_setting

Speaker = Annotated[Biller, Depends(biller_of)]
RETRY_AFTER_S = 5
Status = Literal["accepted", "malformed", "refused", "try_again"]


class ItemResult(BaseModel):
    """What became of one change; the same for a first notice and for a repeat."""

    index: int
    ChangeID: str | None = None
    status: Status
    field: str | None = Field(default=None, description="The field that does not read as agreed.")
    expected: str | None = None
    type: str | None = Field(default=None, description="The row that is not supported, as a URN.")
    title: str | None = None
    detail: str | None = None


class LogReceipt(BaseModel):
    accepted: int
    malformed: int
    refused: int = Field(description="Asked for what is not supported, by its name.")
    try_again: int = Field(description="Not acknowledged by the bus: send these again.")
    results: list[ItemResult]


class Setting(BaseModel):
    """One indicator on one of the account's numbers, as IMT has it."""

    number: str
    indicator: str
    value: bool


class Enrollment(BaseModel):
    """How an account is enrolled; null while nothing is known."""

    account: str
    autopay: bool | None = None
    paperless: bool | None = None
    linked: bool | None = None
    settings: list[Setting] = []
    as_of: datetime | None = None


class EnrollmentView(View[EnrollmentCurrent]):
    """The enrollment of every account, whole in each replica."""

    def __init__(self) -> None:
        self._enrollments: dict[tuple[str, str], EnrollmentCurrent] = {}
        super().__init__(reads=EnrollmentCurrent, apply=self.take)

    def take(self, event: EnrollmentCurrent) -> None:
        self._enrollments[event.biller, event.account] = event

    def of(self, biller: str, account: str) -> EnrollmentCurrent | None:
        """The enrollment of a canonical account, None where nothing is known of it."""
        return self._enrollments.get((biller, account))


class ChangeLog:
    """Takes changes: each is read, resolved, published and answered by itself."""

    def __init__(self, bus: Bus, reader: ChangeReader, accounts: AccountsView, known: EnrollmentView) -> None:
        self._bus = bus
        self._reader = reader
        self._accounts = accounts
        self._known = known

    def read(self, told: object, biller: Biller) -> list[SettingChanged]:
        """The facts of one change; raises Malformed, Unsupported, or Problem while nobody can resolve it."""
        if isinstance(told, Malformed):
            raise told
        if not (self._accounts.ready and self._known.ready):  # just started: every number would look unknown
            raise Problem(503, "Not ready", "The views are still being read.", retry_after=RETRY_AFTER_S)
        at = self._bus.clock.now()
        changes = self._reader.read(told, biller.invoice_cloud.biller_guid, biller.timezone)
        events = []
        for change in changes:
            event = receive_setting(change, biller, self._accounts, at)
            account = self._accounts.by_account(biller.slug, event.account)
            now = self._known.of(biller.slug, event.account)
            events += [event, *spread_setting(change, event, account, now)]
        return events

    async def publish(self, events: Sequence[SettingChanged]) -> list[bool]:
        """For each event whether all in-sync replicas have it; raises NotAcknowledged when none has."""
        failures = await self._bus.publisher.publish_each(events)
        taken = [failure is None for failure in failures]
        for event, acknowledged in zip(events, taken, strict=True):
            if acknowledged:
                metrics.ACCEPTED.labels("settings", event.biller, event.indicator).inc()
        if events and not any(taken):
            raise NotAcknowledged("none of the changes was acknowledged")
        return taken

    async def take(self, told: Sequence[object], biller: Biller) -> LogReceipt:
        """One result for each change, in order; a bad one does not hold up the others."""
        results: list[ItemResult] = []
        events: list[tuple[int, SettingChanged]] = []
        for index, each in enumerate(told):
            result = ItemResult(index=index, ChangeID=self._reader.named(each), status="accepted")
            try:
                events += [(index, event) for event in self.read(each, biller)]
            except Malformed as error:
                result.status, result.field, result.expected = "malformed", error.field, error.expected
            except Unsupported as error:
                row = error.row
                metrics.REFUSED.labels("settings", row.slug).inc()
                result.status, result.type = "refused", row.problem_type
                result.title, result.detail = row.title, row.sentence
            results.append(result)
        taken = await self.publish([event for _, event in events])
        for (index, _), acknowledged in zip(events, taken, strict=True):
            if not acknowledged:
                results[index].status = "try_again"
        return LogReceipt(
            accepted=sum(result.status == "accepted" for result in results),
            malformed=sum(result.status == "malformed" for result in results),
            refused=sum(result.status == "refused" for result in results),
            try_again=sum(result.status == "try_again" for result in results),
            results=results,
        )

    async def take_one(self, told: object, biller: Biller) -> ItemResult:
        """A change that came alone; raises Problem, Unsupported or NotAcknowledged."""
        try:
            events = self.read(told, biller)
        except Malformed as error:
            raise _refused(error.field, error.expected) from None
        if not all(await self.publish(events)):
            raise NotAcknowledged("the change was not acknowledged whole")
        return ItemResult(index=0, ChangeID=self._reader.named(told), status="accepted")


def routes(log: ChangeLog, reader: ChangeReader, accounts: AccountsView, known: EnrollmentView) -> APIRouter:
    """The intake of settings; each answer 2xx comes after all in-sync replicas have every event."""
    router = APIRouter(tags=["settings"])
    contract = reader.contract

    @router.post(
        "/ic/{biller}/changes", response_model=LogReceipt | ItemResult, response_model_exclude_none=True
    )
    @takes(batch=contract.envelope)
    async def changes(
        request: Request, biller: Speaker, told: Annotated[dict[str, Any], Body()], response: Response
    ) -> LogReceipt | ItemResult:
        """IC's change log, up to 500 changes with a result for each (207 when not all were accepted), or
        one change by itself."""
        if contract.envelope not in told:
            return await log.take_one(told, biller)
        several = items_of(request, told, contract.envelope, contract.max_items)
        receipt = await log.take(several, biller)
        response.status_code = 200 if receipt.accepted == len(several) else 207
        return receipt

    @router.get("/ic/{biller}/enrollments/{account}", response_model=Enrollment)
    async def enrollment(biller: Speaker, account: str) -> Enrollment:
        """How an account is enrolled, by its number as typed; any replica answers."""
        if not (accounts.ready and known.ready):
            raise Problem(503, "Not ready", "The views are still being read.", retry_after=RETRY_AFTER_S)
        found = accounts.find_typed(biller, account)
        if isinstance(found, NoMatch):
            raise Problem(404, "Unknown account", "No account matches the number given.")
        if isinstance(found, Ambiguous):
            raise Problem(409, "Ambiguous account", "More than one account matches the number given.")
        return shown(found.account, known.of(biller.slug, found.account))

    return router


def shown(account: str, current: EnrollmentCurrent | None) -> Enrollment:
    if current is None:
        return Enrollment(account=account)
    return Enrollment(
        account=account,
        autopay=current.autopay,
        paperless=current.paperless,
        linked=current.linked,
        settings=[Setting(number=s.number, indicator=s.indicator, value=s.value) for s in current.applied],
        as_of=current.updated_at,
    )


def _refused(field: str, expected: str) -> Problem:
    errors = [{"field": field, "expected": expected}]
    return Problem(422, "Malformed change", f"{field}: expected {expected}.", errors=errors)
