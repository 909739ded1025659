"""Commits of a lane: what the broker does not take stays to be done, and an epoch's end is an end."""

import asyncio
from functools import partial
from pathlib import Path

import pytest
from aiokafka.errors import (
    CommitFailedError,
    CoordinatorLoadInProgressError,
    GroupCoordinatorNotAvailableError,
    IllegalGenerationError,
    KafkaError,
    NotCoordinatorForGroupError,
    RebalanceInProgressError,
    RequestTimedOutError,
    UnknownMemberIdError,
)

from services.bus.progress import decode_metadata, encode_metadata
from tests.fake_broker import Desk, at
from tests.lane_bench import reaches

ERRORS = [
    CommitFailedError,
    CoordinatorLoadInProgressError,
    GroupCoordinatorNotAvailableError,
    IllegalGenerationError,
    NotCoordinatorForGroupError,
    RebalanceInProgressError,
    RequestTimedOutError,
    TimeoutError,
    UnknownMemberIdError,
]


def committed(desk: Desk, offset: int) -> bool:
    return desk.broker.committed(at(0)) == offset


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.bus.commits.COMMIT_EVERY_S", 0.02)


async def test_whatever_error_a_commit_meets_the_lane_lives_and_commits_again_without_new_traffic(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path)
    async with desk.lane():
        for number, error in enumerate(ERRORS):
            desk.broker.answers.append(error())
            desk.append(f"A-{number}")
            await reaches(partial(committed, desk, number + 1), 5)
    assert desk.partner.effects == [f"A-{number}" for number in range(len(ERRORS))]
    assert desk.partner.asked == 0


async def test_one_partition_refused_of_three_stays_dirty_and_the_others_count(tmp_path: Path) -> None:
    desk = Desk(tmp_path, 0, 1, 2)
    async with desk.lane():
        await reaches(lambda: len(desk.broker.taken) == 3)
        desk.broker.answers = [{at(1)}] * 4
        for number in range(3):
            desk.append(f"A{number}-1", partition=number)
        await reaches(lambda: desk.broker.committed(at(0)) == desk.broker.committed(at(2)) == 1)
        assert desk.broker.committed(at(1)) == 0
        await reaches(lambda: desk.broker.committed(at(1)) == 1)
    assert sorted(desk.partner.effects) == ["A0-1", "A1-1", "A2-1"]


async def test_nothing_is_sent_that_no_commit_covers(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    refusals: list[Exception] = [KafkaError()] * 5
    async with desk.lane() as lane:
        await reaches(lambda: lane.owns(0))
        desk.broker.answers.extend(refusals)
        desk.append(*(f"A{n}-1" for n in range(50)))
        await reaches(lambda: len(desk.broker.answers) <= 2)
        assert desk.partner.effects == []
        await reaches(lambda: len(desk.partner.effects) == 50)


async def test_one_commit_at_a_time_and_never_backwards_within_an_epoch(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    late = asyncio.Event()
    async with desk.lane() as lane:
        await reaches(lambda: lane.owns(0))
        desk.broker.answers.append(late)
        before = desk.broker.asked_to_commit
        desk.append("A-1")
        await reaches(lambda: desk.broker.asked_to_commit == before + 1)
        desk.append("A-2", "B-1")
        await asyncio.sleep(0.2)  # many turns of the committer
        assert desk.broker.asked_to_commit == before + 1
        late.set()
        await reaches(lambda: desk.broker.committed(at(0)) == 3)
    offsets = [offset for _, _, offset in desk.broker.taken]
    assert offsets == sorted(offsets)


async def test_a_commit_that_is_answered_after_a_rebalance_holds_up_nothing_and_changes_nothing(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path)
    late = asyncio.Event()
    async with desk.lane() as lane:
        await reaches(lambda: lane.owns(0))
        desk.broker.answers.append(late)
        desk.append("A-1")
        await reaches(lambda: not desk.broker.answers)
        async with asyncio.timeout(4):
            await desk.broker.rebalance()
        late.set()
        desk.append("A-2")
        await reaches(lambda: desk.broker.committed(at(0)) == 2)
    assert {generation for generation, _, _ in desk.broker.taken[1:]} == {desk.broker.generation}
    assert desk.partner.effects == ["A-1", "A-2"]


async def test_what_ends_after_its_epoch_is_told_but_never_committed(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.partner.slow["A-1"] = asyncio.Event()
    async with desk.lane() as lane:
        desk.append("A-1", "A-2")
        await reaches(lambda: desk.partner.running["A"] == 1)
        await desk.broker.rebalance()
        await reaches(lambda: lane.owns(0))
        commits = len(desk.broker.taken)
        desk.append("B-1")
        await reaches(lambda: "B-1" in desk.partner.effects)
        assert "A-1" not in desk.partner.effects
        assert desk.broker.committed(at(0)) == 0
        assert {offset for _, _, offset in desk.broker.taken[commits:]} <= {0}
        desk.partner.slow["A-1"].set()
        await reaches(lambda: desk.broker.committed(at(0)) == 3)
    assert desk.partner.effects == ["B-1", "A-1", "A-2"]
    assert (desk.partner.overlaps, desk.partner.asked) == (0, 0)  # A-2 was never sent, A-1 is known
    assert [o.natural_id for o in desk.publisher.events].count("A-1") == 1


async def test_gaps_of_markers_and_compaction_are_passed_and_the_commit_reaches_the_end(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path)
    desk.append("A-1", "B-1", "A-2", gap=3)
    log = desk.broker.logs[at(0)]
    log.end += 2  # markers behind the last record
    async with desk.lane():
        await reaches(lambda: desk.broker.committed(at(0)) == log.end, 5)
        desk.append("A-3")
        await reaches(lambda: desk.broker.committed(at(0)) == log.end, 5)
    assert desk.partner.effects == ["A-1", "B-1", "A-2", "A-3"]


async def test_finished_out_of_order_and_crashed_only_the_doubtful_one_is_asked_for(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.append(*(f"A{n}-1" for n in range(20)))
    desk.partner.slow["A3-1"] = asyncio.Event()
    async with desk.lane(crash=True):
        await reaches(lambda: len(desk.partner.effects) == 19)
        await reaches(lambda: len(decode_metadata(desk.broker.stored["", at(0)][1], 3, 20).done) == 16, 5)
    desk.partner.slow["A3-1"].set()
    async with desk.lane():
        await reaches(lambda: desk.broker.committed(at(0)) == 20)
    assert sorted(desk.partner.effects) == sorted(f"A{n}-1" for n in range(20))
    assert desk.partner.asked == 1


@pytest.mark.parametrize("span", [0, 1, 32_768, 2**31 + 7, 2**45])
def test_offsets_of_any_size_are_written_and_read(span: int) -> None:
    text = encode_metadata(
        span, span + 9, [span + 2], generation=7, until=span + 4, landmark=(span + 5, 2**41)
    )
    restored = decode_metadata(text, span, span + 10)
    assert (restored.reserved, restored.done, restored.until) == (span + 9, {span + 2}, span + 4)
    assert (restored.generation, restored.landmark) == (7, (span + 5, 2**41))


async def test_a_new_owner_starts_from_nothing_before_the_commits_are_read(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.append("A-1", "B-1")
    desk.broker.stored["", at(0)] = (0, "somebody else's")
    desk.partner.effects = ["A-1"]
    desk.broker.reads_commits.clear()
    async with desk.lane() as lane:
        await asyncio.sleep(0.3)
        assert (desk.partner.effects, desk.partner.asked) == (["A-1"], 0)
        assert "reading the commits" in lane.not_ready
        desk.broker.reads_commits.set()
        await reaches(lambda: desk.partner.effects == ["A-1", "B-1"])
    assert desk.partner.asked == 2


async def test_taken_away_or_stopped_before_its_commits_are_read_it_commits_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.append(*(f"A-{n}" for n in range(5)))
    async with desk.lane():
        await reaches(lambda: desk.broker.committed(at(0)) == 5)
    before = desk.broker.stored["", at(0)]
    desk.broker.reads_commits.clear()
    async with desk.lane() as lane:
        await reaches(lambda: "reading" in lane.not_ready)
        await desk.broker.rebalance()
        assert desk.broker.stored["", at(0)] == before
    assert desk.broker.stored["", at(0)] == before
    desk.broker.reads_commits.set()
    async with desk.lane() as lane:
        await reaches(lambda: lane.owns(0))
    assert len(desk.partner.effects) == 5
