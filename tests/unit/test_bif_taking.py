"""A BIF file from its first byte to the bus: by upload, drop folder, twice, and with the bus away."""

import asyncio
import fcntl
import json
import os
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.bus.billers import Biller
from services.bus.intake import create_app
from services.bus.publisher import Handed
from services.events import Event, FileReceived, InvoiceIssued, InvoiceOutcome
from services.invoices.drop import SETTLED_S, DropFolder
from services.invoices.files import Files, Uploads
from services.invoices.intake import routes
from services.invoices.taking import AT_ONCE, CHUNK, FileTaker
from tests import bif_sample
from tests.unit import invoices_sample

ACME = invoices_sample.biller()
LAYOUT = invoices_sample.layout()


class Intake:
    """The invoices intake over a bus that only remembers."""

    def __init__(self, state: Path, **settings: Any) -> None:
        self.bus = invoices_sample.bus(state, [ACME, invoices_sample.biller("birch")], **settings)
        self.files = Files()
        self.uploads = Uploads()
        self.taker = FileTaker(self.bus, LAYOUT, self.files, self.uploads)
        self.files.ready = self.uploads.ready = True
        self.app = create_app("invoices", self.bus, [routes(self.bus, self.taker, self.files, self.uploads)])

    async def take(self, biller: Biller, path: Path, name: str) -> FileReceived:
        with path.open("rb") as file:
            return await self.taker.take(biller, file, name)

    @property
    def issued(self) -> list[InvoiceIssued]:
        return self.bus.publisher.of(InvoiceIssued)  # type: ignore[no-any-return]  # the bus is a stand-in

    @property
    def received(self) -> list[FileReceived]:
        return self.bus.publisher.of(FileReceived)  # type: ignore[no-any-return]  # the bus is a stand-in


@pytest.fixture
def intake(tmp_path: Path) -> Intake:
    return Intake(tmp_path)


@pytest.fixture
async def client(intake: Intake) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer secret-of-{ACME.intake.bearer}"}
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(intake.app), base_url="http://invoices", headers=headers
    ) as made:
        yield made


def some(count: int, *bad: int) -> bytes:
    return bif_sample.content(
        bif_sample.row(number, **({"AutoPay": "?"} if number in bad else {})) for number in range(count)
    )


async def test_a_file_becomes_events_and_then_the_file_itself(
    intake: Intake, client: httpx.AsyncClient
) -> None:
    answer = await client.post("/imt/acme/bif?name=nov.bif", content=some(CHUNK + 20, 3, 7))
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["rows"], told["accepted"], told["refused"]) == (CHUNK + 20, CHUNK + 18, 2)
    assert [each["line"] for each in told["refusals"]] == [6, 10]
    assert told["refusals"][0]["column"] == "AutoPay"
    assert isinstance(intake.bus.publisher.events[-1], FileReceived)
    assert len(intake.issued) == CHUNK + 18
    assert sum(event.balance_due for event in intake.issued) == Decimal(told["balance_due"])
    first = intake.issued[0]
    assert (first.biller, first.account, first.row, first.file_id) == (
        "acme",
        "0000000000",
        3,
        told["file_id"],
    )
    assert first.bill_link.startswith("http://127.0.0.1:18105/bills/acme/")
    # 400 days after the bill's date, at midnight in Chicago
    assert first.bill_link_expires_at == datetime(2027, 12, 6, 6, tzinfo=UTC)
    assert intake.bus.publisher.largest <= CHUNK


async def test_the_same_file_again_does_nothing_and_gets_the_same_answer(
    intake: Intake, client: httpx.AsyncClient
) -> None:
    content = some(30, 2)
    both = await asyncio.gather(*(client.post("/imt/acme/bif", content=content) for _ in range(2)))
    intake.bus.clock.move(3600)
    third = await client.post("/imt/acme/bif", content=content)
    assert both[0].json() == both[1].json() == third.json()
    assert len(intake.issued) == 29
    assert len(intake.received) == 1


async def test_a_file_taken_by_another_replica_does_nothing(intake: Intake, tmp_path: Path) -> None:
    other = Intake(tmp_path / "other")
    path = tmp_path / "a.bif"
    path.write_bytes(some(5))
    received = await other.take(ACME, path, "a.bif")
    intake.files.apply(received)
    assert await intake.take(ACME, path, "a.bif") == received
    assert intake.bus.publisher.events == []


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "empty"),
        (some(3)[:-30], "truncated"),
        (some(3).replace(b"Falls", b"F\xe4lls"), "wrong_encoding"),
        (some(3).replace(b"biller=ACME", b"biller=BIRCH"), "wrong_biller"),
    ],
)
async def test_a_whole_file_is_refused_with_the_reason_and_nothing_is_issued(
    intake: Intake, client: httpx.AsyncClient, content: bytes, kind: str
) -> None:
    for _ in range(2):
        answer = await client.post("/imt/acme/bif", content=content)
        assert answer.status_code == 422
        assert answer.json()["type"] == f"urn:billbus:bif:{kind}"
        assert answer.json()["detail"]
    assert intake.issued == []
    assert [event.state for event in intake.received] == ["refused"]


async def test_a_refused_file_is_looked_at_again_and_can_be_accepted(intake: Intake, tmp_path: Path) -> None:
    path = tmp_path / "a.bif"
    path.write_bytes(some(3))
    other = ACME.model_copy(
        update={"invoice_cloud": ACME.invoice_cloud.model_copy(update={"biller_code": "X"})}
    )
    assert (await intake.take(other, path, "a.bif")).state == "refused"
    assert (await intake.take(ACME, path, "a.bif")).state == "accepted"
    assert (await intake.take(ACME, path, "a.bif")).accepted == 3
    assert len(intake.received) == 2


async def test_only_an_acknowledged_file_is_answered_with_success(
    intake: Intake, client: httpx.AsyncClient
) -> None:
    content = some(CHUNK * (AT_ONCE + 2))
    intake.bus.publisher.away_after = CHUNK
    answer = await client.post("/imt/acme/bif", content=content)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert intake.received == []
    intake.bus.publisher.away_after = -1
    assert (await client.post("/imt/acme/bif", content=content)).status_code == 200
    assert len({event.invoice_number for event in intake.issued}) == CHUNK * (AT_ONCE + 2)


async def test_a_file_beyond_the_limit_is_refused_however_it_comes(tmp_path: Path) -> None:
    small = Intake(tmp_path, bif_limit_bytes=1024)
    headers = {"authorization": f"Bearer secret-of-{ACME.intake.bearer}"}
    transport = httpx.ASGITransport(small.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=headers) as client:
        assert (await client.post("/imt/acme/bif", content=some(10))).status_code == 413
    path = tmp_path / "big.bif"
    path.write_bytes(some(10))
    assert (await small.take(ACME, path, "big.bif")).reason == "too_large: larger than 1024 bytes"


async def test_only_the_billers_own_credential_delivers_and_asks(client: httpx.AsyncClient) -> None:
    assert (await client.post("/imt/birch/bif", content=some(1))).status_code == 403
    assert (await client.get("/imt/birch/bif/00", headers={"authorization": ""})).status_code == 401
    assert (await client.post("/imt/acme/bif?name=../../x", content=some(1))).status_code == 422


def outcome(event: InvoiceIssued, state: Any) -> InvoiceOutcome:
    return InvoiceOutcome(
        biller=event.biller,
        account=event.account,
        natural_id=f"{event.invoice_number}/{event.content}",
        event_id="e",
        state=state,
        origin_topic=event.TOPIC,
        origin_partition=0,
        origin_offset=0,
        settled_at=event.issued_at,
        invoice_number=event.invoice_number,
        file_id=event.file_id,
    )


async def test_what_became_of_a_file_can_be_asked(intake: Intake, client: httpx.AsyncClient) -> None:
    told = (await client.post("/imt/acme/bif", content=some(6, 0))).json()
    address = f"/imt/acme/bif/{told['file_id']}"
    assert (await client.get(address)).json()["waiting"] == 5
    for event, state in zip(intake.issued, ["posted", "posted", "rejected", "parked"], strict=False):
        intake.uploads.apply(outcome(event, state))
    status = (await client.get(address)).json()
    assert status["uploads"] == {"posted": 2, "rejected": 1, "superseded": 0, "dismissed": 0, "parked": 1}
    assert status["waiting"] == 1
    assert status["refusals"][0]["line"] == 3
    for event in intake.issued[3:]:  # the parked one was tried again
        intake.uploads.apply(outcome(event, "posted"))
    status = (await client.get(address)).json()
    assert (status["uploads"]["posted"], status["uploads"]["parked"], status["waiting"]) == (4, 0, 0)
    assert (await client.get("/imt/acme/bif/unknown")).status_code == 404


def ready(intake: Intake, folder: Path) -> DropFolder:
    (folder / "acme").mkdir(parents=True)
    intake.bus.settings = intake.bus.settings.model_copy(update={"drop_folder": folder})
    return DropFolder(intake.bus, intake.taker)


async def look_twice(drop: DropFolder, intake: Intake) -> None:
    await drop.look()
    intake.bus.clock.move(SETTLED_S + 1)
    await drop.look()


async def test_a_dropped_file_is_taken_once_it_no_longer_grows(intake: Intake, tmp_path: Path) -> None:
    drop = ready(intake, tmp_path / "drop")
    path = tmp_path / "drop" / "acme" / "nov.bif"
    content = some(10, 4)
    path.write_bytes(content[:500])
    await drop.look()
    intake.bus.clock.move(SETTLED_S + 1)
    path.write_bytes(content)
    await drop.look()
    assert path.exists()
    assert intake.received == []
    await look_twice(drop, intake)
    assert not path.exists()
    report = json.loads((path.parent / "done" / "nov.report.json").read_text())
    assert (report["accepted"], report["refusals"][0]["line"]) == (9, 7)
    assert (path.parent / "done" / "nov.bif").read_bytes() == content


async def test_a_dropped_file_that_is_refused_goes_aside_with_its_report(
    intake: Intake, tmp_path: Path
) -> None:
    drop = ready(intake, tmp_path / "drop")
    folder = tmp_path / "drop" / "acme"
    for _ in range(2):
        (folder / "bad.bif").write_bytes(some(3)[:-20])
        await look_twice(drop, intake)
    assert sorted(path.name for path in (folder / "refused").iterdir()) == [
        "bad.1.bif",
        "bad.1.report.json",
        "bad.bif",
        "bad.report.json",
    ]
    assert "truncated" in json.loads((folder / "refused" / "bad.report.json").read_text())["reason"]


async def test_links_odd_names_and_unknown_billers_are_left_alone(intake: Intake, tmp_path: Path) -> None:
    drop = ready(intake, tmp_path / "drop")
    folder = tmp_path / "drop" / "acme"
    outside = tmp_path / "outside.bif"
    outside.write_bytes(some(2))
    (folder / "link.bif").symlink_to(outside)
    (folder / "odd\nname.bif").write_bytes(some(2))
    (folder / "half.bif.part").write_bytes(some(2))
    (tmp_path / "drop" / "nobody").mkdir()
    (tmp_path / "drop" / "nobody" / "x.bif").write_bytes(some(2))
    (tmp_path / "drop" / "birch").symlink_to(folder)
    await look_twice(drop, intake)
    assert intake.bus.publisher.events == []
    assert outside.exists()


async def test_a_file_that_another_replica_has_locked_is_left_to_it(intake: Intake, tmp_path: Path) -> None:
    drop = ready(intake, tmp_path / "drop")
    path = tmp_path / "drop" / "acme" / "nov.bif"
    path.write_bytes(some(2))
    handle = os.open(path, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    await look_twice(drop, intake)
    assert intake.received == []
    os.close(handle)
    await drop.look()
    assert len(intake.issued) == 2


async def test_a_dropped_file_waits_while_the_bus_is_away(intake: Intake, tmp_path: Path) -> None:
    drop = ready(intake, tmp_path / "drop")
    path = tmp_path / "drop" / "acme" / "nov.bif"
    path.write_bytes(some(2))
    intake.bus.publisher.away_after = 0
    await look_twice(drop, intake)
    assert path.exists()
    intake.bus.publisher.away_after = -1
    await drop.look()
    assert (path.parent / "done" / "nov.bif").exists()


class Forgetting(invoices_sample.Remembering):
    """Counts and forgets."""

    async def hand_over(self, events: Sequence[Event], traceparent: str | None = None) -> Handed:
        handed = await super().hand_over(events, traceparent)
        self.events = self.events[-1:]
        return handed


async def peak_of(intake: Intake, folder: Path, biller: Biller, count: int) -> int:
    path = bif_sample.write(folder / f"{count}.bif", (bif_sample.row(number) for number in range(count)))
    tracemalloc.start()
    await intake.take(biller, path, path.name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


async def test_memory_does_not_grow_with_the_file(intake: Intake, tmp_path: Path) -> None:
    intake.bus.publisher = Forgetting()
    await peak_of(intake, tmp_path, ACME, 10)
    small = await peak_of(intake, tmp_path, ACME, CHUNK * 3)
    large = await peak_of(intake, tmp_path, ACME, CHUNK * 8)
    assert large < small * 1.2


async def test_a_link_is_the_same_for_the_same_bill(intake: Intake, tmp_path: Path) -> None:
    path = tmp_path / "a.bif"
    path.write_bytes(some(1))
    await intake.take(ACME, path, "a.bif")
    path.write_bytes(some(1) + b"\n")
    intake.bus.clock.move(timedelta(days=2).total_seconds())
    await intake.take(ACME, path, "a.bif")
    first, second = intake.issued
    assert first.bill_link == second.bill_link
    assert first.content == second.content


async def test_an_upload_that_fails_leaves_no_file_behind(
    intake: Intake, client: httpx.AsyncClient, tmp_path: Path
) -> None:
    intake.bus.publisher.away_after = 0
    assert (await client.post("/imt/acme/bif", content=some(2))).status_code == 503
    assert list((tmp_path / "spool").iterdir()) == []


async def test_a_corrected_file_is_done_once_its_changed_rows_are(
    intake: Intake, client: httpx.AsyncClient
) -> None:
    await client.post("/imt/acme/bif", content=some(4, 2))
    for event in intake.issued:
        intake.uploads.apply(outcome(event, "posted"))
    corrected = (await client.post("/imt/acme/bif", content=some(4))).json()
    assert (corrected["accepted"], corrected["unchanged"]) == (4, 3)
    path = f"/imt/acme/bif/{corrected['file_id']}"
    assert (await client.get(path)).json()["waiting"] == 1

    (changed,) = [event for event in intake.issued if event.row == 5]
    intake.uploads.apply(outcome(changed, "posted"))
    status = (await client.get(path)).json()
    assert (status["uploads"]["posted"], status["unchanged"], status["waiting"]) == (1, 3, 0)


async def test_an_outcome_that_was_written_twice_counts_once(
    intake: Intake, client: httpx.AsyncClient
) -> None:
    file_id = (await client.post("/imt/acme/bif", content=some(2))).json()["file_id"]
    first, second = intake.issued
    for state in ("parked", "parked", "posted", "posted", "parked"):
        intake.uploads.apply(outcome(first, state))
    intake.uploads.apply(outcome(second, "parked"))
    status = (await client.get(f"/imt/acme/bif/{file_id}")).json()
    assert (status["uploads"]["posted"], status["uploads"]["parked"], status["waiting"]) == (1, 1, 0)


async def test_an_invoice_that_was_parked_is_settled_for_every_file_that_brought_it(
    intake: Intake, client: httpx.AsyncClient
) -> None:
    first = (await client.post("/imt/acme/bif", content=some(3, 0))).json()
    for event in intake.issued:
        intake.uploads.apply(outcome(event, "parked"))
    again = (await client.post("/imt/acme/bif", content=some(3))).json()
    assert again["unchanged"] == 0
    for event in intake.issued[2:]:
        intake.uploads.apply(outcome(event, "posted"))
    for told, posted in ((first, 2), (again, 3)):
        status = (await client.get(f"/imt/acme/bif/{told['file_id']}")).json()
        assert (status["uploads"]["posted"], status["uploads"]["parked"], status["waiting"]) == (posted, 0, 0)


async def test_a_file_that_comes_before_the_views_are_whole_is_to_be_sent_again(
    intake: Intake, client: httpx.AsyncClient
) -> None:
    intake.uploads.ready = False
    answer = await client.post("/imt/acme/bif", content=some(2))
    assert (answer.status_code, intake.issued) == (503, [])
