"""What the log tells of a fault: its kind and where it happened, no text that may hold a customer's data."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from services.bus import log
from services.bus.publisher import NotAcknowledged

SECRET = "Ada Aldertree owes on 0000012345"


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """The log as it is in a service; whatever was configured before is put back."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", written)
    root, levels = logging.getLogger(), {n: logging.getLogger(n).level for n in log.ANSWERING_TOO_MUCH}
    before = root.handlers[:], root.level
    log.configure("payments")
    yield written
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:], root.level = before
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def fail(error: Exception) -> None:
    raise error


def told(lines: io.StringIO) -> dict[str, Any]:
    (line,) = lines.getvalue().splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.parametrize("form", ["flag", "error"])
def test_an_exceptions_text_stays_out_and_its_frames_are_told(lines: io.StringIO, form: str) -> None:
    try:
        fail(ValueError(SECRET))
    except ValueError as error:
        structlog.get_logger().error("failed", exc_info=True if form == "flag" else error)
    assert SECRET not in lines.getvalue()
    line = told(lines)
    assert (line["event"], line["error"]) == ("failed", "ValueError")
    assert line["where"][-1].startswith("test_log.py:")
    assert line["where"][-1].endswith(" fail")


def test_it_is_the_same_for_what_libraries_log(lines: io.StringIO) -> None:
    try:
        fail(KeyError(SECRET))
    except KeyError:
        logging.getLogger("some.library").exception("Task exception was never retrieved")
    assert SECRET not in lines.getvalue()
    assert told(lines)["error"] == "KeyError"


def test_our_own_words_are_kept(lines: io.StringIO) -> None:
    try:
        fail(NotAcknowledged("no acknowledgement within the deadline"))
    except NotAcknowledged:
        structlog.get_logger().error("failed", exc_info=True)
    assert told(lines)["reason"] == "no acknowledgement within the deadline"


def test_a_line_without_a_fault_says_nothing_of_one(lines: io.StringIO) -> None:
    structlog.get_logger().info("fine", exc_info=False)
    assert not {"error", "where", "reason", "exc_info", "exception"} & told(lines).keys()
