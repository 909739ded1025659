"""`billbus convert autopay` as an operator runs it: exit codes, JSON, and sentences."""

import hashlib
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from services.cli.app import cli

HEADER = (
    "AccountNumber,PolicyNumber,CustomerName,EmailAddress,AutoPay,PaymentMethod,PaymentToken,EnrolledOn,"
    "BalanceDue"
)
ADA = "0000010042,HO-1,Ada Fields,ada@example.org,T,CC,tok_1a,03/15/2024,120.50"


class Desk:
    """A folder with an input file, and the command run there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "autopay.csv"

    def run(self, *records: str, biller: str = "acme", out: Path | None = None) -> Result:
        source = self.folder / "imt.csv"
        source.write_text("\n".join([HEADER, *records]) + "\n")
        asked = [
            "convert",
            "autopay",
            str(source),
            "--biller",
            biller,
            "--out",
            str(out or self.out),
            "--json",
        ]
        return CliRunner().invoke(cli, asked)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.setattr("sys.argv", ["billbus", "--json"])
    return Desk(tmp_path)


def test_all_converted_is_exit_code_0_and_json_adds_up(desk: Desk) -> None:
    result = desk.run(ADA, ADA.replace("0000010042", "0000010043").replace(",CC,", ",EFT,"))

    report = json.loads(result.stdout)
    assert result.exit_code == 0
    assert (report["records"], report["converted"], report["control_total"]) == (2, 2, "241.00")
    assert report["by_tender"]["EFT"] == {"count": 1, "amount": "120.50"}
    assert report["adds_up"] is True
    assert report["sha256"] == hashlib.sha256(desk.out.read_bytes()).hexdigest()


def test_a_reject_is_exit_code_1_and_the_rest_is_converted(desk: Desk) -> None:
    result = desk.run(ADA, ADA.replace("0000010042", "10042-A"))

    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (report["converted"], report["by_reason"]) == (1, {"not an account number": 1})
    assert Path(report["rejects"]).read_text().splitlines()[1].startswith("3,AccountNumber,")


@pytest.mark.parametrize(
    ("records", "biller", "said"),
    [
        ([], "acme", "Nothing was converted: imt.csv holds no records."),
        ([ADA], "nobody", "There is no biller 'nobody'; known are acme, birch, cedar."),
    ],
)
def test_what_cannot_be_done_is_exit_code_2_and_one_sentence(
    desk: Desk, records: list[str], biller: str, said: str
) -> None:
    result = desk.run(*records, biller=biller)

    assert result.exit_code == 2
    assert json.loads(result.stdout) == {"errors": [said]}
    assert not desk.out.exists()


@pytest.mark.parametrize(("name", "said"), [("imt.csv", "different files"), ("no/out.csv", "does not exist")])
def test_the_input_is_never_written_over(desk: Desk, name: str, said: str) -> None:
    result = desk.run(ADA, out=desk.folder / name)

    assert result.exit_code == 2
    assert said in json.loads(result.stdout)["errors"][0]
    assert (desk.folder / "imt.csv").read_text().endswith("120.50\n")
