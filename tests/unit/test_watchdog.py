"""A lane that stands still says so, and ends its process when nothing else helps."""

import asyncio
from pathlib import Path

import pytest
from aiokafka.errors import KafkaError

from services.bus import metrics
from services.bus.loop_lag import watch_the_loop
from services.bus.watchdog import STALLED_AFTER_S, UNWELL_AFTER_S, Stalled, Watchdog
from tests.fake_broker import LIVE, Desk, FakeBroker, at
from tests.lane_bench import reaches
from tests.unit.parts import NOON, FakeClock
from tests.unit.test_partition import A1, an_item, owned


class Watched:
    """A watchdog over one open partition with ten records."""

    def __init__(self) -> None:
        self.broker, self.clock, self.one = FakeBroker(at(0)), FakeClock(), owned(open=True)
        self.broker.logs[at(0)].end = 10
        self.dog = Watchdog("test", LIVE, self.broker, self.clock, lambda: [self.one], {LIVE: 1000.0})

    def after(self, seconds: float) -> str:
        self.clock.move(seconds=seconds)
        self.dog.look()
        return self.dog.not_well


def test_lag_without_progress_is_not_ready_and_then_the_end() -> None:
    watched = Watched()
    assert watched.after(UNWELL_AFTER_S - 1) == ""
    assert "10 records behind" in watched.after(2)
    watched.dog.moved()
    assert watched.after(STALLED_AFTER_S - 1)
    with pytest.raises(Stalled, match="10 records behind"):
        watched.after(2)


def test_without_lag_or_halted_by_name_it_waits_for_ever() -> None:
    watched = Watched()
    watched.one.main.progress.next = 10
    assert watched.after(100_000) == ""
    watched.one.main.progress.next, watched.one.halted = 0, "a lost offset"
    assert watched.after(100_000) == ""


async def test_a_consumer_that_fetches_no_more_is_found_by_the_broker_s_word() -> None:
    watched = Watched()
    watched.one.main.progress.next = 10
    watched.broker.logs[at(0)].end = 500
    watched.broker.log_end = lambda _: 10  # type: ignore[method-assign,assignment]  # as its last fetch saw it
    assert watched.after(100_000) == ""
    await watched.dog.ask()
    with pytest.raises(Stalled, match="490 records behind"):
        watched.after(STALLED_AFTER_S + 1)


def test_one_that_is_no_member_any_more_is_not_ready_and_then_the_end() -> None:
    watched = Watched()
    watched.one.main.progress.next = 10
    watched.broker.certain_until = 3.0
    assert "no member" in watched.after(UNWELL_AFTER_S + 4)
    with pytest.raises(Stalled, match="no member"):
        watched.after(STALLED_AFTER_S)


def test_commits_that_are_not_taken_are_not_ready() -> None:
    watched = Watched()
    watched.one.main.progress.next = 10
    watched.dog.committed(False)
    assert watched.after(UNWELL_AFTER_S - 1) == ""
    watched.dog.committed(False)
    assert "no commit" in watched.after(2)
    watched.dog.committed(True)
    assert watched.after(0) == ""


def test_partitions_whose_commits_cannot_be_read_are_work() -> None:
    watched = Watched()
    watched.one.open = False
    with pytest.raises(Stalled):
        watched.after(STALLED_AFTER_S + 1)


def test_the_age_of_the_oldest_is_told_also_as_a_part_of_its_topic_s_retention() -> None:
    watched = Watched()
    item = an_item(watched.one, watched.one.main, A1, 0)
    item.logged_at = int(NOON.timestamp() * 1000)
    watched.after(20)
    an_item(watched.one, watched.one.main, A1, 1).logged_at = item.logged_at + 10_000
    watched.dog.moved()
    watched.after(100)
    assert metrics.OLDEST_SECONDS.labels("test")._value.get() == 120
    assert metrics.RETENTION_USED.labels("test")._value.get() == pytest.approx(0.12)


async def test_a_process_that_stands_still_says_so() -> None:
    clock, before = FakeClock(), metrics.LOOP_BLOCKED._value.get()
    watching = asyncio.ensure_future(watch_the_loop(clock))
    await asyncio.sleep(0)
    clock.move(seconds=5)
    await reaches(lambda: metrics.LOOP_BLOCKED._value.get() == before + 1)
    watching.cancel()


async def test_a_part_of_the_lane_that_dies_ends_the_lane(tmp_path: Path) -> None:
    desk = Desk(tmp_path)

    async def broken(*_: object) -> set[object]:
        raise RuntimeError("a bug")

    async def until_it_ends() -> None:
        async with desk.lane() as lane:
            await reaches(lambda: lane.owns(0))
            desk.broker.commit = broken  # type: ignore[method-assign,assignment]  # one that has a bug
            desk.append("A-1")
            await reaches(lambda: not lane.owns(0))

    with pytest.raises((RuntimeError, ExceptionGroup)):  # the last commit meets it again
        await until_it_ends()


async def test_a_broker_that_is_away_for_a_moment_ends_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    fetch, failures = desk.broker.fetch, [KafkaError(), KafkaError()]

    async def stumbling(most: int) -> object:
        if failures:
            raise failures.pop()
        return await fetch(most)

    desk.broker.fetch = stumbling  # type: ignore[method-assign,assignment]  # one that is away for a moment
    async with desk.lane():
        desk.append("A-1")
        await reaches(lambda: desk.partner.effects == ["A-1"])
