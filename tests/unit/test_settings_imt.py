"""The client of IMT's Settings over real HTTP, against answers of every kind."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from services.bus.billers import Billers
from services.bus.lane import Posted, Rejected
from services.bus.partner import Outage, PartnerError, PartnerHttp, Retryable, Unknown
from services.bus.secrets import Secrets
from services.bus.wire import load_wire
from services.settings.imt import ImtSettings, Standing
from tests.unit.settings_sample import ACCOUNT, PARTNERS, POLICY, acme, setting

APPLIED = {"Number": ACCOUNT, "Indicator": "AutoPay", "Value": "T", "Reference": "S-1", "ChangeID": "c-1"}


class Answers:
    """An IMT that answers as it is told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body: Any = APPLIED
        self.text: str | None = None
        self.asked: list[tuple[str, str, Any, str]] = []

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json() if request.can_read_body else None
        self.asked.append((request.method, request.raw_path, body, request.headers["Authorization"]))
        if self.text is not None:
            return web.Response(status=self.status, text=self.text, content_type="text/html")
        return web.json_response(self.body, status=self.status)


@pytest.fixture
async def answers() -> Answers:
    return Answers()


@pytest.fixture
async def imt(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ImtSettings]:
    monkeypatch.setenv("BILLBUS_SECRET_ACME_IMT_TOKEN", "t0ken")
    app = web.Application()
    app.router.add_route("*", "/{rest:.*}", answers.answer)
    async with TestServer(app) as server, PartnerHttp() as partners:
        services = ("payments_due", "datapump", "settings", "bills")
        access = {name: str(server.make_url(f"/imt/acme/{name}")) for name in services}
        biller = acme(imt=access | {"token": "acme-imt-token"})
        wire = load_wire(PARTNERS.parent).imt
        yield ImtSettings(partners, Billers({"acme": biller}), Secrets(), wire)


@pytest.mark.parametrize(("value", "word"), [(True, "T"), (False, "F")])
async def test_an_indicator_is_posted_to_its_number(
    imt: ImtSettings, answers: Answers, value: bool, word: str
) -> None:
    assert await imt.set_indicator(setting(value=value), ACCOUNT) == Posted("S-1")
    assert answers.asked == [
        (
            "POST",
            f"/imt/acme/settings/{ACCOUNT}",
            {
                "Indicator": "AutoPay",
                "Value": word,
                "ChangedAt": "2026-11-20T12:00:00.000Z",
                "ChangeID": "c-1",
            },
            "Bearer t0ken",
        )
    ]


async def test_paperless_is_posted_under_imts_own_name(imt: ImtSettings, answers: Answers) -> None:
    await imt.set_indicator(setting(indicator="paperless", changed_at=None), POLICY)

    assert answers.asked[0][2] == {"Indicator": "Paperless", "Value": "T", "ChangeID": "c-1"}


async def test_a_number_with_a_slash_stays_one_part_of_the_address(
    imt: ImtSettings, answers: Answers
) -> None:
    await imt.set_indicator(setting(), "HO/77 ?x")

    assert answers.asked[0][1] == "/imt/acme/settings/HO%2F77%20%3Fx"


async def test_imts_no_is_a_rejection_with_its_code(imt: ImtSettings, answers: Answers) -> None:
    answers.status, answers.body = 422, {"Code": "UNKNOWN_NUMBER", "Message": f"no number {ACCOUNT}"}
    settlement = await imt.set_indicator(setting(), ACCOUNT)

    assert isinstance(settlement, Rejected)
    assert settlement.reason == "unknown_number"
    assert ACCOUNT not in (settlement.detail or "")


@pytest.mark.parametrize(
    ("status", "body", "text", "kind"),
    [
        (200, {}, None, Unknown),
        (200, [], None, Unknown),
        (200, None, "<html>proxy</html>", Unknown),
        (500, {}, None, Unknown),
        (401, {}, None, Outage),
        (503, {}, "<html>maintenance</html>", Outage),
        (429, {}, None, Retryable),
    ],
)
async def test_an_answer_that_is_none_is_told_by_what_may_have_happened(
    imt: ImtSettings, answers: Answers, status: int, body: Any, text: str | None, kind: type[PartnerError]
) -> None:
    answers.status, answers.body, answers.text = status, body, text

    with pytest.raises(kind):
        await imt.set_indicator(setting(), ACCOUNT)


async def test_an_indicator_is_read_with_the_change_that_set_it(imt: ImtSettings, answers: Answers) -> None:
    paper = {"Indicator": "Paperless", "Value": "F", "Reference": "S-0"}
    answers.body = {"Number": ACCOUNT, "Settings": [paper, APPLIED]}

    assert await imt.read_indicator(setting(), ACCOUNT) == Standing(True, "c-1", "S-1")
    assert await imt.read_indicator(setting(indicator="paperless"), ACCOUNT) == Standing(False, None, "S-0")
    assert answers.asked[0][:2] == ("GET", f"/imt/acme/settings/{ACCOUNT}")


@pytest.mark.parametrize("code", ["NOT_FOUND", "UNKNOWN_NUMBER"])
async def test_a_number_without_settings_has_none(imt: ImtSettings, answers: Answers, code: str) -> None:
    answers.status, answers.body = 404, {"Code": code, "Message": "none"}
    assert await imt.read_indicator(setting(), ACCOUNT) is None

    answers.status, answers.body = 200, {"Number": ACCOUNT, "Settings": []}
    assert await imt.read_indicator(setting(), ACCOUNT) is None


@pytest.mark.parametrize(
    "body",
    [[], {"Number": ACCOUNT}, {"Settings": ["x"]}, {"Settings": [{"Indicator": "AutoPay", "Value": "yes"}]}],
)
async def test_a_look_up_that_makes_no_sense_is_tried_again(
    imt: ImtSettings, answers: Answers, body: Any
) -> None:
    answers.body = body

    with pytest.raises(Retryable):
        await imt.read_indicator(setting(), ACCOUNT)
