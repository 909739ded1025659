"""The autopay conversion: what comes out, what is rejected and how it is told."""

import csv
import json
import tracemalloc
from decimal import Decimal
from pathlib import Path

import pytest

from services.operations.conversion_layout import ConversionLayout, LayoutError, load_layout
from services.operations.conversion_records import FileRefused
from services.operations.convert import Conversion, ConversionReport

PARTNERS = Path(__file__).resolve().parents[2] / "schemas" / "partners"
HEADER = (
    "AccountNumber,PolicyNumber,CustomerName,EmailAddress,AutoPay,PaymentMethod,PaymentToken,EnrolledOn,"
    "BalanceDue"
)
ADA = "0010042,HO-1,Ada Fields,ada@example.org,T,CC,tok_1a,03/15/2024,120.50"
BEN = "0010043,HO-2,Ben Stone,,T,EFT,tok_2b,12/01/2023,80.00"
CY = "0010044,,Cy Marsh,,F,,,,"


def matched(number: str) -> str | None:
    """A rule as billers have it: digits, leading zeros without meaning."""
    digits = number.replace("-", "").replace(" ", "")
    return digits.lstrip("0") if digits.isdigit() else None


@pytest.fixture(scope="module")
def layout() -> ConversionLayout:
    return load_layout(PARTNERS / "autopay-conversion.yaml")


class Desk:
    """A folder with an input, and the conversion's two files beside it."""

    def __init__(self, folder: Path, layout: ConversionLayout) -> None:
        self.source = folder / "imt.csv"
        self.target = folder / "autopay.csv"
        self.rejects = folder / "rejects.csv"
        self._conversion = Conversion(layout, "guid-acme", matched)

    def convert(self, *records: str, header: str = HEADER) -> ConversionReport:
        self.source.write_text("\n".join([header, *records]) + "\n", encoding="utf-8")
        return self.again()

    def again(self) -> ConversionReport:
        return self._conversion.run(self.source, self.target, self.rejects)

    def written(self) -> list[list[str]]:
        with self.target.open(newline="") as file:
            return list(csv.reader(file))

    def rejected(self) -> list[list[str]]:
        with self.rejects.open(newline="") as file:
            return list(csv.reader(file))[1:]


@pytest.fixture
def desk(tmp_path: Path, layout: ConversionLayout) -> Desk:
    return Desk(tmp_path, layout)


def test_enrolled_records_become_the_file_ic_takes(desk: Desk) -> None:
    report = desk.convert(ADA, BEN, CY)

    assert desk.target.read_bytes().decode().split("\r\n") == [
        "BillerGUID,AccountNumber,PolicyNumber,CustomerName,EmailAddress,AutoPay,PaymentType,PaymentToken,"
        "EnrollmentDate,BalanceDue",
        "guid-acme,0010042,HO-1,Ada Fields,ada@example.org,True,CreditCard,tok_1a,2024-03-15,120.50",
        "guid-acme,0010043,HO-2,Ben Stone,,True,EFT,tok_2b,2023-12-01,80.00",
        "TRAILER,2,200.50",
        "",
    ]
    assert (report.records, report.converted, report.not_enrolled, report.rejected) == (3, 2, 1, 0)
    assert report.control_total == Decimal("200.50")
    assert {name: (t.count, t.amount) for name, t in report.by_tender.items()} == {
        "CreditCard": (1, Decimal("120.50")),
        "EFT": (1, Decimal("80.00")),
    }
    assert report.adds_up


def test_the_same_input_gives_the_same_bytes(desk: Desk) -> None:
    first = desk.convert(ADA, BEN, "bad,row")
    files = (desk.target.read_bytes(), desk.rejects.read_bytes())
    second = desk.again()

    assert (desk.target.read_bytes(), desk.rejects.read_bytes()) == files
    assert second == first
    assert len(first.sha256) == 64


def test_the_file_is_for_its_owner_alone_and_nothing_else_is_left(desk: Desk) -> None:
    desk.convert(ADA)

    assert desk.target.stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in desk.target.parent.iterdir()) == [
        "autopay.csv",
        "imt.csv",
        "rejects.csv",
    ]


@pytest.mark.parametrize(
    ("old", "new", "column", "reason"),
    [
        ("0010042", "", "AccountNumber", "missing"),
        ("0010042", "CM-10", "AccountNumber", "not an account number"),
        ("0010042", "1" * 31, "AccountNumber", "too long"),
        (",T,", ",Y,", "AutoPay", "not a known value"),
        (",CC,", ",CASH,", "PaymentMethod", "not a known value"),
        ("tok_1a", "4111 1111 1111 1111", "PaymentToken", "card number"),
        ("tok_1a", "021000021/123456789", "PaymentToken", "bank account number"),
        ("03/15/2024", "2024-03-15", "EnrolledOn", "not a date"),
        ("03/15/2024", "02/30/2024", "EnrolledOn", "not a date"),
        ("120.50", "120.5", "BalanceDue", "not an amount"),
        ("120.50", "-120.50", "BalanceDue", "not an amount"),
        ("ada@example.org", "ada at example", "EmailAddress", "not as laid out"),
        ("Ada Fields", "=cmd()", "CustomerName", "not as laid out"),
        ("Ada Fields", '"Ada Fields', "", "quoting"),
        (",120.50", "", "", "columns"),
    ],
)
def test_a_bad_record_is_told_by_line_and_column_and_the_good_ones_go_on(
    desk: Desk, old: str, new: str, column: str, reason: str
) -> None:
    report = desk.convert(BEN, ADA.replace(old, new, 1))

    (row,) = desk.rejected()
    assert row[:3] == ["3", column, reason]
    assert row[3]
    assert report.by_reason == {reason: 1}
    assert (report.converted, report.rejected, report.adds_up) == (1, 1, True)
    assert [cells[1] for cells in desk.written()[1:-1]] == ["0010043"]


def test_every_problem_of_a_record_is_told_and_it_counts_once(desk: Desk) -> None:
    report = desk.convert(ADA.replace("03/15/2024", "soon").replace("120.50", "much"))

    assert [row[1] for row in desk.rejected()] == ["EnrolledOn", "BalanceDue"]
    assert report.rejected == 1
    assert report.adds_up


def test_the_reject_report_masks_personal_data(desk: Desk) -> None:
    desk.convert(
        ADA.replace("tok_1a", "4111111111111111"),
        BEN.replace("0010043", "XY-0010043").replace("Ben Stone", "+Ben Stone"),
    )

    text = desk.rejects.read_text()
    assert "4111111111111111" not in text
    assert "0010043" not in text
    assert "Ben Stone" not in text
    assert "********11" in text


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_no_cell_of_the_reject_report_is_a_formula(desk: Desk, start: str) -> None:
    desk.convert(ADA.replace("03/15/2024", f"{start}HYPERLINK(1)"))

    (row,) = desk.rejected()
    assert row[4] == f"'{start}HYPERLINK(1)"


def test_equal_records_of_an_account_are_converted_once(desk: Desk) -> None:
    report = desk.convert(ADA, BEN, ADA)

    assert (report.converted, report.repeats, report.rejected) == (2, 1, 0)
    assert report.control_total == Decimal("200.50")
    assert report.adds_up


@pytest.mark.parametrize(
    "other",
    [
        ADA.replace(",T,", ",F,"),
        ADA.replace("tok_1a", "tok_9z"),
        ADA.replace("0010042", "10042").replace("tok_1a", "tok_9z"),
    ],
)
def test_differing_records_of_an_account_are_left_to_a_person(desk: Desk, other: str) -> None:
    report = desk.convert(ADA, BEN, other)

    assert [row[:3] for row in desk.rejected()] == [
        ["2", "AccountNumber", "records differ"],
        ["4", "AccountNumber", "records differ"],
    ]
    assert "line 2" in desk.rejected()[1][3]
    assert (report.converted, report.rejected, report.adds_up) == (1, 2, True)


def test_the_inputs_own_control_record_is_checked(desk: Desk) -> None:
    report = desk.convert(ADA, BEN, "CONTROL,2,200.50")

    assert report.control_checked
    assert report.records == 2


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([ADA, "CONTROL,2,200.50"], "names 2 records, the file holds 1"),
        ([ADA, "CONTROL,1,120.51"], "total is 120.51"),
        (["CONTROL,1,1.00", ADA], "line 3 stands after the control record"),
        ([ADA, "CONTROL,one"], "line 3 is not mark, records, total"),
        ([], "holds no records"),
        ([ADA + "\x00"], "line 2 holds a zero byte"),
        ([ADA + "x" * 20_000], "line 2 is longer"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_refused_whole(desk: Desk, records: list[str], said: str) -> None:
    with pytest.raises(FileRefused, match=said):
        desk.convert(*records)
    assert [path.name for path in desk.source.parent.iterdir()] == ["imt.csv"]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (HEADER.replace("AutoPay", "Auto"), "missing: AutoPay; unknown: Auto"),
        (HEADER + ",AutoPay", "twice: AutoPay"),
    ],
)
def test_another_header_is_refused_by_its_names(desk: Desk, header: str, said: str) -> None:
    with pytest.raises(FileRefused, match=said):
        desk.convert(ADA, header=header)


def test_a_wrong_encoding_is_refused_with_its_line(desk: Desk) -> None:
    desk.source.write_bytes(f"{HEADER}\n{ADA}\n".encode() + BEN.replace("Stone", "Größe").encode("latin-1"))

    with pytest.raises(FileRefused, match="line 3 is not UTF-8"):
        desk.again()


def test_a_missing_file_is_refused(desk: Desk) -> None:
    with pytest.raises(FileRefused, match="cannot be read"):
        desk.again()


def test_a_byte_order_mark_and_another_order_of_columns_are_read(desk: Desk) -> None:
    names, cells = HEADER.split(","), ADA.split(",")
    turned = [",".join(reversed(names)), ",".join(reversed(cells))]
    desk.source.write_text("\r\n".join(turned), encoding="utf-8-sig")

    assert desk.again().converted == 1
    assert desk.written()[1][1] == "0010042"


def test_a_file_that_changes_while_it_is_read_is_refused(desk: Desk, layout: ConversionLayout) -> None:
    desk.source.write_text(f"{HEADER}\n" + "".join(f"{ADA}\n" for _ in range(1500)))
    conversion = Conversion(layout, "guid-acme", matched)

    def grow(done: int, size: int) -> None:
        del done, size
        with desk.source.open("a") as file:
            file.write(f"{BEN}\n")

    with pytest.raises(FileRefused, match="changed while it was read"):
        conversion.run(desk.source, desk.target, desk.rejects, grow)
    assert not desk.target.exists()


def test_memory_does_not_grow_with_the_file(desk: Desk) -> None:
    def peak(records: int) -> int:
        with desk.source.open("w") as file:
            file.write(f"{HEADER}\n")
            file.writelines(f"{n:010d},,N,,T,CC,tok_{n},03/15/2024,1.00\n" for n in range(records))
        tracemalloc.start()
        try:
            assert desk.again().converted == records
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(3000) < peak(300) * 1.5


def test_a_layout_that_names_no_column_says_so(tmp_path: Path) -> None:
    path = tmp_path / "layout.yaml"
    text = (PARTNERS / "autopay-conversion.yaml").read_text()
    path.write_text(text.replace("control_total: balance_due", "control_total: premium"))

    with pytest.raises(LayoutError, match="no input column is named premium"):
        load_layout(path)


def test_the_layout_is_marked_assumed(layout: ConversionLayout) -> None:
    assert layout.assumed
    assert json.loads(layout.model_dump_json())["input"]["columns"]["token"]["pii"] is True
