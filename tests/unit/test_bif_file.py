"""What refuses a BIF file whole, with the reason; whatever bytes come, nothing breaks."""

import contextlib
import io
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.invoices.bif import FileRefused, Inspected, Repeats, checksum, inspect
from services.invoices.rows import RowReader, rows
from tests import bif_sample
from tests.unit import invoices_sample

LAYOUT = invoices_sample.layout()
BILLER = invoices_sample.biller()
SUPPORT = invoices_sample.support()
GOOD = bif_sample.content(bif_sample.row(number) for number in range(3))


def opened(content: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(content))


def looked_at(content: bytes) -> Inspected:
    return inspect(opened(content), LAYOUT)


def test_a_whole_file_tells_who_it_is_for_and_how_many_rows() -> None:
    found = looked_at(GOOD)
    assert (found.biller_code, found.rows, found.ignored) == ("ACME", 3, [])
    assert len(checksum(opened(GOOD))) == 64


def test_line_ends_of_windows_a_byte_order_mark_and_blank_lines_at_the_end_are_taken() -> None:
    found = looked_at(b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n") + b"\r\n\r\n")
    assert found.rows == 3


def test_columns_in_another_order_and_unknown_ones_are_taken() -> None:
    columns = (*reversed(bif_sample.COLUMNS), "Colour")
    found = looked_at(bif_sample.content([bif_sample.row(1, Colour="red")], columns=columns))
    assert found.ignored == ["Colour"]


@pytest.mark.parametrize(
    ("content", "code", "said"),
    [
        (b"", "empty", "empty"),
        (b"\n", "empty", "empty"),
        (b"\n \r\n\n", "empty", "empty"),
        (b"\xef\xbb\xbf", "empty", "empty"),
        (b"\n" + GOOD, "no_first_line", "#BIF"),
        (b"#BIF|layout=1|biller=ACME\n", "truncated", "after its first line"),
        (b"#BIF|lay", "truncated", "after its first line"),
        (GOOD[: GOOD.index(b"|AccountNumber") + 6], "truncated", "second line"),
        (GOOD.replace(b"\n", b"\r"), "line_ends", "carriage return"),
        (GOOD.replace(b"\n", b"\r") * 20, "line_ends", "carriage return"),
        (GOOD[: GOOD.rindex(b"|total") + 4], "truncated", "breaks off"),
        (GOOD[: GOOD.rindex(b"total")], "truncated", "breaks off"),
        (b"InvoiceNumber|AccountNumber\n", "no_first_line", "#BIF"),
        (GOOD.replace(b"layout=1", b"layout=2"), "wrong_layout", "layout=1"),
        (GOOD[: GOOD.rindex(b"#END")], "truncated", "without its #END line"),
        (GOOD[: len(GOOD) // 2], "truncated", "without its #END line"),
        (GOOD.replace(b"rows=3", b"rows=4"), "truncated", "says 4 rows, the file has 3"),
        (GOOD.replace(b"|rows=3", b""), "truncated", "says nothing rows"),
        (GOOD + b"INV-9|1\n", "after_the_end", "line 7"),
        (GOOD.replace(b"total=", b"total=9"), "wrong_total", "the rows add up to"),
        (GOOD.replace(b"Nowhere", b"Nowh\xe9re", 1), "wrong_encoding", "is not UTF-8"),
        (b"\xff\xfe#\x00B\x00", "wrong_encoding", "byte 0 (line 1)"),
        (GOOD.replace(b"|BalanceDue|", b"|Balance|"), "columns_missing", "BalanceDue"),
        (GOOD.replace(b"|Address2|", b"|Address1|"), "columns_missing", "Address2"),
        (GOOD.replace(b"|ExpirationDate", b"|City"), "columns_twice", "City"),
        (GOOD.replace(b"InvoiceNumber|", b"I" * 20_000 + b"|"), "line_too_long", "line 2"),
        (GOOD.replace(b"#END|", b"#END|" + b"x" * 20_000 + b"=1|"), "line_too_long", "line 6"),
    ],
)
def test_a_file_that_is_not_whole_is_refused_with_the_reason(content: bytes, code: str, said: str) -> None:
    with pytest.raises(FileRefused) as refused:
        looked_at(content)
    assert refused.value.code == code
    assert said in refused.value.reason


def test_a_row_that_is_too_long_is_a_bad_row_and_the_others_go_on() -> None:
    content = GOOD.replace(b"INV-0000001", b"I" * 50_000).replace(b"Nowhere", "Größte".encode(), 1)
    content = content.replace(b"INV-0000002", "ü".encode() * 16_384, 1)
    good, *bad = read_all(content)
    assert isinstance(good, dict)
    told = [(each.line, each.column, each.expected) for refusals in bad for each in refusals]  # type: ignore[attr-defined]  # lists of refusals
    assert told == [(4, "(row)", "at most 16384 bytes"), (5, "(row)", "at most 16384 bytes")]


@pytest.mark.parametrize("length", [16_383, 16_384, 16_385, 2 * 16_385, 2 * 16_385 + 1, 3 * 16_385 - 1])
def test_a_row_of_whatever_length_swallows_no_other(length: int) -> None:
    content = bif_sample.content([bif_sample.row(1), bif_sample.row(2)])
    row = content.splitlines()[2]
    long = content.replace(row, row + b"x" * (length - len(row)), 1)
    _, other = read_all(long)
    assert isinstance(other, dict)
    assert other["invoice_number"] == "INV-0000002"


@pytest.mark.parametrize("sign", ["\u00a0", " ", "\u2003"])
def test_a_number_that_comes_twice_is_found_whatever_stands_around_it(sign: str) -> None:
    first = bif_sample.row(1)
    again = bif_sample.row(2, InvoiceNumber=f"{sign}{first['InvoiceNumber']}{sign}")
    results = read_all(bif_sample.content([first, again]))
    assert [isinstance(each, dict) for each in results] == [True, False]


def test_a_sum_that_no_total_can_hold_is_refused_before_a_row_is_taken() -> None:
    many = bif_sample.content(bif_sample.row(number, BalanceDue="9999999999.99") for number in (1, 2))
    without = many[: many.rindex(b"|total")] + b"\n"
    for content in (many, without):
        with pytest.raises(FileRefused) as refused:
            looked_at(content)
        assert refused.value.code == "total_too_large"


def test_the_place_of_a_wrong_byte_is_named() -> None:
    content = GOOD.replace(b"Nowhere", b"Nowh\xe9re", 1)
    with pytest.raises(FileRefused, match=f"byte {content.index(0xE9)} "):
        looked_at(content)


def test_more_rows_than_allowed_are_refused() -> None:
    few = LAYOUT.model_copy(update={"max_rows": 2})
    with pytest.raises(FileRefused, match="more than 2 rows"):
        inspect(opened(GOOD), few)


def test_an_amount_that_cannot_be_read_leaves_the_total_unchecked() -> None:
    bad = bif_sample.content([bif_sample.row(1), bif_sample.row(2, BalanceDue="much")])
    assert looked_at(bad).rows == 2


def test_a_number_that_comes_twice_is_found_and_others_are_not() -> None:
    repeats = Repeats()
    numbers = [f"N{number}" for number in range(5000)] + ["N17"]
    for number in numbers:
        repeats.mark(number.encode())
    found = [repeats.first_line(number, number.encode(), line) for line, number in enumerate(numbers)]
    repeats.close()
    assert found == [None] * 5000 + [17]


def read_all(content: bytes) -> list[object]:
    file = opened(content)
    found = inspect(file, LAYOUT)
    reader = RowReader(LAYOUT, found.header, BILLER, SUPPORT, found.repeats)
    try:
        return list(rows(file, LAYOUT, found, reader))
    finally:
        found.repeats.close()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=2000))
def test_any_bytes_are_refused_or_read_never_a_crash(content: bytes) -> None:
    with pytest.raises(FileRefused):
        read_all(content)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_good_file_with_any_bytes_put_in_is_refused_or_read(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(GOOD)))
    length = data.draw(st.integers(0, 5))
    content = GOOD[:place] + data.draw(st.binary(max_size=30)) + GOOD[place + length :]
    results: list[object] = []
    with contextlib.suppress(FileRefused):
        results = read_all(content)
    assert all(isinstance(each, dict) or (each and isinstance(each, list)) for each in results)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(max_size=40), min_size=33, max_size=33))
def test_any_cells_are_taken_or_refused_naming_the_column(cells: list[str]) -> None:
    reader = RowReader(LAYOUT, list(bif_sample.COLUMNS), BILLER, SUPPORT, Repeats())
    plain = [cell.replace("|", "").replace("\n", "") for cell in cells]
    result = reader.read(3, "|".join(plain))
    assert isinstance(result, list)
    assert all(each.line == 3 and each.column and each.expected for each in result)


def test_the_total_is_of_what_customers_owe() -> None:
    found = looked_at(GOOD)
    reader = RowReader(LAYOUT, found.header, BILLER, SUPPORT, found.repeats)
    values = [each for each in rows(opened(GOOD), LAYOUT, found, reader) if isinstance(each, dict)]
    assert f"total={sum((each['balance_due'] for each in values), Decimal())}".encode() in GOOD
