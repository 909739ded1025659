"""Parquet of a topic: which columns there are, and that files are whole, bounded and the same each time."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.bus.catalog import load_catalog
from services.bus.settings import ROOT
from services.operations.parquet_columns import columns
from services.operations.parquet_files import DayFiles

CATALOG = load_catalog(ROOT / "schemas")
DAY = date(2026, 11, 20)
SCHEMA = columns(
    {
        "type": "record",
        "name": "Paid",
        "fields": [
            {"name": "biller", "type": "string"},
            {
                "name": "amount",
                "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2},
            },
        ],
    },
    personal_data=False,
)


def rows(count: int) -> Iterator[tuple[str, dict[str, Any]]]:
    for number in range(count):
        place = {"kafka_partition": 0, "kafka_offset": number, "ce_id": None}
        more = {"stored_at": datetime(2026, 11, 20, tzinfo=UTC), "amount": Decimal(number).scaleb(-2)}
        yield ("acme", "birch", "cedar")[number % 3], place | more


def write(folder: Path, count: int, at_once: int = 10) -> dict[str, bytes]:
    with DayFiles(folder, DAY, SCHEMA, at_once) as files:
        for biller, row in rows(count):
            files.add(biller, row)
        return {each.biller: each.path.read_bytes() for each in files.finish()}


@pytest.mark.parametrize("topic", sorted(CATALOG))
def test_every_topic_has_columns_and_none_for_personal_data_unless_asked(topic: str) -> None:
    schema = CATALOG[topic].schema
    marked = {field["name"] for field in schema["fields"] if field.get("pii")}
    every = {field["name"] for field in schema["fields"]} - {"biller"}

    assert set(columns(schema, personal_data=True).names) >= every
    assert set(columns(schema, personal_data=False).names) & every == every - marked


def test_types_are_exact_and_a_field_carries_its_text() -> None:
    schema = columns(CATALOG["billing.payment.received.v1"].schema, personal_data=False)
    assert schema.field("amount").type == pa.decimal128(12, 2)
    assert schema.field("paid_at").type == pa.timestamp("ms", tz="UTC")
    assert (schema.field("amount").nullable, schema.field("card_type").nullable) == (False, True)
    assert schema.field("amount").metadata == {b"doc": b"USD of premium (seed: Payments)."}
    assert (
        columns(CATALOG["billing.batch.closed.v1"].schema, personal_data=False).field("batch_day").type
        == pa.date32()
    )


def test_personal_data_inside_a_list_of_records_is_left_out_too() -> None:
    schema = CATALOG["billing.enrollment.current.v1"].schema
    kept = columns(schema, personal_data=False).field("applied").type.value_type
    whole = columns(schema, personal_data=True).field("applied").type.value_type
    assert {field.name for field in whole} - {field.name for field in kept} == {"number"}


def test_a_type_without_an_exact_column_is_refused() -> None:
    avro = {"fields": [{"name": "took", "type": {"type": "long", "logicalType": "time-micros"}}]}
    with pytest.raises(ValueError, match="no column for Avro's long as time-micros"):
        columns(avro, personal_data=False)


def test_a_file_a_biller_holds_its_rows_in_their_order_and_exactly(tmp_path: Path) -> None:
    write(tmp_path, 100)
    table = pq.read_table(tmp_path / "biller=birch" / "day=2026-11-20" / "part-0.parquet", partitioning=None)
    assert table.column("kafka_offset").to_pylist() == list(range(1, 100, 3))
    assert table.column("amount").to_pylist()[-1] == Decimal("0.97")


def test_no_more_rows_are_kept_than_said(tmp_path: Path) -> None:
    write(tmp_path, 100, at_once=10)
    for path in tmp_path.glob("*/*/*.parquet"):
        groups = pq.ParquetFile(path).metadata
        assert max(groups.row_group(i).num_rows for i in range(groups.num_row_groups)) <= 10


def test_the_same_rows_make_the_same_bytes(tmp_path: Path) -> None:
    assert write(tmp_path / "a", 100) == write(tmp_path / "b", 100) == write(tmp_path / "a", 100)


def write_what_fails(folder: Path) -> None:
    """An amount with a fraction of a cent comes when files of all billers are begun."""
    with DayFiles(folder, DAY, SCHEMA, 10) as files:
        for biller, row in rows(100):
            exact = row["kafka_offset"] < 50
            files.add(biller, row if exact else row | {"amount": Decimal("0.001")})


def test_what_fails_leaves_the_day_as_it_was(tmp_path: Path) -> None:
    before = write(tmp_path, 9)

    with pytest.raises(pa.ArrowInvalid):
        write_what_fails(tmp_path)

    there = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.name for path in there} == {"part-0.parquet"}
    assert {path.parents[1].name.removeprefix("biller="): path.read_bytes() for path in there} == before
