"""What the lane reaches for below aiokafka's public surface; to be looked at with each new version of it."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiokafka import TopicPartition

from services.bus.clock import Clock
from services.bus.membership import Gone, Membership, Readers
from services.bus.partition import Ticket
from tests.lane_bench import TOPICS, Bench, payments, reaches

SESSION_S, MARGIN_S = 3.0, 0.5
LIVE = TOPICS[0]


@dataclass
class Told:
    """Remembers what it was told."""

    owned: set[TopicPartition] = field(default_factory=set)
    tickets: list[Ticket] = field(default_factory=list)

    def assigned(self, partitions: Collection[TopicPartition], ticket: Ticket) -> None:
        self.owned = set(partitions)
        self.tickets.append(ticket)

    async def revoked(self, partitions: Collection[TopicPartition]) -> None:
        self.owned -= set(partitions)


@asynccontextmanager
async def member(bench: Bench, owner: Told) -> AsyncIterator[Membership]:
    clock = Clock()
    made = Membership(
        bench.stack.bootstrap, bench.group, list(TOPICS), clock, session_s=SESSION_S, margin_s=MARGIN_S
    )
    await made.join(owner)
    polling = asyncio.ensure_future(poll(made))
    try:
        await reaches(lambda: owner.owned)
        yield made
    finally:
        polling.cancel()
        await made.leave()


async def poll(membership: Membership) -> None:
    while True:
        await membership.fetch(10)


async def test_live_and_replay_of_a_partition_are_always_with_one_member(bench: Bench) -> None:
    first, second, third = Told(), Told(), Told()
    async with member(bench, first), member(bench, second), member(bench, third):
        await reaches(lambda: [len(each.owned) for each in (first, second, third)] == [8, 8, 8])
        for each in (first, second, third):
            assert {p.partition for p in each.owned if p.topic == LIVE} == {
                p.partition for p in each.owned if p.topic != LIVE
            }


async def test_a_commit_of_an_earlier_joining_is_refused_by_the_broker(bench: Bench) -> None:
    first, second = Told(), Told()
    partition = TopicPartition(LIVE, 3)
    async with member(bench, first) as one:
        old = first.tickets[-1]
        assert await one.commit(old, {partition: (0, "mine")}) == {partition}
        async with member(bench, second):
            await reaches(lambda: len(first.tickets) > 1)
            assert await one.commit(old, {partition: (0, "too late")}) == set()
            assert await one.commit(first.tickets[-1], {partition: (0, "again")}) == {partition}
        assert (await one.commits([partition]))[partition] == (0, "again")


async def test_one_partition_refused_is_told_from_the_others_that_were_taken(bench: Bench) -> None:
    told = Told()
    three = [TopicPartition(LIVE, number) for number in (1, 2, 3)]
    commits = {p: (0, "x" * (5000 if p.partition == 2 else 10)) for p in three}
    async with member(bench, told) as one:
        assert await one.commit(told.tickets[-1], commits) == {three[0], three[2]}
        stored = await one.commits(three)
        assert [stored[p][1][:1] for p in three] != ["x", "x", "x"]


async def test_being_recognised_reaches_as_far_as_the_session_less_a_margin(bench: Bench) -> None:
    told, clock = Told(), Clock()
    async with member(bench, told) as one:
        first = one.certain_until
        assert clock.monotonic() < first <= clock.monotonic() + SESSION_S - MARGIN_S
        await reaches(lambda: one.certain_until > first)


async def test_a_cursor_has_a_group_of_its_own_that_is_found_again(bench: Bench) -> None:
    told = Told()
    partition, other = TopicPartition(LIVE, 5), TopicPartition(LIVE, 6)
    async with member(bench, told) as one:
        assert await one.commit_cursor("acme", partition, (7, "open"))
        assert "acme" in await one.scopes()
        found = await one.commits([partition, other], "acme")
        assert (found[partition], found[other][0]) == ((7, "open"), -1)


async def test_reading_beside_the_group_gives_records_from_an_offset_or_says_that_they_are_gone(
    bench: Bench,
) -> None:
    told, sent = Told(), payments(50, 1)
    before = bench.ends()
    await bench.publish(*sent)
    (number,) = [n for n, end in bench.ends().items() if end > before[n]]
    partition = TopicPartition(LIVE, number)
    async with member(bench, told) as one:
        found = await one.read(partition, before[number] + 10, 5)
        assert [record.offset for record in found] == list(range(before[number] + 10, before[number] + 15))
        for first in (before[number] + 15, before[number] + 18, before[number]):  # on, past some, and back
            found = await one.read(partition, first, 3)
            assert [record.offset for record in found] == list(range(first, first + 3))
        several = await asyncio.gather(*(one.read(partition, before[number] + n, 1) for n in range(20)))
        assert [found[0].offset - before[number] for found in several] == list(range(20))
        assert one._readers._there_are == Readers.MOST == len(one._readers._idle)
        with pytest.raises(Gone):
            await one.read(partition, bench.ends()[number] + 1000, 5)
        assert (await one.edges([partition]))[partition][1] == bench.ends()[number]
