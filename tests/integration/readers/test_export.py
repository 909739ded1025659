"""billbus export on the real broker, read back with pyarrow and DuckDB."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest

from deploy.local import Stack
from deploy.local.processes import Processes
from services.bus.business_day import HasBusinessDay
from services.bus.clock import Clock
from services.bus.settings import load_settings
from services.cli.billers import named_biller
from services.operations.export import Report, Wanted, export_day
from services.operations.parquet_columns import PLACE, columns
from tests.contract.examples import Example, typed
from tests.integration.readers.example_events import CATALOG

LIMIT_S = 60
PAYMENTS = "billing.payment.received.v1"
SLUGS = ("acme", "birch", "cedar")


def around_today() -> list[date]:
    """Every business day on which the examples may have been stored, wherever the cut-off is."""
    today = datetime.now(UTC).date()
    return [today + timedelta(days=days) for days in (-1, 0, 1)]


def export(own: Stack, topic: str, folder: Path, *, personal_data: bool = False) -> list[Report]:
    settings = load_settings(bootstrap=own.bootstrap, registry=own.registry)
    billers: dict[str, HasBusinessDay] = {
        slug: named_biller(settings.billers, slug, settings.partners) for slug in SLUGS
    }

    async def days() -> list[Report]:
        return [
            await export_day(
                settings,
                Wanted(
                    topic=CATALOG[topic], day=day, billers=billers, folder=folder, personal_data=personal_data
                ),
                Clock(),
                lambda _done, _total: None,
            )
            for day in around_today()
        ]

    return asyncio.run(days())


def told(folder: Path) -> list[dict[str, Any]]:
    """Every row of every file, with its biller, without its place."""
    place = {column.name for column in PLACE}
    return [
        {name: value for name, value in row.items() if name not in place} | {"biller": path.parts[-3][7:]}
        for path in folder.rglob("*.parquet")
        for row in pq.read_table(path, partitioning=None).to_pylist()
    ]


def sorted_rows(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: json.dumps(row, default=str, sort_keys=True))


@pytest.mark.parametrize("topic", sorted(CATALOG))
def test_every_topic_comes_back_exactly(
    own: Stack, published: list[Example], tmp_path: Path, topic: str
) -> None:
    export(own, topic, tmp_path, personal_data=True)

    schema = CATALOG[topic].schema
    events = [typed(schema, each.value) for each in published if each.topic == topic]
    assert sorted_rows(told(tmp_path / topic)) == sorted_rows([e for e in events if e["biller"] in SLUGS])


def test_personal_data_is_left_out_unless_asked(own: Stack, published: list[Example], tmp_path: Path) -> None:
    del published
    export(own, PAYMENTS, tmp_path)
    found = told(tmp_path)
    assert {"account", "payer_name", "candidates"}.isdisjoint(found[0])
    assert len(found[0]) == len(columns(CATALOG[PAYMENTS].schema, personal_data=False)) - len(PLACE) + 1


def test_duckdb_reads_it_with_exact_types_and_by_biller(
    own: Stack, published: list[Example], tmp_path: Path
) -> None:
    export(own, PAYMENTS, tmp_path)
    source = f"read_parquet('{tmp_path}/{PAYMENTS}/*/*/*.parquet', hive_partitioning = true)"
    database = duckdb.connect()
    described = database.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    kinds = {name: kind for name, kind, *_ in described}
    assert kinds["amount"] == "DECIMAL(12,2)"
    assert kinds["paid_at"] == kinds["stored_at"] == "TIMESTAMP WITH TIME ZONE"
    assert (kinds["biller"], kinds["day"]) == ("VARCHAR", "DATE")

    sums = database.execute(
        f"SELECT biller, sum(amount), max(epoch_ms(paid_at)) FROM {source} GROUP BY ALL"
    ).fetchall()
    database.close()
    payments = [typed(CATALOG[PAYMENTS].schema, each.value) for each in published if each.topic == PAYMENTS]
    for biller, amount, paid_at in sums:
        theirs = [each for each in payments if each["biller"] == biller]
        assert amount == sum((each["amount"] for each in theirs), Decimal(0))
        assert paid_at == max(round(each["paid_at"].timestamp() * 1000) for each in theirs)
    assert {biller for biller, *_ in sums} == {each["biller"] for each in payments}


def test_exporting_twice_makes_the_same_bytes(own: Stack, published: list[Example], tmp_path: Path) -> None:
    del published
    export(own, PAYMENTS, tmp_path)
    first = {path: path.read_bytes() for path in tmp_path.rglob("*.parquet")}
    export(own, PAYMENTS, tmp_path)
    assert first
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == first


def test_the_command_tells_what_it_wrote(own: Stack, published: list[Example], tmp_path: Path) -> None:
    del published
    environment = Processes(tmp_path, bootstrap=own.bootstrap, registry=own.registry).environment("payments")

    def billbus(*arguments: str) -> tuple[int, str, str]:
        command = [str(Path(sys.executable).with_name("billbus")), "export", *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S)
        return done.returncode, done.stdout, done.stderr

    written = 0
    for day in around_today():
        code, output, errors = billbus(PAYMENTS, "--day", str(day), "--to", str(tmp_path / "lake"), "--json")
        assert code == 0, errors
        for file in json.loads(output)["files"]:
            assert pq.ParquetFile(file["path"]).metadata.num_rows == file["rows"]
            written += file["rows"]
    assert written == len(told(tmp_path / "lake")) > 0

    code, output, _ = billbus(PAYMENTS, "--day", "2020-01-01", "--to", str(tmp_path / "none"))
    assert (code, output) == (0, f"{PAYMENTS} has no record of 2020-01-01\n")

    written_day = next((tmp_path / "lake").rglob("*.parquet")).parent.name.removeprefix("day=")
    (tmp_path / "a-file").touch()
    code, _, errors = billbus(PAYMENTS, "--day", written_day, "--to", str(tmp_path / "a-file"))
    assert (code, errors) == (2, f"{tmp_path / 'a-file'} cannot be written: Not a directory.\n")
