"""What IC and others are told of a balance over HTTP."""

from collections.abc import AsyncIterator
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from services.balances.handlers import Desk
from services.balances.imt import NoBalance
from services.balances.intake import balance_routes, load_names
from services.bus.intake import create_app
from services.bus.partner import Outage
from services.bus.settings import ROOT, ConfigurationError
from tests.unit.parts import NOON, FakeSecrets, a_biller
from tests.unit.test_balances import ACCOUNT, a_desk, current, imt

TOKEN = {"Authorization": "Bearer let-me-in"}


class Ic:
    """IC, asking the service's HTTP side."""

    def __init__(self) -> None:
        self.desk: Desk = a_desk(current("100.00"))
        self.billers = {"acme": a_biller()}
        bus: Any = SimpleNamespace(
            settings=SimpleNamespace(body_limit_bytes=2**20, bif_limit_bytes=2**20, concurrency_limit=8),
            billers=self.billers,
            secrets=FakeSecrets(),
            clock=self.desk.clock,
        )
        app = create_app("balances", bus, [balance_routes(self.desk, load_names(ROOT / "schemas"))])
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://balances", headers=TOKEN
        )

    async def ask(self, path: str) -> httpx.Response:
        return await self.client.get(path)


@pytest.fixture
async def ic() -> AsyncIterator[Ic]:
    made = Ic()
    async with made.client:
        yield made


def problem(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert ACCOUNT not in answer.text
    return str(answer.json()["title"])


async def test_rtdr_tells_imts_own_balance(ic: Ic) -> None:
    answer = await ic.ask("/ic/acme/balances/12 345")
    assert answer.json() == {
        "AccountNumber": ACCOUNT,
        "BalanceDue": "120.50",
        "MinimumAmountDue": "120.50",
        "PastDue": "0.00",
        "CurrentCharges": "120.50",
        "CreditAmount": "0.00",
        "AsOf": "2026-11-23T12:00:00.000Z",
        "Stale": False,
    }
    assert answer.headers["cache-control"] == "no-store"
    assert "billbus-stale-since" not in answer.headers


async def test_a_stale_balance_says_so_in_the_body_and_in_a_header(ic: Ic) -> None:
    ic.billers["acme"] = a_biller(rtdr={"on_outage": "stale"})
    imt(ic.desk).answer = Outage("acme", "imt", "refused")
    answer = await ic.ask(f"/ic/acme/balances/{ACCOUNT}")
    assert (answer.json()["BalanceDue"], answer.json()["Stale"]) == ("100.00", True)
    since = (NOON - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.000Z")
    assert answer.json()["AsOf"] == answer.headers["billbus-stale-since"] == since


async def test_an_outage_is_an_error_with_retry_after(ic: Ic) -> None:
    imt(ic.desk).answer = Outage("acme", "imt", "refused", retry_after=7)
    answer = await ic.ask(f"/ic/acme/balances/{ACCOUNT}")
    problem(answer, 503)
    assert answer.headers["retry-after"] == "7"


async def test_unknown_ambiguous_and_refused_say_no_number(ic: Ic) -> None:
    assert problem(await ic.ask("/ic/acme/balances/999"), 404) == "Unknown account"
    assert problem(await ic.ask("/ic/acme/balances/777"), 409) == "Ambiguous account"
    imt(ic.desk).answer = NoBalance("HOLD")
    assert problem(await ic.ask(f"/ic/acme/balances/{ACCOUNT}"), 502) == "No balance from IMT"


async def test_every_surface_wants_the_billers_credential(ic: Ic) -> None:
    for path in ("/ic/acme/balances/1", "/ic/acme/ivr/1", "/billers/acme/balances/1"):
        assert (await ic.client.get(path, headers={"Authorization": "Bearer wrong"})).status_code == 401


async def test_ivr_answers_from_the_views_and_never_as_fresh(ic: Ic) -> None:
    answer = (await ic.ask("/ic/acme/ivr/012-345")).json()
    assert (answer["AccountNumber"], answer["InvoiceNumber"]) == (ACCOUNT, f"INV-{ACCOUNT}")
    assert (answer["BalanceDue"], answer["Stale"]) == ("100.00", True)
    assert problem(await ic.ask("/ic/acme/ivr/777"), 409) == "Ambiguous account"
    assert problem(await ic.ask("/ic/acme/ivr/12345A"), 404) == "Unknown account"
    assert imt(ic.desk).calls == 0


async def test_ivr_knows_an_account_before_its_balance(ic: Ic) -> None:
    ic.desk.balances._balances.clear()
    answer = (await ic.ask("/ic/acme/ivr/12345")).json()
    assert (answer["AccountNumber"], answer["BalanceDue"], answer["AsOf"]) == (ACCOUNT, None, None)


async def test_ivr_must_be_switched_on(ic: Ic) -> None:
    ic.billers["acme"] = a_biller(products={})
    assert problem(await ic.ask(f"/ic/acme/ivr/{ACCOUNT}"), 403) == "IVR not switched on"


async def test_the_local_view_is_told_by_the_canonical_number_alone(ic: Ic) -> None:
    answer = await ic.ask(f"/billers/acme/balances/{ACCOUNT}")
    assert (answer.json()["balance_due"], answer.json()["stale"]) == ("100.00", True)
    assert problem(await ic.ask("/billers/acme/balances/12345"), 404) == "Unknown account"
    ic.desk.balances.ready = False
    assert problem(await ic.ask(f"/billers/acme/balances/{ACCOUNT}"), 503) == "Balance not available"


def test_a_contract_with_a_name_missing_stops_the_service(tmp_path: Any) -> None:
    (tmp_path / "partners").mkdir()
    (tmp_path / "partners" / "rtdr.yaml").write_text("fields: {account: AccountNumber}")
    with pytest.raises(ConfigurationError, match=r"fields\.balance_due is missing"):
        load_names(tmp_path)
