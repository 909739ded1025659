"""What IC is answered for a payment while the service has just started, and once it knows the accounts."""

import json
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from services.bus.clock import Clock
from services.bus.intake import create_app
from services.bus.publisher import NotAcknowledged
from services.events import PaymentReceived
from services.payments.intake import routes
from tests.unit.payments_sample import ACCOUNT, ACME, a_bank_file_reader, a_form, a_reader, accounts

TOKEN = {"Authorization": "Bearer let-me-in"}


class Intake:
    """The service's HTTP side over a publisher in memory."""

    def __init__(self) -> None:
        self.published: list[PaymentReceived] = []
        self.away_after: int | None = None
        self.asked_to_publish = 0
        self.accounts = accounts()
        self.guid = ACME.invoice_cloud.biller_guid
        bus: Any = SimpleNamespace(
            settings=SimpleNamespace(body_limit_bytes=2**20, bif_limit_bytes=2**20, concurrency_limit=8),
            billers={"acme": ACME},
            secrets=SimpleNamespace(get=lambda _: "let-me-in"),
            support=None,
            publisher=SimpleNamespace(publish=self.publish, publish_each=self.publish_each),
            clock=Clock(),
        )
        self.app = create_app("payments", bus, [routes(bus, self.accounts, a_reader(), a_bank_file_reader())])
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://intake", headers=TOKEN
        )

    async def publish(self, event: PaymentReceived) -> None:
        self.published.append(event)

    async def publish_each(self, events: list[PaymentReceived]) -> list[NotAcknowledged | None]:
        self.asked_to_publish += len(events)
        if self.away_after is not None and len(self.published) >= self.away_after:
            return [NotAcknowledged("away") for _ in events]
        self.published += events
        return [None] * len(events)


@pytest.fixture
async def intake() -> AsyncIterator[Intake]:
    made = Intake()
    async with made.client:
        yield made


async def test_a_payment_before_the_accounts_are_known_is_to_be_sent_again_never_parked(
    intake: Intake,
) -> None:
    form = a_form(BillerGUID=intake.guid)
    early = [
        await intake.client.post("/ic/acme/payments", data=form),
        await intake.client.post("/ic/acme/payments/batch", json={"payments": [form]}),
    ]
    assert [each.status_code for each in early] == [503, 503]
    assert all(each.headers["retry-after"] for each in early)
    assert intake.published == []

    intake.accounts.ready = True
    again = await intake.client.post("/ic/acme/payments", data=form)
    assert again.status_code == 200
    assert [(event.account, event.resolution) for event in intake.published] == [(ACCOUNT, "matched")]


async def test_a_receipt_names_the_payment_as_ic_does(intake: Intake) -> None:
    intake.accounts.ready = True
    form = a_form(BillerGUID=intake.guid, PaymentGUID="{9B2F-01}")
    alone = await intake.client.post("/ic/acme/payments", data=form)
    batch = await intake.client.post("/ic/acme/payments/batch", json={"payments": [form]})
    assert alone.json()["PaymentGUID"] == "{9B2F-01}"
    assert batch.json()["results"][0]["PaymentGUID"] == "{9B2F-01}"


async def test_a_form_is_not_refused_for_the_bytes_of_a_text(intake: Intake) -> None:
    intake.accounts.ready = True
    form = urlencode(a_form(BillerGUID=intake.guid) | {"PaymentMessage": "Approved\r\n\x07"})
    answer = await intake.client.post(
        "/ic/acme/payments",
        content=f"{form}&CustomerName=Jos%E9",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )
    assert answer.status_code == 200, answer.text
    assert intake.published[0].payer_name == "Jos\ufffd"


TWICE = '{"PaymentGUID": "g-2", "PaymentGUID": "g-3"}'


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ('"garbage"', "payment"),
        ("null", "payment"),
        ("[]", "payment"),
        (TWICE, "PaymentGUID"),
        ('{"PaymentGUID": "a\\u0007b"}', "PaymentGUID"),
        ('{"PaymentGUID": "g-2", "PaymentAmount": 1e999}', "PaymentAmount"),
    ],
)
async def test_one_bad_item_is_answered_by_itself_and_the_others_are_taken(
    intake: Intake, bad: str, field: str
) -> None:
    intake.accounts.ready = True
    good = json.dumps(a_form(BillerGUID=intake.guid))
    answer = await intake.client.post(
        "/ic/acme/payments/batch",
        content=f'{{"payments": [{bad}, {good}]}}',
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 207, answer.text
    told = answer.json()
    assert [each["status"] for each in told["results"]] == ["malformed", "accepted"]
    assert told["results"][0]["field"] == field
    assert [event.account for event in intake.published] == [ACCOUNT]


@pytest.mark.parametrize(
    "body",
    [
        '{"payments": []}',
        '{"payments": {}}',
        "{}",
        "[]",
        '{"payments": [{}], "payments": [{}]}',
        json.dumps({"payments": [{}] * 501}),
    ],
)
async def test_what_is_no_batch_is_refused_whole(intake: Intake, body: str) -> None:
    intake.accounts.ready = True
    answer = await intake.client.post(
        "/ic/acme/payments/batch", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] in ("payments", "body")


def test_the_openapi_document_says_what_a_form_and_a_bank_file_are(intake: Intake) -> None:
    paths = intake.app.openapi()["paths"]
    form = paths["/ic/{biller}/payments"]["post"]["requestBody"]["content"]
    assert "PaymentGUID" in form["application/x-www-form-urlencoded"]["schema"]["properties"]
    assert "text/csv" in paths["/ic/{biller}/bank-files"]["post"]["requestBody"]["content"]


def test_the_openapi_document_says_what_a_batch_is(intake: Intake) -> None:
    operation = intake.app.openapi()["paths"]["/ic/{biller}/payments/batch"]["post"]
    batch = operation["requestBody"]["content"]["application/json"]["schema"]
    assert batch["required"] == ["payments"]
    assert (batch["properties"]["payments"]["minItems"], batch["properties"]["payments"]["maxItems"]) == (
        1,
        500,
    )


async def test_a_bank_file_may_be_as_large_as_its_layout_says(intake: Intake) -> None:
    intake.accounts.ready = True
    head = "PaymentGUID,AccountNumber,PaymentAmount,PaymentDate,BankName,TraceNumber\n"
    rows = [
        f"g-{n:05d}-aaaaaaaaaaaaaaaaaaaaaaaaaaaa,1234567890,1.00,2026-11-20,"
        f"First Invented Bank of Nowhere,TRACE-{n:012d}\n"
        for n in range(10_000)
    ]
    rows[7] = rows[7].replace("1.00", "one")
    body = f"{head}{''.join(rows)}TRAILER,10000,9999.00\n"
    assert len(body) > 2**20
    answer = await intake.client.post(
        "/ic/acme/bank-files", content=body, headers={"Content-Type": "text/csv"}
    )
    assert answer.status_code == 207, answer.text[:200]
    assert (answer.json()["accepted"], answer.json()["malformed"]) == (9999, 1)
    assert len(intake.published) == 9999

    too_large = await intake.client.post("/ic/acme/bank-files", content=b"x" * (2 * 2**20 + 1))
    assert too_large.status_code == 413


async def test_the_rest_of_a_file_is_not_tried_while_the_bus_is_away(intake: Intake) -> None:
    intake.accounts.ready = True
    intake.away_after = 500
    head = "PaymentGUID,AccountNumber,PaymentAmount,PaymentDate\n"
    rows = "".join(f"g-{n},{ACCOUNT},1.00,2026-11-20\n" for n in range(2000))
    answer = await intake.client.post(
        "/ic/acme/bank-files",
        content=f"{head}{rows}TRAILER,2000,2000.00\n",
        headers={"Content-Type": "text/csv"},
    )
    assert answer.status_code == 207
    assert (answer.json()["accepted"], answer.json()["try_again"]) == (500, 1500)
    assert intake.asked_to_publish == 1000
