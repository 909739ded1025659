"""billbus replay without a broker: what is selected and emitted, how fast, and what the report says."""

from __future__ import annotations

import json
from collections import Counter
from datetime import timedelta
from typing import Any, Literal

import pytest
from typer.testing import CliRunner

from services.bus.catalog import load_catalog
from services.bus.partition import account_scope
from services.bus.progress import Restored
from services.bus.settings import ROOT
from services.cli.app import cli
from services.operations.day import Window
from services.operations.replay_lanes import Taken
from services.operations.replay_marks import SENT, WANTED, Marks
from services.operations.replay_outcomes import Ended
from services.operations.replay_report import Row, Since
from services.operations.replay_sending import LOOK_EVERY_S, OUTSTANDING_MOST, Pace
from services.operations.replay_survey import MISSING, ON_ITS_WAY, STATES, Selection, Survey
from tests.unit.parts import NOON, FakeClock

TOPIC = load_catalog(ROOT / "schemas")["billing.payment.received.v1"]
DAY = Window(NOON, NOON + timedelta(hours=24))


def a_selection(**changed: Any) -> Selection:
    stated: dict[str, Any] = {"topic": TOPIC, "windows": {"acme": DAY}}
    return Selection(**stated | changed)


@pytest.mark.parametrize(
    ("told", "newest"),
    [
        ([("parked", 1), ("posted", 2)], "posted"),
        ([("posted", 2), ("parked", 1)], "posted"),
        ([("posted", 1), ("parked", 2)], "parked"),
        ([("posted", 1), ("parked", 1)], "posted"),
        ([("parked", 1), ("posted", 1)], "posted"),
        ([("parked", 40), ("posted", 41), ("parked", 42)], "posted"),
        ([], ""),
    ],
)
def test_the_newest_outcome_counts_in_whatever_order_they_are_read(
    told: list[tuple[str, int]], newest: str
) -> None:
    marks = Marks({3: range(100, 110)})
    for state, attempt in told:
        marks.enter(3, 105, state, attempt)
    assert marks.outcome(3, 105) == newest


def test_what_is_not_ours_is_not_entered_and_two_bytes_an_offset_are_kept() -> None:
    marks = Marks({3: range(100, 110), 4: range(5, 5)})
    for partition, offset in ((3, 99), (3, 110), (4, 5), (9, 100)):
        assert marks.enter(partition, offset, "posted", 1) is None
        assert marks.flag(partition, offset, WANTED) is False
        assert marks.has(partition, offset, WANTED) is False
    assert sum(len(each.outcomes) + len(each.flags) for each in marks.stretches.values()) == 20


def test_what_is_left_is_what_is_wanted_and_not_sent() -> None:
    marks = Marks({0: range(10, 20), 1: range(3)})
    for offset in (11, 14, 17):
        marks.flag(0, offset, WANTED)
    marks.flag(1, 1, WANTED)
    for partition, offset in ((0, 11), (1, 1)):
        marks.flag(partition, offset, SENT)
    assert marks.left() == {0: range(14, 18)}


@pytest.mark.parametrize(
    ("only", "recheck", "sent"),
    [
        ("", False, {"parked", MISSING}),
        ("", True, {"parked", MISSING, "posted"}),
        ("parked", True, {"parked"}),
        ("missing", False, {MISSING}),
        ("refused", True, set()),
    ],
)
def test_only_what_the_lane_would_do_something_with_is_emitted(
    only: Literal["", "parked", "refused", "missing"], recheck: bool, sent: set[str]
) -> None:
    selection = a_selection(only=only, recheck=recheck)
    assert {state for state in STATES if selection.sends(state)} == sent
    assert not selection.wants(ON_ITS_WAY)


def test_a_run_is_found_again_by_its_selection_alone() -> None:
    one = a_selection(account="0000012345", recheck=True)
    assert one.digest("r1") == a_selection(account="0000012345", recheck=True).digest("r1")
    others = [
        a_selection(account="0000012345"),
        a_selection(recheck=True),
        a_selection(windows={"birch": DAY}),
    ]
    assert one.digest("r1") not in {each.digest("r1") for each in others} | {one.digest("r2")}


def taken(position: int, *done: int, **cursors: tuple[int, int | None]) -> Taken:
    """A lane's commit of partition 0, and its cursors': position, and where each has closed."""
    behind = {scope: {0: (at, Restored(reserved=at, until=until))} for scope, (at, until) in cursors.items()}
    return Taken({0: (position, Restored(reserved=position, done=frozenset(done)))}, behind)


def test_only_what_has_ended_is_selected_also_behind_a_cursor() -> None:
    key = b"acme/1"
    lane = taken(50, 60, acme=(20, None), birch=(10, 30))
    assert [lane.has(0, offset, key) for offset in (19, 20, 49)] == [True, False, False]
    assert [lane.has(0, offset, b"birch/1") for offset in (9, 10, 29, 30)] == [True, False, False, True]
    assert [lane.has(0, offset, b"cedar/1") for offset in (49, 50, 60, 61)] == [True, False, True, False]
    lane = taken(50, **{account_scope(key): (20, None)})
    assert [lane.has(0, 20, each) for each in (key, b"acme/2")] == [False, True]


def test_the_lane_has_taken_all_when_no_cursor_has_anything_left_either() -> None:
    assert taken(50).all_below({0: 50})
    assert not taken(49).all_below({0: 50})
    assert taken(48, 48, 49).all_below({0: 50})
    assert not taken(50, acme=(20, None)).all_below({0: 50})
    assert taken(50, acme=(50, None), birch=(30, 30)).all_below({0: 50})
    assert not taken(50, birch=(29, 30)).all_below({0: 50})
    assert taken(40, 45).left_below({0: 50}) == 9


class Lane:
    """Takes what was emitted at a rate of its own; time passes while somebody waits."""

    def __init__(self, rate: float) -> None:
        self.clock, self.rate, self.emitted, self.most = FakeClock(), rate, 0, 0
        self.began = self.clock.monotonic()

    def outstanding(self) -> int:
        return max(self.emitted - int((self.clock.monotonic() - self.began) * self.rate), 0)

    def wait(self, seconds: float) -> None:
        self.clock.move(seconds=seconds)

    def run(self, pace: Pace, records: int) -> float:
        """Seconds until all were emitted."""
        while self.emitted < records:
            self.emitted += pace.allow(min(400, records - self.emitted))
            self.most = max(self.most, self.outstanding())
        return self.clock.monotonic() - self.began


def test_a_replay_is_no_faster_than_its_rate() -> None:
    lane = Lane(rate=1e9)
    took = lane.run(Pace(200, lane.outstanding, lane.clock, lane.wait), 2000)
    assert took == pytest.approx(10, rel=0.1)


def test_what_waits_in_the_lane_is_bounded_however_slow_it_is() -> None:
    lane = Lane(rate=100)
    took = lane.run(Pace(0, lane.outstanding, lane.clock, lane.wait), 3000)
    assert lane.most <= OUTSTANDING_MOST
    assert took == pytest.approx(30 - OUTSTANDING_MOST / 100, rel=0.1)


def test_without_limits_nothing_is_waited_for() -> None:
    lane = Lane(rate=1)
    assert lane.run(Pace(0, None, lane.clock, lane.wait), 100_000) == 0
    assert LOOK_EVERY_S > 0


def ended(
    offset: int, state: str, attempt: int, *, looked_up: bool = False, topic: str = TOPIC.name
) -> Ended:
    return Ended("acme", f"g-{offset}", "c", state, attempt, looked_up, topic, 0, offset)


def a_report(*outcomes: Ended, all_taken: bool = True) -> Row:
    """Of ten records: three not emitted, six emitted, one not yet."""
    marks = Marks({0: range(10)})
    survey = Survey(marks=marks, states={"acme": Counter(posted=3, parked=4, missing=3)})
    survey.wanted["acme"] = 7
    since = Since(TOPIC.name, marks)
    since.sent["acme"] = 6
    for offset in range(6):
        marks.enter(0, offset, "parked", 1)
        marks.flag(0, offset, SENT)
    since.take(outcomes)
    return since.row("acme", survey, all_taken=all_taken)


def test_the_report_adds_up_whatever_came() -> None:
    came = [
        ended(0, "posted", 2),
        ended(1, "rejected", 2),
        ended(2, "parked", 2),
        ended(3, "posted", 2, looked_up=True),
        ended(4, "superseded", 2),
        ended(8, "posted", 2),  # not of this run
        ended(5, "posted", 2, topic="billing.invoice.issued.v1"),
    ]
    row = a_report(*came)
    assert row == Row(biller="acme", selected=10, skipped=6, delivered=1, refused=1, parked=1, open=1)
    assert a_report(*came, *came) == row
    assert a_report(*came, ended(2, "posted", 3)).parked == 0
    assert a_report(*came, ended(2, "posted", 3)).delivered == 2


def test_what_the_lanes_have_not_taken_is_open() -> None:
    row = a_report(ended(0, "posted", 2), all_taken=False)
    assert row == Row(biller="acme", selected=10, skipped=3, delivered=1, refused=0, parked=0, open=6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["batch.closed", "--day", "2026-11-20"], "batch.closed cannot be replayed; payment.received, "),
        (["payment.received"], "Say which: --day 2026-11-20, or --from and --to."),
        (
            ["payment.received", "--from", "2026-11-20T09:00:00Z", "--yes", "--reason", "x"],
            "--yes needs --to beside --from",
        ),
        (["payment.received", "--day", "yesterday"], "Invalid isoformat string: 'yesterday'."),
        (["payment.received", "--day", "2026-11-20", "--account", "1"], "--account needs --biller"),
        (["payment.received", "--day", "2026-11-20", "--biller", "nobody"], "There is no biller 'nobody'"),
        (["payment.received", "--day", "2026-11-20", "--yes"], "Say why, for the audit record"),
        (
            ["payment.received", "--day", "2026-11-20", "--only-outcome", "lost"],
            "--only-outcome is parked, refused or missing, not 'lost'.",
        ),
        (["payment.received", "--from", "2026-11-20T09:00:00"], "'2026-11-20T09:00:00' is neither a day"),
    ],
)
def test_what_cannot_be_replayed_is_exit_code_2_and_one_sentence(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["billbus", "--json"])
    result = CliRunner().invoke(cli, ["replay", *arguments, "--json"])
    assert result.exit_code == 2
    (sentence,) = json.loads(result.stdout)["errors"]
    assert sentence.startswith(said)


def test_a_partner_without_look_up_is_not_rechecked(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told = (ROOT / "deploy" / "local" / "billers" / "acme.yaml").read_text()
    changed = told.replace("looks_up_payments: true", "looks_up_payments: false")
    (tmp_path / "acme.yaml").write_text(changed)
    monkeypatch.setenv("BILLBUS_BILLERS", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["billbus", "--json"])
    asked = ["replay", "payment.received", "--day", "2026-11-20", "--recheck", "--json"]
    result = CliRunner().invoke(cli, asked)
    assert result.exit_code == 2
    assert json.loads(result.stdout)["errors"][0].startswith("acme: this partner has no look-up of payments")
