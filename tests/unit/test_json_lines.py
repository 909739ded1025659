"""Lines of values in a JSON text, whatever its layout."""

import pytest

from services.bus.json_lines import line_of

TEXT = """{
  "a, [": {"b": [1, 2, {}], "c":
    "x: }"},
  "d": [
    [],
    {"e": "\\"{", "f": null}
  ]
}
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ((), 1),
        (("a, [",), 2),
        (("a, [", "b", 2), 2),
        (("a, [", "c"), 3),
        (("d", 0), 5),
        (("d", 1, "e"), 6),
        (("d", 1, "f"), 6),
    ],
)
def test_a_value_is_found_on_its_line(place: tuple[str | int, ...], line: int) -> None:
    assert line_of(TEXT, place) == line


def test_what_is_not_there_is_said_at_what_is_around_it() -> None:
    assert line_of(TEXT, ("d", 1, "gone", 7)) == 6
    assert line_of(TEXT, ("gone",)) == 1
