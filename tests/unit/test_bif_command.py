"""`billbus bif check`: what an operator is told, and the exit code."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from services.cli.app import cli
from services.operations.bif import NotSent, send_bif
from tests import bif_sample
from tests.unit import invoices_sample


def check(path: Path, *options: str) -> Result:
    return CliRunner().invoke(cli, ["bif", "check", str(path), *options])


def written(folder: Path, count: int = 4, code: str = "ACME", **bad: str) -> Path:
    rows = (bif_sample.row(number, **(bad if number == 1 else {})) for number in range(count))
    return bif_sample.write(folder / "nov.bif", rows, code)


def told(result: Result) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def test_a_good_file_is_fine_and_its_biller_is_found_by_what_it_says(tmp_path: Path) -> None:
    result = check(written(tmp_path), "--json")
    assert result.exit_code == 0
    report = told(result)
    assert (report["biller"], report["rows"], report["accepted"], report["refused"]) == ("acme", 4, 4, 0)
    assert f"total={report['balance_due']}" in (tmp_path / "nov.bif").read_text()


def test_bad_rows_are_shown_with_line_column_expected_and_found(tmp_path: Path) -> None:
    path = written(tmp_path, BlockPaymentsCC="T")
    result = check(path)
    assert result.exit_code == 1
    assert "BlockPaymentsCC" in result.stdout
    assert "Block Payment" in result.stdout
    (refusal,) = told(check(path, "--json"))["refusals"]
    assert (refusal["line"], refusal["column"], refusal["found"]) == (4, "BlockPaymentsCC", "T")


@pytest.mark.parametrize(
    ("code", "options", "reason"),
    [("NOBODY", [], "wrong_biller"), ("ACME", ["--biller", "birch"], "wrong_biller")],
)
def test_a_file_of_another_biller_is_refused_whole(
    tmp_path: Path, code: str, options: list[str], reason: str
) -> None:
    path = written(tmp_path, code=code)
    result = check(path, "--json", *options)
    assert result.exit_code == 2
    assert told(result)["refused_whole"].startswith(reason)
    assert "refused whole" in check(path, *options).stdout


def test_a_biller_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = check(written(tmp_path), "--biller", "nobody")
    assert result.exit_code == 2
    assert "known are acme, birch, cedar" in result.stderr


def test_a_service_that_does_not_answer_is_said(tmp_path: Path) -> None:
    path, acme = written(tmp_path), invoices_sample.biller()
    sending = send_bif(path, "http://127.0.0.1:9", acme, invoices_sample.OneSecret(), lambda *_: None)
    with pytest.raises(NotSent, match=r"127\.0\.0\.1:9"):
        asyncio.run(sending)
