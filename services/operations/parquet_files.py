"""One Parquet file a biller, written side by side in bounded memory, each in its place only when whole."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

ROWS_AT_ONCE = 20_000
"""Rows kept in memory, of all billers together."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """A file that is in its place."""

    biller: str
    path: Path
    rows: int


class DayFiles:
    """The files of one topic and day; use it in `with`: what fails leaves the files as they were.

    The same rows in the same order make the same bytes.
    """

    def __init__(self, folder: Path, day: date, schema: pa.Schema, rows_at_once: int = ROWS_AT_ONCE) -> None:
        self._folder = folder
        self._day = day
        self._schema = schema
        self._rows_at_once = rows_at_once
        self._kept: dict[str, list[Mapping[str, Any]]] = {}
        self._count = 0
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._rows: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for biller, writer in self._writers.items():
            with suppress(OSError, pa.ArrowException):
                writer.close()
            self._unfinished(biller).unlink(missing_ok=True)

    def add(self, biller: str, row: Mapping[str, Any]) -> None:
        """Takes a row; columns by name, others are left out."""
        self._kept.setdefault(biller, []).append(row)
        self._count += 1
        if self._count >= self._rows_at_once:
            self._write(max(self._kept, key=lambda each: (len(self._kept[each]), each)))

    def finish(self) -> list[Written]:
        """Puts all files in their places."""
        for biller in sorted(self._kept):
            self._write(biller)
        written = []
        for biller in sorted(self._writers):
            self._writers.pop(biller).close()
            unfinished, path = self._unfinished(biller), self._place(biller) / "part-0.parquet"
            with unfinished.open("rb+") as file:
                os.fsync(file.fileno())
            unfinished.replace(path)
            written.append(Written(biller=biller, path=path, rows=self._rows[biller]))
        return written

    def _write(self, biller: str) -> None:
        rows = self._kept.pop(biller)
        self._count -= len(rows)
        self._rows[biller] = self._rows.get(biller, 0) + len(rows)
        if biller not in self._writers:
            self._place(biller).mkdir(parents=True, exist_ok=True)
            self._writers[biller] = pq.ParquetWriter(
                self._unfinished(biller), self._schema, compression="zstd", version="2.6"
            )
        self._writers[biller].write_table(pa.Table.from_pylist(rows, schema=self._schema))

    def _place(self, biller: str) -> Path:
        return self._folder / f"biller={biller}" / f"day={self._day}"

    def _unfinished(self, biller: str) -> Path:
        return self._place(biller) / f".unfinished-{os.getpid()}"
