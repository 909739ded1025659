"""The arithmetic of the benchmarks: medians, the worst of what must not happen, verdicts."""

from benchmarks.figures import Goal, judge, percentile, summary, table

GOAL = Goal("20ms", "rate by asyncio_loop", ("ours", "rate"), ("asyncio_loop", "rate"), "at least", 0.9)


def test_a_summary_has_medians_but_the_worst_of_what_must_never_happen() -> None:
    runs = [{"rate": 10, "lost": 0}, {"rate": 30, "lost": 2}, {"rate": 20, "lost": 0}]
    assert summary(runs) == {"rate": 20, "lost": 2}


def test_a_goal_is_reached_at_its_limit_and_not_below() -> None:
    assert judge(GOAL, {"ours": {"rate": 90}, "asyncio_loop": {"rate": 100}}).word == "reached"
    assert judge(GOAL, {"ours": {"rate": 89}, "asyncio_loop": {"rate": 100}}).word == "FALLS SHORT"


def test_less_is_better_where_the_goal_says_at_most() -> None:
    goal = Goal("20ms", "CPU", ("ours", "cpu_us"), ("vertx", "cpu_us"), "at most", 0.5)
    assert judge(goal, {"ours": {"cpu_us": 100}, "vertx": {"cpu_us": 200}}).word == "reached"
    assert judge(goal, {"ours": {"cpu_us": 101}, "vertx": {"cpu_us": 200}}).word == "FALLS SHORT"


def test_a_goal_without_the_other_side_is_not_measured_rather_than_reached() -> None:
    verdict = judge(GOAL, {"ours": {"rate": 90}})
    assert (verdict.found, verdict.word) == (None, "not measured")
    assert judge(GOAL, {"ours": {"rate": 90}, "asyncio_loop": {"rate": 0}}).word == "not measured"


def test_a_goal_without_another_side_is_held_against_its_limit() -> None:
    goal = Goal("start", "ready", ("ours", "ready_s"), None, "at most", 3)
    assert judge(goal, {"ours": {"ready_s": 2.5}}).found == 2.5


def test_a_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(100)]
    assert (percentile(values, 0.5), percentile(values, 0.99), percentile(values, 1.0)) == (50, 99, 99)


def test_a_table_leaves_out_columns_that_no_row_has() -> None:
    text = table({"ours": {"rate": 5}, "other": {"rate": 7, "cpu_us": 3}}, ("rate", "cpu_us", "p99_ms"))
    assert "p99_ms" not in text
    assert [line.split() for line in text.splitlines()] == [
        ["rate", "cpu_us"],
        ["ours", "5"],
        ["other", "7", "3"],
    ]
