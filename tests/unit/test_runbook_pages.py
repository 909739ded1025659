"""How a page of docs/runbook is read, and when what it shows counts as what a command prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.runbook.likeness import alike, missing, renewed
from tests.e2e.runbook.page import Command, Step, read_page

PAGE = """# A page

```console
$ BILLER=acme DAY=2026-11-20
```

1. Look.

    <!-- until: posted -->

    ```console
    $ billbus trace $PAYMENT \\
        --biller $BILLER
    Payment 1
    ...
    [exit 1]
    ```

    <!-- step: imt_comes_back -->
"""


@pytest.fixture
def page_file(tmp_path: Path) -> Path:
    path = tmp_path / "page.md"
    path.write_text(PAGE)
    return path


def test_a_page_is_read_in_the_order_in_which_it_is_played(page_file: Path) -> None:
    variables, trace, step = read_page(page_file).played
    assert isinstance(variables, Command)
    assert variables.variables == {"BILLER": "acme", "DAY": "2026-11-20"}
    assert isinstance(trace, Command)
    assert trace.text == "billbus trace $PAYMENT --biller $BILLER"
    assert (trace.shown, trace.codes, trace.until) == (("Payment 1", "..."), (1,), "posted")
    assert trace.variables == {}
    assert step == Step("imt_comes_back")


def test_output_is_written_where_the_command_stands_and_nothing_else_changes(page_file: Path) -> None:
    page = read_page(page_file)
    _, trace = page.commands
    written = page.with_output({trace.begin: ["$ billbus trace $PAYMENT", "Payment 2"]})
    assert "    $ billbus trace $PAYMENT\n    Payment 2\n    ```\n" in written
    assert written.startswith(PAGE.split("    $ billbus")[0])
    assert written.endswith(PAGE[PAGE.rindex("    ```\n") :])


@pytest.mark.parametrize("text", ["```console\n$ billbus status\n", "```console\nbillbus status\n```\n"])
def test_a_block_without_an_end_or_a_command_is_refused_by_its_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "page.md"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"page\.md:\d"):
        read_page(path)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("posted at 2026-11-25 12:20:43-05:00 (5 s)", "posted at 2026-07-01 02:00:00-04:00 (2 min)"),
        ("│ 6 │ ***001 │", "│ 12  │ ***983 │"),
        ("│ 1c5d9b0e-8f5e-4b7c-9a55-0b0c8a4f1e11 │", "│ 2c5d9b0e-8f5e-4b7c-9a55-0b0c8a4f1e12 │"),
        ("IMT has 4 of 1,100.00 USD", "IMT has 12 of 75.25 USD"),
        ("Wednesday, 2026-11-25", "Monday, 2026-11-30"),
    ],
)
def test_values_may_differ(one: str, other: str) -> None:
    assert alike(one) == alike(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("0 parked", "3 parked"), ("│ 0.00 │", "│ 7.50 │"), ("all agree", "some differ"), ("posted", "parked")],
)
def test_words_may_not_and_nought_is_a_word(one: str, other: str) -> None:
    assert alike(one) != alike(other)


def test_what_is_shown_has_to_be_printed_in_its_order() -> None:
    printed = ["one 7", "two", "three"]
    assert missing(["one 9", "...", "three"], printed) == []
    assert missing(["three", "one 1"], printed) == ["one 1"]
    assert missing(["four"], printed) == ["four"]


def test_what_was_left_out_stays_left_out_and_what_is_gone_brings_all_of_it_back() -> None:
    printed = ["one 7", "two", "three"]
    assert renewed(["one 9", "..."], printed) == ["one 7", "..."]
    assert renewed([], printed) == printed
    assert renewed(["four"], printed) == printed
