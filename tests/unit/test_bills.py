"""Bills: checked before a customer clicks, opened only by a good link, an honest page otherwise."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.bills.handlers import MISSING_AGAIN_AFTER, UNCHECKED_AFTER, Desk, check_bill, recheck_bills
from services.bills.imt import Bills, Missing, There
from services.bills.intake import bill_routes
from services.bills.linked import LinkedBills
from services.bus.intake import create_app
from services.bus.lane import Parked, Posted, Rejected
from services.bus.links import mint
from services.bus.partner import Outage, PartnerError, Reply, Retryable
from services.bus.settings import ROOT
from services.bus.wire import load_wire
from services.events import BillLinked, InvoiceIssued
from tests.unit.parts import NOON, FakeClock, FakePublisher, FakeSecrets, a_biller

UNTIL = NOON + timedelta(days=400)
PDF = b"%PDF-1.7 " + b"x" * 100_000
PRIVATE = "private, no-store"
AUTH = {"Authorization": "Bearer let-me-in"}


class FakeStream:
    """An answer of IMT's `Bills`: its pieces, and perhaps a fault after them."""

    def __init__(self, *pieces: bytes, status: int = 200, fault: PartnerError | None = None) -> None:
        self.pieces = pieces
        self.status = status
        self.fault = fault
        self.headers = {"Content-Length": str(sum(map(len, pieces)))}

    async def chunks(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece
        if self.fault is not None:
            raise self.fault


class FakeBills:
    """IMT as told."""

    def __init__(self) -> None:
        self.found: There | Missing | Exception = There()
        self.stream: FakeStream | Missing | Exception = FakeStream(PDF[:3], PDF[3:])
        self.checked: list[str] = []
        self.open = 0

    async def check(self, biller: Any, bill_id: str) -> There | Missing:
        del biller
        self.checked.append(bill_id)
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def read(self, biller: Any, bill_id: str) -> Any:
        del biller, bill_id
        return self.stream if isinstance(self.stream, Missing) else self._reading()

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[FakeStream]:
        if isinstance(self.stream, Exception):
            raise self.stream
        assert isinstance(self.stream, FakeStream)
        self.open += 1
        try:
            yield self.stream
        finally:
            self.open -= 1


class House:
    """The service's desk and HTTP side, over a bus and an IMT in memory."""

    def __init__(self) -> None:
        self.imt, self.publisher, self.clock = FakeBills(), FakePublisher(), FakeClock()
        self.linked = LinkedBills()
        self.linked.ready = True
        self.desk = Desk(
            self.imt,  # type: ignore[arg-type]  # a fake of the client
            self.linked,
            self.publisher,  # type: ignore[arg-type]  # a fake of the bus
            FakeSecrets(),  # type: ignore[arg-type]  # invented secrets
            self.clock,
        )
        self.billers = {"acme": a_biller(), "cedar": a_biller("cedar")}
        bus: Any = SimpleNamespace(
            settings=SimpleNamespace(body_limit_bytes=2**20, bif_limit_bytes=2**20, concurrency_limit=8),
            billers=self.billers,
            secrets=FakeSecrets(),
            clock=self.clock,
        )
        app = create_app("bills", bus, [bill_routes(self.desk)])
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bills")

    async def open(self, invoice: str = "INV-1", bill: str = "B-1") -> httpx.Response:
        link = mint(a_biller(), FakeSecrets(), "http://bills", invoice, bill, UNTIL)
        return await self.client.get(link)

    async def look(self) -> httpx.Response:
        return await self.client.head(mint(a_biller(), FakeSecrets(), "http://bills", "INV-1", "B-1", UNTIL))

    async def revoke(self, invoice: str = "INV-1", **headers: str) -> httpx.Response:
        return await self.client.post(f"/imt/acme/bills/{invoice}/revoke", headers=headers or AUTH)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    made = House()
    async with made.client:
        yield made


def issued(invoice: str = "INV-1", bill: str = "B-1") -> InvoiceIssued:
    return InvoiceIssued(
        biller="acme",
        account="123",
        invoice_number=invoice,
        file_id="f",
        row=2,
        customer_name="Ada Example",
        invoice_date=date(2026, 11, 23),
        due_date=date(2026, 12, 23),
        past_due=Decimal(0),
        current_charges=Decimal(1),
        balance_due=Decimal(1),
        minimum_due=Decimal(1),
        credit=Decimal(0),
        autopay=False,
        paperless=False,
        bill_id=bill,
        bill_link="http://bills/x",
        bill_link_expires_at=UNTIL,
        content="c",
        issued_at=NOON,
    )


def linked(state: Any = "live", invoice: str = "INV-1", bill: str = "B-1", **more: Any) -> BillLinked:
    stated: dict[str, Any] = {"expires_at": UNTIL, "checked_at": NOON}
    return BillLinked(
        biller="acme", account="123", invoice_number=invoice, bill_id=bill, state=state, **(stated | more)
    )


# -- the check -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "state", "reason"),
    [(There(), "live", None), (Missing("imt_answered_404"), "missing", "imt_answered_404")],
)
async def test_a_new_link_is_checked_and_said(house: House, found: Any, state: str, reason: str) -> None:
    house.imt.found = found
    assert await check_bill(issued(), a_biller(), house.desk) == Posted(reason=reason)
    (event,) = house.publisher.events
    assert (event.state, event.reason, event.bill_id, event.expires_at) == (state, reason, "B-1", UNTIL)


async def test_an_invoice_that_comes_again_says_only_what_is_new(house: House) -> None:
    await check_bill(issued(), a_biller(), house.desk)
    house.linked.take(house.publisher.events[-1])
    assert isinstance(await check_bill(issued(), a_biller(), house.desk), Posted)
    assert (len(house.imt.checked), len(house.publisher.events)) == (2, 1)
    house.imt.found = Missing("gone")
    await check_bill(issued(), a_biller(), house.desk)
    assert [event.state for event in house.publisher.events] == ["live", "missing"]


async def test_while_imt_is_away_the_lane_waits_and_then_the_link_is_unchecked_by_name(house: House) -> None:
    house.imt.found = Outage("acme", "imt.bills", "refused", never_sent=True)
    with pytest.raises(Outage):
        await check_bill(issued(), a_biller(), house.desk)
    assert house.publisher.events == []
    house.clock.move(seconds=UNCHECKED_AFTER.total_seconds())
    assert isinstance(await check_bill(issued(), a_biller(), house.desk), Parked)
    (event,) = house.publisher.events
    assert (event.state, event.reason) == ("unchecked", "imt_away")


async def test_a_biller_whose_file_was_taken_away_is_not_asked_for(house: House) -> None:
    assert await check_bill(issued(), None, house.desk) == Parked(
        "unknown_biller", "no biller's file names this biller", never_sent=True
    )
    assert house.imt.checked == house.publisher.events == []


async def test_a_check_is_done_only_when_the_bus_has_what_was_found(house: House) -> None:
    house.publisher.away = True
    with pytest.raises(Retryable):
        await check_bill(issued(), a_biller(), house.desk)


async def test_a_revoked_link_is_not_said_to_be_live_again(house: House) -> None:
    house.linked.apply(linked("revoked"))
    assert isinstance(await check_bill(issued(), a_biller(), house.desk), Rejected)
    assert house.publisher.events == []


async def test_unchecked_and_missing_bills_are_asked_for_again(house: House) -> None:
    house.linked.apply(linked("unchecked", "INV-1"))
    house.linked.apply(linked("missing", "INV-2", "B-2"))
    house.linked.apply(linked("live", "INV-3", "B-3"))
    await recheck_bills(a_biller(), house.desk)
    assert house.imt.checked == ["B-1"], "a missing one rests for a while"
    house.clock.move(seconds=MISSING_AGAIN_AFTER.total_seconds())
    for event in house.publisher.events:
        house.linked.apply(event)
    await recheck_bills(a_biller(), house.desk)
    assert house.imt.checked == ["B-1", "B-2"]
    assert {event.state for event in house.publisher.events} == {"live"}


async def test_a_recheck_ends_at_the_first_fault(house: House) -> None:
    house.linked.apply(linked("unchecked", "INV-1"))
    house.linked.apply(linked("unchecked", "INV-2", "B-2"))
    house.imt.found = Outage("acme", "imt.bills", "refused")
    await recheck_bills(a_biller(), house.desk)
    assert len(house.imt.checked) == 1


# -- opening ---------------------------------------------------------------------------------------------


async def test_a_good_link_shows_the_pdf_and_nobody_keeps_it(house: House) -> None:
    answer = await house.open("INV/1")
    assert (answer.status_code, answer.content) == (200, PDF)
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["content-length"] == str(len(PDF))
    assert answer.headers["cache-control"] == PRIVATE
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"] == 'inline; filename="bill-INV_1.pdf"'
    assert house.imt.open == 0


async def expect_page(house: House, answer: httpx.Response, status: int, words: str) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["cache-control"] == PRIVATE
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert words in answer.text
    assert house.imt.open == 0


@pytest.mark.parametrize("stream", [FakeStream(status=404), FakeStream(), Missing("unusable_bill_id")])
async def test_a_missing_bill_is_an_honest_page(house: House, stream: Any) -> None:
    house.imt.stream = stream
    answer = await house.open()
    await expect_page(house, answer, 404, "This bill is not here")
    assert "Acme Mutual" in answer.text


@pytest.mark.parametrize(
    "stream",
    [
        Outage("acme", "imt.bills", "answered 503", retry_after=12),
        Retryable("acme", "imt.bills", "reset"),
        FakeStream(b"<html>not a bill</html>"),
        FakeStream(b"%PD", fault=Retryable("acme", "imt.bills", "broke")),
        RuntimeError("a fault of ours"),
    ],
)
async def test_while_imt_is_away_the_page_says_when_to_come_back(house: House, stream: Any) -> None:
    house.imt.stream = stream
    answer = await house.open()
    await expect_page(house, answer, 503, "cannot be shown right now")
    assert answer.headers["retry-after"] == ("12" if isinstance(stream, Outage) else "60")


async def test_a_pdf_that_breaks_off_is_never_completed(house: House) -> None:
    house.imt.stream = FakeStream(PDF, fault=Retryable("acme", "imt.bills", "broke"))
    with pytest.raises(AssertionError):  # httpx's transport insists on a whole answer, as a browser does
        await house.open()
    assert house.imt.open == 0


async def test_a_head_tells_of_the_bill_and_fetches_nothing(house: House) -> None:
    house.imt.found = There(len(PDF))
    opened, looked = await house.open(), await house.look()
    assert (looked.status_code, looked.content) == (200, b"")
    own = {"traceparent"}
    assert {n: v for n, v in looked.headers.items() if n not in own} == {
        n: v for n, v in opened.headers.items() if n not in own
    }
    assert looked.headers["accept-ranges"] == "none"
    assert (house.imt.checked, house.imt.open) == (["B-1"], 0)


@pytest.mark.parametrize(
    ("found", "status"), [(Missing("imt_answered_404"), 404), (Outage("acme", "imt.bills", "away"), 503)]
)
async def test_a_head_says_as_honestly_why_there_is_no_bill(
    house: House, found: Missing | Outage, status: int
) -> None:
    house.imt.found = found
    looked = await house.look()
    assert (looked.status_code, looked.content) == (status, b"")
    assert looked.headers["cache-control"] == PRIVATE


async def test_a_head_of_a_dead_link_asks_nobody(house: House) -> None:
    assert (await house.client.head("/bills/acme/nonsense")).status_code == 404
    house.clock.move(days=400)
    assert (await house.look()).status_code == 410
    assert house.imt.checked == []


async def test_an_expired_link_is_gone(house: House) -> None:
    house.clock.move(days=400)
    await expect_page(house, await house.open(), 410, "has expired")


@pytest.mark.parametrize("path", ["/bills/acme/nonsense", "/bills/nobody/x", "/bills/acme/" + "A" * 3000])
async def test_a_forged_link_says_nothing_of_any_insurer(house: House, path: str) -> None:
    answer = await house.client.get(path)
    await expect_page(house, answer, 404, "does not work")
    assert "Acme" not in answer.text


async def test_a_link_of_another_biller_is_forged(house: House) -> None:
    link = mint(a_biller("birch"), FakeSecrets(), "http://bills", "INV-1", "B-1", UNTIL)
    answer = await house.client.get(link.replace("/birch/", "/acme/"))
    await expect_page(house, answer, 404, "does not work")


async def test_a_missing_key_is_no_500(house: House) -> None:
    await expect_page(house, await house.client.get("/bills/cedar/x"), 503, "right now")


async def test_nothing_is_shown_before_the_revocations_are_known(house: House) -> None:
    house.linked.ready = False
    await expect_page(house, await house.open(), 503, "right now")


# -- revocation ------------------------------------------------------------------------------------------


async def test_a_revoked_link_is_dead_at_once_and_for_good(house: House) -> None:
    house.linked.apply(linked("live"))
    house.linked.apply(linked("live", bill="B-2"))  # a corrected invoice has another bill
    assert (await house.revoke()).json()["bills"] == 2
    assert [event.state for event in house.publisher.events] == ["revoked", "revoked"]
    await expect_page(house, await house.open(), 410, "no longer valid")
    await expect_page(house, await house.open(bill="B-2"), 410, "no longer valid")
    house.linked.apply(linked("live"))  # a check that was under way
    await expect_page(house, await house.open(), 410, "no longer valid")
    assert (await house.revoke()).status_code == 200
    assert len(house.publisher.events) == 2, "once is enough"


async def test_a_revocation_that_the_bus_did_not_take_is_not_promised(house: House) -> None:
    house.linked.apply(linked("live"))
    house.publisher.away = True
    assert (await house.revoke()).status_code == 503
    assert (await house.open()).status_code == 200


async def test_only_the_biller_revokes_and_only_what_is_known(house: House) -> None:
    assert (await house.revoke(Authorization="Bearer wrong")).status_code == 401
    assert (await house.revoke("INV-9")).status_code == 404


def test_what_expired_is_forgotten() -> None:
    view = LinkedBills()
    for event in (linked("revoked"), linked("missing", "INV-2", expires_at=NOON), linked("live", "INV-3")):
        view.apply(event)
    view.forget_expired(NOON)
    assert view.of_invoice("acme", "INV-2") == ()
    assert view.not_live("acme") == []
    assert view.is_revoked("acme", "INV-1", "B-1")
    view.forget_expired(UNTIL)
    assert not view.is_revoked("acme", "INV-1", "B-1")


# -- the address -----------------------------------------------------------------------------------------


class Recorded:
    """Stands for PartnerHttp: remembers the address, and answers a check with the fault it is given."""

    def __init__(self, fault: PartnerError | None = None) -> None:
        self.url = ""
        self.fault = fault

    async def request(self, method: str, url: str, **more: Any) -> Reply:
        del method, url, more
        if self.fault is not None:
            raise self.fault
        return Reply(200, {"Content-Length": "2000"}, b"")

    def stream(self, method: str, url: str, **more: Any) -> None:
        del method, more
        self.url = url


@given(st.text(max_size=40))
def test_whatever_the_bill_id_is_the_address_stays_imts(bill_id: str) -> None:
    http, base = Recorded(), "https://imt.example/imt/acme/bills"
    biller = a_biller(imt="https://imt.example/imt/acme")
    bills = Bills(http, load_wire(ROOT / "schemas").imt, FakeSecrets())  # type: ignore[arg-type]  # stand-ins
    if isinstance(bills.read(biller, bill_id), Missing):
        assert not bill_id.strip(".")
        return
    assert http.url.startswith(base + "/")
    rest = http.url.removeprefix(base + "/")
    assert not set(rest) & set("/?#\\@: ")
    assert rest not in {".", "..", ""}


async def test_a_page_not_found_holds_up_one_bill_and_an_outage_all() -> None:
    async def check(fault: PartnerError | None) -> There | Missing:
        bills = Bills(Recorded(fault), load_wire(ROOT / "schemas").imt, FakeSecrets())  # type: ignore[arg-type]  # stand-ins
        return await bills.check(a_biller(), "B/1")

    assert await check(None) == There(2000)
    with pytest.raises(Retryable):
        await check(Outage("acme", "imt.bills", "answered 404", status=404))
    with pytest.raises(Outage):
        await check(Outage("acme", "imt.bills", "answered 503", status=503))
