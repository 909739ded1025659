"""billbus export without a broker: whose day a record is of, what is left out and told, what is refused."""

import json
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import cast

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from services.bus.business_day import cut_off
from services.bus.catalog import load_catalog
from services.bus.codec import HEADER, Codec
from services.bus.registry import Registry
from services.bus.settings import ROOT
from services.cli.app import cli
from services.events import Event, PaymentReceived
from services.operations.export import Export, Report, Wanted
from services.operations.topic_reader import TopicReader
from tests.contract.examples import examples, typed
from tests.unit.kafka_records import Reader, Record
from tests.unit.parts import a_biller

TOPIC = load_catalog(ROOT / "schemas")["billing.payment.received.v1"]
ACME = a_biller("acme")
DAY = date(2026, 11, 20)
END = cut_off(ACME, DAY)
(PORTAL,) = (e for e in examples("valid") if e.topic == TOPIC.name and e.name == "valid-portal")
EVENT = PaymentReceived.from_record(typed(TOPIC.schema, PORTAL.value))


class OneEvent(Codec):
    """Takes every value in our wire format for the same event."""

    async def decode(self, topic: str, value: bytes | None, **stamped: datetime) -> Event:  # noqa: ARG002 - as the codec has it
        return EVENT if value == HEADER.pack(0, 1) else await super().decode(topic, value)


def record(
    offset: int, at: datetime, *, key: bytes = b"acme/0001234567", value: bytes | None = None
) -> Record:
    return Record(key, value, stored_ms=round(at.timestamp() * 1000), offset=offset)


async def export(folder: Path, *given: Record, now: datetime = END) -> tuple[Report, Reader]:
    registry, reader = Registry("http://127.0.0.1:1"), Reader(*given)
    wanted = Wanted(topic=TOPIC, day=DAY, billers={"acme": ACME}, folder=folder)
    try:
        export = Export(wanted, OneEvent({TOPIC.name: TOPIC.schema}, registry))
        return await export.run(cast("TopicReader", reader), now, lambda _done, _total: None), reader
    finally:
        registry.close()


async def test_a_day_is_the_billers_own_until_its_cut_off(tmp_path: Path) -> None:
    good, begin = HEADER.pack(0, 1), END - timedelta(days=1)
    report, reader = await export(
        tmp_path,
        record(0, begin - timedelta(milliseconds=1), value=good),
        record(1, begin, value=good),
        record(2, END - timedelta(milliseconds=1), value=good),
        record(3, END, value=good),
    )

    assert ACME.batch.cut_off == time(17)
    assert reader.asked == [begin, END]
    (file,) = report.files
    assert (file.biller, file.rows, report.open_days) == ("acme", 2, [])
    assert pq.ParquetFile(file.path).read().column("kafka_offset").to_pylist() == [1, 2]


async def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    at = END - timedelta(hours=1)
    report, _ = await export(
        tmp_path,
        record(0, at, value=b"not ours"),
        record(1, at),
        record(2, at, key=b"nobody/1", value=HEADER.pack(0, 1)),
        now=at,
    )

    assert (report.files, report.unreadable, report.places) == ([], 1, ["3@0"])
    assert (report.forgotten, report.others, report.other_billers) == (1, 1, {"nobody"})
    assert report.open_days == ["acme"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["payment.recieved", "--day", "2026-11-20"], "There is no topic 'payment.recieved'; did you mean "),
        (["payment.received", "--day", "20 Nov"], "--day: '20 Nov' is no day such as 2026-11-20."),
        (["payment.received", "--day", "2026-11-20", "--biller", "nobody"], "There is no biller 'nobody'; "),
        (["payment.received", "--day", "2026-11-20", "--pii"], "Personal data is not shown here: "),
    ],
)
def test_wrong_use_is_exit_code_2_and_one_sentence(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["billbus", "--json"])
    result = CliRunner().invoke(cli, ["export", *arguments, "--to", str(tmp_path), "--json"])
    assert result.exit_code == 2
    (sentence,) = json.loads(result.stdout)["errors"]
    assert sentence.startswith(said)


def test_without_pyarrow_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.cli.export.find_spec", lambda _name: None)
    arguments = ["export", "payment.received", "--day", str(datetime.now(UTC).date()), "--to", str(tmp_path)]
    result = CliRunner().invoke(cli, arguments)
    assert (result.exit_code, "pip install 'billbus[export]'" in result.stderr) == (2, True)
