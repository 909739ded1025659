"""IMT's DataPump: what counts as its word on a payment, and what leaves it in doubt."""

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from services.bus.billers import Billers
from services.bus.faults import Call, PartnerError
from services.bus.lane import Rejected
from services.bus.partner import Reply, Retryable, Unknown
from services.bus.settings import ROOT
from services.bus.wire import load_wire
from services.payments.imt import DataPump, Posting
from tests.unit.parts import FakeSecrets
from tests.unit.payments_sample import ACME, a_payment

IMT = load_wire(ROOT / "schemas").imt
DAY = date(2026, 11, 23)


class Answering:
    """Answers everything with one status and body."""

    def __init__(self, status: int, body: bytes) -> None:
        self.status, self.body = status, body
        self.sent: list[dict[str, Any]] = []

    async def request(self, method: str, url: str, **more: Any) -> Reply:
        self.sent.append({"method": method, "url": url, **more})
        call = Call(method, more["biller"], more["service"], sent=True)
        return Reply(self.status, {}, self.body, call)


def pump(status: int, body: bytes) -> tuple[DataPump, Answering]:
    http: Any = Answering(status, body)
    secrets: Any = FakeSecrets()
    return DataPump(http, Billers({"acme": ACME}), secrets, IMT), http


NOT_A_WORD = [b"[]", b"null", b'"posted"', b"{}", b'{"Success": false}', b'{"Errors": ["busy"]}', b"{"]


@pytest.mark.parametrize("body", NOT_A_WORD)
async def test_a_success_over_a_body_that_says_nothing_leaves_the_effect_unknown(body: bytes) -> None:
    client, _ = pump(200, body)
    with pytest.raises(Unknown):
        await client.post(a_payment(), DAY)


@pytest.mark.parametrize("body", NOT_A_WORD)
async def test_a_look_up_that_says_nothing_is_asked_again_and_never_means_not_there(body: bytes) -> None:
    client, _ = pump(200, body)
    with pytest.raises(Retryable):
        await client.find("acme", "9b2f-01")


@pytest.mark.parametrize("body", [b'{"Code": "SOMETHING_ELSE"}', b"[]", b"{}"])
async def test_a_no_to_a_look_up_means_not_there_only_in_imts_own_word(body: bytes) -> None:
    client, _ = pump(404, body)
    with pytest.raises(PartnerError):
        await client.find("acme", "9b2f-01")


async def test_a_payment_goes_out_to_the_cent_without_the_fee_and_its_reference_comes_back() -> None:
    name = IMT.services.datapump.reply.get("reference") or IMT.services.datapump.names["reference"]
    client, http = pump(201, f'{{"{name}": "R-7"}}'.encode())
    posted = await client.post(a_payment(PaymentAmount="120.5"), DAY)
    assert posted == Posting("0000012345", Decimal("120.50"), "R-7", DAY)
    sent = http.sent[0]["json"]
    assert "120.50" in sent.values()
    assert not {"2.95", "123.45"} & {str(value) for value in sent.values()}


async def test_imts_no_is_final_and_keeps_its_code() -> None:
    name = IMT.errors.names["code"]
    client, _ = pump(422, f'{{"{name}": "ACCOUNT_CLOSED"}}'.encode())
    answer = await client.post(a_payment(), DAY)
    assert isinstance(answer, Rejected)
    assert "ACCOUNT_CLOSED" in answer.reason or "account_closed" in answer.reason


LISTED = (
    b'{"Payments": [{"PaymentGUID": "G-1", "AccountNumber": "0001", "PaymentAmount": "12.50",'
    b' "BatchDate": "2026-11-23", "Reference": "P1"}], "Next": "7", "More": %s, "Count": 3, "Total": "40.00"}'
)


async def test_a_batch_is_listed_page_by_page() -> None:
    client, http = pump(200, LISTED % b"true")
    page = await client.list_batch("acme", DAY, "5")
    assert page.payments == (("G-1", Posting("0001", Decimal("12.50"), "P1", DAY)),)
    assert (page.after, page.count, page.amount) == ("7", 3, Decimal("40.00"))
    assert http.sent[0]["url"].endswith("/datapump/payments?batchDate=2026-11-23&after=5&limit=200")
    last, _ = pump(200, LISTED % b"false")
    assert (await last.list_batch("acme", DAY)).after is None


@pytest.mark.parametrize(
    "body",
    [b"[]", b"{}", b'{"Payments": {}}', b'{"Payments": [], "More": true}', b'{"Payments": [{}]}', b"{"],
)
async def test_a_list_that_does_not_read_as_agreed_is_never_taken_for_an_empty_one(body: bytes) -> None:
    client, _ = pump(200, body)
    with pytest.raises(Retryable):
        await client.list_batch("acme", DAY)


async def test_a_look_up_says_how_often_the_payment_was_posted() -> None:
    body = b'{"AccountNumber": "0001", "PaymentAmount": "12.50", "BatchDate": null, "Count": 2}'
    client, _ = pump(200, body)
    assert await client.find("acme", "g-1") == Posting("0001", Decimal("12.50"), None, None, count=2)
