"""What IC is answered for its change log, and how an enrollment is told."""

import json
from collections.abc import AsyncIterator, Sequence
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from services.bus.clock import Clock
from services.bus.identity import digest
from services.bus.intake import create_app
from services.bus.publisher import NotAcknowledged
from services.events import AppliedSetting, EnrollmentCurrent, SettingChanged
from services.settings.intake import ChangeLog, EnrollmentView, routes
from tests.unit.settings_sample import ACCOUNT, NOON, POLICY, account, accounts, acme, reader, support

TOKEN = {"Authorization": "Bearer let-me-in"}


class Publisher:
    """Keeps what it is given; does not acknowledge what it is told not to."""

    def __init__(self) -> None:
        self.published: list[SettingChanged] = []
        self.unacknowledged: set[str] = set()

    async def publish_each(self, events: Sequence[SettingChanged]) -> list[NotAcknowledged | None]:
        self.published += events
        return [NotAcknowledged("late") if e.change_id in self.unacknowledged else None for e in events]


class Intake:
    """The service's HTTP side over a publisher in memory."""

    def __init__(self) -> None:
        self.publisher = Publisher()
        self.enrollments = EnrollmentView()
        self.enrollments.ready = True
        view = accounts(
            account(ACCOUNT, POLICY), account("0000054321", "AU-1"), account("0000065432", "AU-1")
        )
        bus: Any = SimpleNamespace(
            settings=SimpleNamespace(body_limit_bytes=2**20, bif_limit_bytes=2**20, concurrency_limit=8),
            billers={"acme": acme()},
            secrets=SimpleNamespace(get=lambda _: "let-me-in"),
            support=support(),
            publisher=self.publisher,
            clock=Clock(),
        )
        router = routes(ChangeLog(bus, reader(), view, self.enrollments), reader(), view, self.enrollments)
        self.app = create_app("settings", bus, [router])
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://intake", headers=TOKEN
        )

    async def post(self, body: object) -> httpx.Response:
        return await self.client.post("/ic/acme/changes", json=body)

    async def enrollment(self, typed: str) -> httpx.Response:
        return await self.client.get(f"/ic/acme/enrollments/{typed}")


@pytest.fixture
async def intake() -> AsyncIterator[Intake]:
    made = Intake()
    async with made.client:
        yield made


def autopay(change_id: str, **fields: object) -> dict[str, object]:
    return {"ChangeID": change_id, "Type": "AutoPay", "AccountNumber": "12345", "AutoPay": "True"} | fields


async def test_one_change_is_taken_and_a_repeat_is_answered_alike(intake: Intake) -> None:
    first, again = await intake.post(autopay("c-1")), await intake.post(autopay("c-1"))

    assert (first.status_code, first.json()) == (again.status_code, again.json())
    assert first.json() == {"index": 0, "ChangeID": "c-1", "status": "accepted"}
    assert [event.account for event in intake.publisher.published] == [ACCOUNT, ACCOUNT]


async def test_a_log_is_answered_change_by_change_and_the_good_ones_go_on(intake: Intake) -> None:
    told = [
        autopay("c-1"),
        autopay("c-2", AutoPay="maybe"),
        autopay("c-3", Type="SSO"),
        {"ChangeID": "c-4", "Type": "PaperInvoices", "AccountNumber": "12345", "PaperInvoices": "False"},
        "not an object",
    ]
    response = await intake.post({"changes": told})

    assert response.status_code == 207
    answer = response.json()
    assert [(r["index"], r.get("ChangeID"), r["status"]) for r in answer["results"]] == [
        (0, "c-1", "accepted"),
        (1, "c-2", "malformed"),
        (2, "c-3", "refused"),
        (3, "c-4", "accepted"),
        (4, None, "malformed"),
    ]
    assert answer["results"][1]["field"] == "AutoPay"
    assert answer["results"][2]["type"] == "urn:billbus:unsupported:sso"
    assert (answer["accepted"], answer["malformed"], answer["refused"], answer["try_again"]) == (2, 2, 1, 0)
    assert [(e.change_id, e.indicator, e.value) for e in intake.publisher.published] == [
        ("c-1", "autopay", True),
        ("c-4", "paperless", True),
    ]


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        ("null", "change"),
        ('{"ChangeID": "c-2", "ChangeID": "c-3"}', "ChangeID"),
        ('{"ChangeID": "c\\u0007"}', "ChangeID"),
        ('{"ChangeID": "\\ud800"}', "ChangeID"),
    ],
)
async def test_a_change_that_can_be_misread_does_not_refuse_the_others(
    intake: Intake, bad: str, field: str
) -> None:
    response = await intake.client.post(
        "/ic/acme/changes",
        content=f'{{"changes": [{bad}, {json.dumps(autopay("c-1"))}]}}',
        headers={"Content-Type": "application/json"},
    )

    assert response.status_code == 207, response.text
    answer = response.json()
    assert [result["status"] for result in answer["results"]] == ["malformed", "accepted"]
    assert answer["results"][0]["field"] == field
    assert [event.change_id for event in intake.publisher.published] == ["c-1"]


async def test_a_malformed_change_alone_is_a_problem_naming_the_field(intake: Intake) -> None:
    response = await intake.post(autopay("c-1", AutoPay="maybe"))

    assert response.status_code == 422
    assert response.json()["errors"] == [{"field": "AutoPay", "expected": "True or False"}]
    assert intake.publisher.published == []


@pytest.mark.parametrize("kind", ["MultiUserLogIn", "CoOwnerRegistration", "SSO"])
async def test_what_is_not_supported_is_refused_by_name(intake: Intake, kind: str) -> None:
    response = await intake.post(autopay("c-1", Type=kind))

    assert response.status_code == 422
    assert response.json()["type"].startswith("urn:billbus:unsupported:")
    assert response.json()["title"].startswith("Not supported: ")
    assert intake.publisher.published == []


async def test_unlinking_publishes_the_link_and_the_end_of_autopay(intake: Intake) -> None:
    response = await intake.post(autopay("c-1", Type="AccountUnlink"))

    assert response.status_code == 200
    assert [(e.change_id, e.indicator, e.value, e.cause) for e in intake.publisher.published] == [
        ("c-1", "account_link", False, None),
        ("c-1.autopay", "autopay", False, "unlink"),
        (f"c-1.autopay.{digest(POLICY)[:8]}", "autopay", False, "unlink"),
    ]


async def test_unlinking_by_a_policy_ends_autopay_on_the_account_number_as_well(intake: Intake) -> None:
    change = autopay("c-1", Type="AccountUnlink") | {"AccountNumber": "", "PolicyNumber": POLICY}
    assert (await intake.post(change)).status_code == 200

    ended = [(e.imt_number, e.value) for e in intake.publisher.published if e.indicator == "autopay"]
    assert ended == [(POLICY, False), (ACCOUNT, False)]


async def test_unlinking_ends_an_autopay_that_the_newest_bill_does_not_name(intake: Intake) -> None:
    applied = (AppliedSetting(number="OLD-1", indicator="autopay", value=True, rank="1"),)
    intake.enrollments.take(
        EnrollmentCurrent(biller="acme", account=ACCOUNT, applied=applied, updated_at=NOON)
    )
    await intake.post(autopay("c-1", Type="AccountUnlink"))

    ended = {e.imt_number for e in intake.publisher.published if e.indicator == "autopay"}
    assert ended == {ACCOUNT, POLICY, "OLD-1"}


async def test_unlinking_ends_autopay_on_every_number_of_the_account(intake: Intake) -> None:
    stands = [(ACCOUNT, "autopay", True), (POLICY, "autopay", True), (POLICY, "paperless", True)]
    applied = tuple(AppliedSetting(number=n, indicator=i, value=v, rank="1") for n, i, v in stands)
    intake.enrollments.take(
        EnrollmentCurrent(biller="acme", account=ACCOUNT, applied=applied, updated_at=NOON)
    )
    await intake.post(autopay("c-1", Type="AccountUnlink"))
    await intake.post(autopay("c-1", Type="AccountUnlink"))

    link, account_itself, policy, *again = intake.publisher.published
    assert (link.indicator, account_itself.imt_number, policy.imt_number) == ("account_link", ACCOUNT, POLICY)
    assert (policy.indicator, policy.value, policy.number_kind, policy.account) == (
        "autopay",
        False,
        "policy",
        ACCOUNT,
    )
    assert policy.change_id.startswith("c-1.autopay.")
    assert [(e.change_id, e.content) for e in again] == [
        (e.change_id, e.content) for e in (link, account_itself, policy)
    ]


async def test_what_the_bus_did_not_take_is_asked_for_again(intake: Intake) -> None:
    intake.publisher.unacknowledged = {"c-2", "c-3.autopay"}
    told = [autopay("c-1"), autopay("c-2"), autopay("c-3", Type="AccountUnlink")]
    response = await intake.post({"changes": told})

    assert response.status_code == 207
    assert [r["status"] for r in response.json()["results"]] == ["accepted", "try_again", "try_again"]


async def test_when_the_bus_takes_nothing_the_whole_log_is_asked_for_again(intake: Intake) -> None:
    intake.publisher.unacknowledged = {"c-1"}

    for body in (autopay("c-1"), {"changes": [autopay("c-1"), "bad"]}):
        response = await intake.post(body)
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) > 0


async def test_half_an_unlink_is_not_accepted(intake: Intake) -> None:
    intake.publisher.unacknowledged = {"c-1.autopay"}

    assert (await intake.post(autopay("c-1", Type="AccountUnlink"))).status_code == 503


@pytest.mark.parametrize("several", [[], "c-1", None, [{}] * 501])
async def test_an_envelope_holds_1_to_500_changes(intake: Intake, several: object) -> None:
    response = await intake.post({"changes": several})

    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "changes"


async def test_500_changes_are_taken_at_once(intake: Intake) -> None:
    response = await intake.post({"changes": [autopay(f"c-{n}") for n in range(500)]})

    assert (response.status_code, response.json()["accepted"]) == (200, 500)
    assert len(intake.publisher.published) == 500


async def test_without_a_credential_nothing_is_read(intake: Intake) -> None:
    intake.client.headers.pop("Authorization")

    assert (await intake.post(autopay("c-1"))).status_code == 401
    assert (await intake.enrollment("12345")).status_code == 401
    assert intake.publisher.published == []


async def test_an_ambiguous_policy_is_taken_for_a_person_to_decide(intake: Intake) -> None:
    response = await intake.post(autopay("c-1", AccountNumber=None, PolicyNumber="AU-1"))

    (event,) = intake.publisher.published
    assert response.status_code == 200
    assert (event.account, event.resolution) == ("?c-1/autopay", "ambiguous")
    assert set(event.candidates) == {"0000054321", "0000065432"}


async def test_an_enrollment_is_told_by_the_number_as_typed(intake: Intake) -> None:
    applied = AppliedSetting(number=ACCOUNT, indicator="autopay", value=True, rank="1")
    intake.enrollments.take(
        EnrollmentCurrent(biller="acme", account=ACCOUNT, autopay=True, applied=(applied,), updated_at=NOON)
    )

    assert (await intake.enrollment("123-45")).json() == {
        "account": ACCOUNT,
        "autopay": True,
        "paperless": None,
        "linked": None,
        "settings": [{"number": ACCOUNT, "indicator": "autopay", "value": True}],
        "as_of": "2026-11-20T12:00:00Z",
    }


async def test_of_a_known_account_nothing_may_be_known_yet(intake: Intake) -> None:
    response = await intake.enrollment("54321")

    assert response.status_code == 200
    assert response.json()["autopay"] is None


async def test_an_unknown_account_has_no_enrollment(intake: Intake) -> None:
    assert (await intake.enrollment("999")).status_code == 404


async def test_no_enrollment_is_told_before_the_view_is_whole(intake: Intake) -> None:
    intake.enrollments.ready = False

    response = await intake.enrollment("12345")
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")


async def test_no_change_is_taken_before_numbers_can_be_looked_up(intake: Intake) -> None:
    intake.enrollments.ready = False

    response = await intake.post(autopay("c-1"))
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert intake.publisher.published == []
