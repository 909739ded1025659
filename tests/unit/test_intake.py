"""What every service's intake refuses, and how it says so."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Annotated, Any

import httpx
import pytest
import structlog
from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel

from services.bus.auth import biller_of
from services.bus.billers import Biller
from services.bus.bodies import Bodies, streams
from services.bus.clock import Clock
from services.bus.intake import create_app
from services.bus.problem import Problem
from services.bus.publisher import NotAcknowledged
from services.bus.settings import ConfigurationError
from services.bus.support import Row, Unsupported

SECRETS = {"acme-password": "s3cret", "acme-bearer": "tok-acme", "birch-bearer": "tok-birch"}
ROW = Row(
    slug="void",
    name="Void",
    kind="data",
    status="not_supported",
    sentence="IMT takes no voids.",
    enforced_at=(),
    test="",
)


class FakeSecrets:
    def get(self, name: str) -> str:
        if name not in SECRETS:
            raise ConfigurationError([f"secret {name}: missing"])
        return SECRETS[name]


def biller(slug: str) -> Any:
    names = SimpleNamespace(user=f"{slug}-user", password=f"{slug}-password", bearer=f"{slug}-bearer")
    return SimpleNamespace(slug=slug, intake=names)


class Amount(BaseModel):
    guid: str
    amount: Decimal


class Amounts(BaseModel):
    payments: list[Amount]


class Slow:
    """Holds requests until told to go on."""

    def __init__(self) -> None:
        self.entered = asyncio.Semaphore(0)
        self.go_on = asyncio.Event()


def routes(slow: Slow) -> APIRouter:
    router = APIRouter()

    @router.post("/amounts")
    async def amounts(body: Amounts) -> dict[str, int]:
        return {"count": len(body.payments)}

    @router.post("/form")
    async def form(request: Request) -> dict[str, str]:
        return {name: str(value) for name, value in (await request.form()).items()}

    @router.post("/stream")
    @streams
    async def stream(request: Request) -> dict[str, int]:
        return {"bytes": sum([len(chunk) async for chunk in request.stream()])}

    @router.get("/fails/{how}")
    async def fails(how: str) -> None:
        raise {
            "fault": ValueError("Jane Doe, 12 Elm Street"),
            "bus": NotAcknowledged("no acknowledgement"),
            "row": Unsupported(ROW),
            "problem": Problem(409, "Conflict", "Twice.", retry_after=3),
        }[how]

    @router.get("/who/{biller}")
    async def who(biller: Annotated[Biller, Depends(biller_of)]) -> dict[str, str]:
        return {"biller": biller.slug}

    @router.get("/slow")
    @router.get("/slow/{biller}")
    async def wait() -> None:
        slow.entered.release()
        await slow.go_on.wait()

    return router


Asks = Callable[..., Any]


def make_client(slow: Slow, **settings: int) -> httpx.AsyncClient:
    limits = {"body_limit_bytes": 4096, "bif_limit_bytes": 10_000, "concurrency_limit": 4} | settings

    async def recovered() -> bool:
        return True

    def broken() -> bool:
        raise OSError

    bus: Any = SimpleNamespace(
        settings=SimpleNamespace(**limits),
        billers={slug: biller(slug) for slug in ("acme", "birch")},
        secrets=FakeSecrets(),
        clock=Clock(),
    )
    app = create_app(
        "payments", bus, [routes(slow)], {"views": recovered, "broker": lambda: False, "registry": broken}
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://intake")


@pytest.fixture
async def slow() -> Slow:
    return Slow()


@pytest.fixture
async def client(slow: Slow) -> AsyncIterator[httpx.AsyncClient]:
    async with make_client(slow) as made:
        yield made


async def in_chunks(total: int) -> AsyncIterator[bytes]:
    for _ in range(total // 1000):
        yield b"x" * 1000


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    return document


async def test_a_good_body_is_taken_and_the_trace_goes_on(client: httpx.AsyncClient) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    answer = await client.post(
        "/amounts",
        json={"payments": [{"guid": "a", "amount": "1.00"}]},
        headers={"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"},
    )
    assert answer.json() == {"count": 1}
    assert answer.headers["traceparent"].split("-")[1] == trace_id
    assert answer.headers["traceparent"].split("-")[2] != "00f067aa0ba902b7"


async def test_a_request_is_one_line_of_the_log_by_its_route_and_never_by_its_address(
    client: httpx.AsyncClient,
) -> None:
    with structlog.testing.capture_logs() as lines:
        await client.get("/who/acme", auth=("acme-user", "s3cret"))
        await client.get("/fails/0000012345")
        await client.get("/livez")
        await client.get("/metrics")
    told = [line for line in lines if line["event"] == "request"]
    assert [(line["route"], line["status"], line["biller"]) for line in told] == [
        ("/who/{biller}", 200, "acme"),
        ("/fails/{how}", 500, None),
    ]
    assert "0000012345" not in str(told)


@pytest.mark.parametrize("path", ["/amounts", "/form"])
async def test_a_body_beyond_the_limit_is_413_with_and_without_length(
    client: httpx.AsyncClient, path: str
) -> None:
    problem(await client.post(path, content=b"x" * 5000), 413)
    problem(await client.post(path, content=in_chunks(5000)), 413)


async def test_a_streamed_body_has_its_own_limit(client: httpx.AsyncClient) -> None:
    assert (await client.post("/stream", content=in_chunks(9000))).json() == {"bytes": 9000}
    problem(await client.post("/stream", content=in_chunks(11_000)), 413)
    problem(await client.post("/stream", content=b"x" * 11_000), 413)


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        (b'{"payments": [], "payments": []}', 422, "payments"),
        (b'{"payments": [{"guid": "a", "amount": NaN}]}', 422, "payments[0].amount"),
        (b'{"payments": [{"guid": "a", "amount": Infinity}]}', 422, "payments[0].amount"),
        (b'{"payments": [{"guid": "a", "amount": 1e999}]}', 422, "payments[0].amount"),
        (b'{"payments": [{"guid": "a\\u0000", "amount": 1}]}', 422, "payments[0].guid"),
        (b'{"payments": [{"guid": "\\ud800", "amount": 1}]}', 422, "payments[0].guid"),
        (b'{"payments": [{"guid": "Jane", "amount": "Doe"}]}', 422, "payments[0].amount"),
        (b'{"payments": [{"amount": "1"}]}', 422, "payments[0].guid"),
        (b'{"a": 1', 400, None),
        (b'{"a": "\xff"}', 400, None),
        (b"[" * 17 + b"]" * 17, 400, None),
        (b"[" * 2000, 400, None),
        (b"9" * 4090, 422, "body"),
    ],
)
async def test_json_that_can_be_misread_is_refused_naming_the_field(
    client: httpx.AsyncClient, body: bytes, status: int, field: str | None
) -> None:
    answer = await client.post("/amounts", content=body, headers={"content-type": "application/json"})
    document = problem(answer, status)
    assert [error["field"] for error in document.get("errors", [])] == ([field] if field else [])
    assert "Jane" not in answer.text
    assert "Doe" not in answer.text


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"a=1&b=2", 200),
        (b"a=1&a=2", 422),
        (b"a=%00", 422),
        (b"a=%FF", 400),
        (b"&".join(b"f%d=1" % n for n in range(201)), 400),
    ],
)
async def test_a_form_is_plain_and_unambiguous(client: httpx.AsyncClient, body: bytes, status: int) -> None:
    answer = await client.post(
        "/form", content=body, headers={"content-type": "application/x-www-form-urlencoded"}
    )
    if status == 200:
        assert answer.json() == {"a": "1", "b": "2"}
    else:
        problem(answer, status)


async def test_control_characters_in_the_address_are_refused(client: httpx.AsyncClient) -> None:
    problem(await client.get("/who/ac%00me"), 400)
    problem(await client.get("/livez?x=%00"), 400)


async def test_an_encoded_body_is_refused(client: httpx.AsyncClient) -> None:
    problem(await client.post("/amounts", content=b"x", headers={"content-encoding": "gzip"}), 415)


async def test_a_fault_of_ours_tells_nothing(client: httpx.AsyncClient) -> None:
    answer = await client.get("/fails/fault")
    assert problem(answer, 500)["title"] == "Internal error"
    assert "Jane" not in answer.text


async def test_refusals_that_routes_raise(client: httpx.AsyncClient) -> None:
    late = await client.get("/fails/bus")
    problem(late, 503)
    assert int(late.headers["retry-after"]) > 0
    assert problem(await client.get("/fails/row"), 422) == {
        "type": "urn:billbus:unsupported:void",
        "title": "Not supported: Void",
        "status": 422,
        "detail": "IMT takes no voids.",
    }
    assert (await client.get("/fails/problem")).headers["retry-after"] == "3"
    counted = (await client.get("/metrics")).text
    assert 'billbus_refused_total{row="void",service="payments"}' in counted
    assert 'route="/fails/{how}"' in counted


async def test_unknown_addresses_and_methods_are_problems(client: httpx.AsyncClient) -> None:
    problem(await client.get("/nowhere"), 404)
    refused = await client.get("/amounts")
    problem(refused, 405)
    assert refused.headers["allow"] == "POST"


def basic(user: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "path", "status"),
    [
        (basic("acme-user", "s3cret"), "acme", 200),
        ({"authorization": "Bearer tok-acme"}, "acme", 200),
        ({"authorization": "bearer tok-birch"}, "birch", 200),
        ({}, "acme", 401),
        (basic("acme-user", "wrong"), "acme", 401),
        (basic("birch-user", "s3cret"), "acme", 401),
        (basic("birch-user", ""), "birch", 401),
        ({"authorization": "Basic %%%"}, "acme", 401),
        ({"authorization": "Bearer"}, "acme", 401),
        ({"authorization": "Bearer nope"}, "nobody", 401),
        ({"authorization": "Bearer tok-birch"}, "acme", 403),
        ({"authorization": "Bearer tok-birch"}, "nobody", 403),
    ],
)
async def test_only_the_billers_own_credential_opens(
    client: httpx.AsyncClient, headers: dict[str, str], path: str, status: int
) -> None:
    answer = await client.get(f"/who/{path}", headers=headers)
    if status == 200:
        assert answer.json() == {"biller": path}
    else:
        problem(answer, status)
    if status == 401:
        assert answer.headers["www-authenticate"].startswith("Basic")


async def test_a_crowd_is_told_to_come_back_and_probes_get_in(slow: Slow) -> None:
    async with make_client(slow, concurrency_limit=1) as client:
        first = asyncio.create_task(client.get("/slow"))
        await slow.entered.acquire()
        crowded = await client.get("/slow")
        problem(crowded, 429)
        assert crowded.headers["retry-after"] == "1"
        assert (await client.get("/livez")).status_code == 200
        slow.go_on.set()
        assert (await first).status_code == 200
        assert (await client.get("/slow")).status_code == 200


async def test_one_biller_leaves_room_for_others(slow: Slow) -> None:
    async with make_client(slow, concurrency_limit=4) as client:
        waiting = [asyncio.create_task(client.get("/slow/acme")) for _ in range(3)]
        for _ in range(3):
            await slow.entered.acquire()
        problem(await client.get("/slow/acme"), 429)
        other = asyncio.create_task(client.get("/slow/birch"))
        await slow.entered.acquire()
        slow.go_on.set()
        assert {answer.status_code for answer in await asyncio.gather(*waiting, other)} == {200}


async def test_not_ready_names_what_is_missing(client: httpx.AsyncClient) -> None:
    assert problem(await client.get("/readyz"), 503)["missing"] == ["broker", "registry"]


async def test_a_body_that_trickles_is_408(slow: Slow) -> None:
    class Hurried(Clock):
        """Ten seconds pass between two looks."""

        def __init__(self) -> None:
            self.now_s = 0.0

        def monotonic(self) -> float:
            self.now_s += 10
            return self.now_s

    client = make_client(slow)
    app = client._transport.app  # type: ignore[attr-defined]  # the app under the transport
    next(each for each in app.user_middleware if each.cls is Bodies).kwargs["clock"] = Hurried()
    async with client:

        async def trickle() -> AsyncIterator[bytes]:
            for _ in range(8):
                yield b"x"
                await asyncio.sleep(0)

        problem(await client.post("/amounts", content=trickle()), 408)


async def test_the_openapi_document_tells_of_refusals_and_credentials(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/who/{biller}"]["get"]
    assert operation["security"] == [{"basic": []}, {"bearer": []}]
    assert {"401", "403", "422", "429", "503"} <= set(operation["responses"])
    assert "HTTPValidationError" not in document["components"]["schemas"]
    reference = operation["responses"]["422"]["content"]["application/problem+json"]["schema"]["$ref"]
    assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]
