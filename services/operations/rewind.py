"""Another team's consumer group, set back to an instant of a topic: it reads again what it has read.

Only the group's own offsets change; nothing is written to a topic. Never forward: a partition in which the
group has read less than that stays where it is, so no record is passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from services.bus.catalog import Topic, load_catalog
from services.bus.clock import Clock
from services.bus.connection import kafka_of
from services.bus.groups import NO_OFFSET, commit_offsets, committed_offsets, has_members
from services.bus.place import Place
from services.bus.settings import Settings
from services.operations.audit import Act, auditing
from services.operations.topic_reader import TopicReader

OURS = "billbus."
OCCUPIED = (
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.NON_EMPTY_GROUP,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.ILLEGAL_GENERATION,
)


class Refused(Exception):
    """It is not done, and the message says why and what to do instead."""


class Active(Refused):
    """The group has members now: they would not see that their offsets changed, and commit over them."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Which group is to read which topic again from `at`; `new` lets it be one that never read the topic."""

    group: str
    topic: Topic
    at: datetime
    new: bool = False


@dataclass(frozen=True, kw_only=True)
class Shift:
    """One partition: the next record that the group reads, now (None: it has no offset) and then; the end."""

    partition: int
    committed: int | None
    to: int
    end: int

    @property
    def lag_now(self) -> int | None:
        return None if self.committed is None else max(self.end - self.committed, 0)

    @property
    def lag_then(self) -> int:
        return max(self.end - self.to, 0)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a rewind does. `with_metadata`: the group's commits say more than an offset, which is lost."""

    wish: Wish
    shifts: tuple[Shift, ...]
    active: bool
    with_metadata: bool

    @property
    def moved(self) -> tuple[Shift, ...]:
        """The partitions whose offset changes."""
        return tuple(each for each in self.shifts if each.to != each.committed)

    @property
    def lag_now(self) -> int:
        return sum(each.lag_now or 0 for each in self.shifts)

    @property
    def lag_then(self) -> int:
        return sum(each.lag_then for each in self.shifts)


def plan_rewind(settings: Settings, wish: Wish, clock: Clock) -> Plan:
    """What it would do; changes nothing. Raises Refused, Unreachable, ConfigurationError, KafkaException."""
    with _opened(settings, wish, clock) as (place, reader):
        return _plan(place, reader, wish)


async def rewind(settings: Settings, wish: Wish, clock: Clock, *, operator: str, reason: str) -> Plan:
    """Does it, looked at anew; returns what was done. Raises what plan_rewind does, and Active."""
    act = Act(
        operator=operator,
        action="rewind",
        target=f"group {wish.group} on {wish.topic.name} to {wish.at.isoformat()}",
        reason=reason,
    )
    with _opened(settings, wish, clock) as (place, reader):
        plan = await asyncio.to_thread(_plan, place, reader, wish)
        if plan.active:
            raise Active(_is_active(wish.group))
        async with auditing(settings, load_catalog(settings.schemas), clock) as audit:
            await audit.told(act, "begun")
            try:
                await asyncio.to_thread(_commit, place, plan)
            except (Refused, KafkaException) as error:
                await audit.told(act, f"failed: {type(error).__name__}")
                raise
            moved = f"{len(plan.moved)} of {len(plan.shifts)} partitions"
            await audit.told(act, f"set back in {moved}; lag {plan.lag_now} before, {plan.lag_then} after")
    return plan


@contextmanager
def _opened(settings: Settings, wish: Wish, clock: Clock) -> Iterator[tuple[Place, TopicReader]]:
    if wish.group.startswith(OURS):
        raise Refused(
            f"{wish.group} is one of our own: its offsets say what was delivered, and set back they "
            "would put all of that in doubt. To have records processed again, run: "
            f"billbus replay {wish.topic.short} --day DAY"
        )
    with (
        Place(kafka_of(settings), settings.registry) as place,
        TopicReader(place, wish.topic.name, clock) as reader,
    ):
        yield place, reader


def _plan(place: Place, reader: TopicReader, wish: Wish) -> Plan:
    ends = reader.ends()
    targets = reader.offsets_at(wish.at, ends)
    asked = [TopicPartition(wish.topic.name, partition) for partition in sorted(ends)]
    found = committed_offsets(place.client, wish.group, asked)
    committed = {each.partition: each.offset if each.offset > NO_OFFSET else None for each in found}
    if not wish.new and all(offset is None for offset in committed.values()):
        raise Refused(
            f"{wish.group} has never read {wish.topic.name}: look at the group's name, or let it begin there "
            "with --new."
        )
    shifts = tuple(
        Shift(
            partition=partition,
            committed=committed[partition],
            to=_no_further(committed[partition], targets[partition]),
            end=ends[partition],
        )
        for partition in sorted(ends)
    )
    return Plan(
        wish=wish,
        shifts=shifts,
        active=has_members(place.admin, wish.group),
        with_metadata=any(each.metadata for each in found),
    )


def _no_further(committed: int | None, target: int) -> int:
    return target if committed is None else min(committed, target)


def _commit(place: Place, plan: Plan) -> None:
    topic = plan.wish.topic.name
    offsets = [TopicPartition(topic, each.partition, each.to) for each in plan.moved]
    if not offsets:
        return
    try:
        commit_offsets(place.admin, plan.wish.group, offsets)
    except KafkaException as error:
        if error.args[0].code() in OCCUPIED:  # somebody joined since it was looked at
            raise Active(_is_active(plan.wish.group)) from None
        raise


def _is_active(group: str) -> str:
    return (
        f"{group} has members now, who would go on where they are and commit over it: stop all of them, wait "
        "until their session has ended, and run this again."
    )
