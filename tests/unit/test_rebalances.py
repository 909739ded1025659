"""Partitions that come and go: nothing twice at a time, nothing as if fresh, all counters back at zero."""

import asyncio
import time
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from services.bus.cursors import WINDOW
from services.bus.delivery import Delivery
from services.bus.lane import Parked, Rejected, Settlement
from services.bus.partition import account_scope
from services.bus.partner import Outage, Retryable, Unknown
from services.bus.progress import Progress
from services.events import PaymentReceived
from tests.fake_broker import Desk, at
from tests.lane_bench import reaches


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.bus.commits.COMMIT_EVERY_S", 0.02)


async def test_an_idle_partition_is_handed_over_in_milliseconds(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    async with desk.lane() as lane:
        desk.append("A-1")
        await reaches(lambda: desk.broker.committed(at(0)) == 1)
        began = time.monotonic()
        for _ in range(10):
            await desk.broker.rebalance()
        assert time.monotonic() - began < 2
        await reaches(lambda: lane.owns(0))


async def test_a_call_that_ends_within_the_hand_over_is_committed_before_it_and_never_asked_for(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path)
    desk.partner.slow["A-1"] = asyncio.Event()
    desk.append("A-1")
    async with desk.lane() as lane:
        await reaches(lambda: desk.partner.running["A"] == 1)
        asyncio.get_running_loop().call_later(0.2, desk.partner.slow["A-1"].set)
        await desk.broker.rebalance()
        assert (desk.broker.generation - 1, at(0), 1) in desk.broker.taken
        await reaches(lambda: lane.owns(0))
    assert (desk.partner.effects, desk.partner.asked) == (["A-1"], 0)


async def test_a_full_window_is_full_again_after_a_rebalance_and_empties_in_order(tmp_path: Path) -> None:
    desk, gate = Desk(tmp_path), asyncio.Event()
    sent = [f"A{n}-1" for n in range(2 * WINDOW - 100)]
    desk.partner.slow = dict.fromkeys(sent, gate)
    desk.append(*sent)

    def full(lane: Delivery[PaymentReceived]) -> bool:
        return lane.owns(0) and lane._owned[at(0)].paused and lane._owned[at(0)].main.held >= WINDOW

    async with desk.lane() as lane:
        await reaches(partial(full, lane))
        assert lane._owned[at(0)].main.held <= WINDOW + desk.broker.at_once
        await desk.broker.rebalance()
        await reaches(partial(full, lane))
        gate.set()
        await reaches(lambda: desk.broker.committed(at(0)) == len(sent))
    assert sorted(desk.partner.effects) == sorted(sent)


async def test_rebalances_at_any_moment_lose_nothing_double_nothing_and_leave_no_counter_behind(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path, 0, 1)
    sent = [f"A{n % 7}-{n}" for n in range(400)]
    async with desk.lane() as lane:
        for number, guid in enumerate(sent):
            desk.append(guid, partition=number % 7 % 2)
            if number % 4 == 0:
                await asyncio.sleep(0)
            if number % 8 == 0:
                await desk.broker.rebalance()
        await reaches(lambda: len(set(desk.partner.effects)) == len(sent))
        await reaches(lambda: sum(desk.broker.committed(at(n)) for n in (0, 1)) == len(sent))
        await reaches(lambda: not lane._busy and not lane._shares.in_flight)
        assert not any(owned.queues for owned in lane._owned.values())
    assert Counter(desk.partner.effects).most_common(1)[0][1] == 1
    assert desk.partner.overlaps == 0
    for account in range(7):
        mine = [guid for guid in desk.partner.effects if guid.startswith(f"A{account}-")]
        assert mine == [guid for guid in sent if guid.startswith(f"A{account}-")]


async def test_without_the_coordinator_nothing_leaves_although_the_partner_is_there(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.partner.slow["A0-1"] = asyncio.Event()
    desk.append("A0-1", *(f"A{n}-1" for n in range(1, 60)), "A0-2")
    async with desk.lane():
        await reaches(lambda: len(desk.partner.effects) == 59)
        desk.broker.certain_until = time.monotonic()
        desk.append(*(f"B{n}-1" for n in range(20)))
        desk.partner.slow["A0-1"].set()
        await reaches(lambda: desk.partner.effects[-1] == "A0-1")
        await asyncio.sleep(0.4)  # longer than a record waits until it is looked at again
        assert len(desk.partner.effects) == 60
        desk.broker.certain_until = float("inf")
        await reaches(lambda: len(desk.partner.effects) == 81)
    assert Counter(desk.partner.effects).most_common(1)[0][1] == 1


async def test_one_partition_with_poisoned_metadata_neither_stops_the_others_nor_is_taken_for_fresh(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path, *range(5))
    desk.broker.stored["", at(2)] = (0, "bb2,ffffffff,\x00,,,")
    for number in range(5):
        desk.append(f"A{number}-1", partition=number)
    desk.partner.effects = ["A2-1"]
    async with desk.lane():
        await reaches(lambda: all(desk.broker.committed(at(n)) == 1 for n in range(5)))
    assert sorted(desk.partner.effects) == [f"A{n}-1" for n in range(5)]
    assert desk.partner.asked == 1


async def test_a_fault_of_ours_while_commits_are_read_ends_the_lane_and_delivers_nothing(
    tmp_path: Path,
) -> None:
    desk = Desk(tmp_path)
    desk.append("A-1")

    async def broken(*_: object) -> object:
        raise RuntimeError("a bug")

    desk.broker.edges = broken  # type: ignore[method-assign,assignment]  # one that has a bug

    async def until_it_ends() -> None:
        async with desk.lane() as lane:
            await reaches(lambda: lane._failure is not None)

    with pytest.raises(ExceptionGroup, match="TaskGroup"):
        await until_it_ends()
    assert desk.partner.effects == []


@pytest.mark.parametrize(
    ("ends", "effects"),
    [
        (Rejected("no"), 0),
        (Parked("a person"), 0),
        (Unknown("acme", "imt", "no answer"), 1),
        (Retryable("acme", "imt", "busy"), 1),
        (Outage("acme", "imt", "refused"), 1),
        (ValueError("a bug"), 1),
    ],
    ids=lambda each: type(each).__name__,
)
async def test_every_way_out_gives_its_place_back(
    tmp_path: Path, ends: Settlement | Exception, effects: int
) -> None:
    desk = Desk(tmp_path)
    once = [ends]
    deliver = desk.partner.deliver

    async def answering(event: PaymentReceived) -> Settlement:
        if event.payment_guid == "A-1" and once:
            answer = once.pop()
            if isinstance(answer, Exception):
                raise answer
            return answer
        return await deliver(event)

    desk.partner.deliver = answering  # type: ignore[method-assign]  # its first answer is another one
    desk.append("A-1", "poison", "A-2", "B-1")
    async with desk.lane() as lane:
        await reaches(lambda: desk.broker.committed(at(0)) == 4)
        assert (lane._shares.in_flight, lane._busy) == (0, {})
    assert Counter(desk.partner.effects) == Counter(["A-2", "B-1", *["A-1"] * effects])
    assert desk.publisher.letters == [b"poison"]


async def test_of_two_closed_cursors_the_one_that_closed_first_is_read_first(tmp_path: Path) -> None:
    """An account's cursor that closed into its biller's has the older records of that account."""
    desk = Desk(tmp_path)
    desk.append("A-1", "B-1", "A-2", "A-3", "A-4")
    for scope, begin, until in (("acme", 3, 4), (account_scope(b"acme/A"), 0, 3)):
        closed = Progress(next=begin, reserved=begin, until=until).snapshot(0)
        desk.broker.stored[scope, at(0)] = (begin, closed.metadata)
    desk.broker.stored["", at(0)] = (4, Progress(next=4, reserved=4).snapshot(0).metadata)
    async with desk.lane():
        await reaches(lambda: desk.broker.committed(at(0)) == 5)
    assert desk.partner.effects == ["A-1", "A-2", "A-3", "A-4"]


async def test_two_that_fail_together_are_both_tried_again(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    desk.append(*(f"A{n}-1" for n in range(10)))
    desk.partner.fails = {f"A{n}-1": Retryable("acme", "imt", "busy") for n in (3, 7)}
    async with desk.lane():
        await reaches(lambda: len(desk.partner.effects) == 8)
        assert desk.broker.committed(at(0)) <= 3
        desk.partner.fails.clear()
        await reaches(lambda: desk.broker.committed(at(0)) == 10)
    assert Counter(desk.partner.effects).most_common(1)[0][1] == 1
