"""What of a story is not settled, in plain words: where its lane stands, and what waits for a person."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime

from confluent_kafka import TopicPartition

from services.bus.identity import Delivered, Outcome, natural_id
from services.bus.pauses import Pauses
from services.bus.progress import Restored, decode_metadata
from services.bus.replayed import act_of
from services.bus.topics import group_of
from services.events import InvoiceIssued, PauseCurrent, PaymentReceived, SettingChanged
from services.operations.trace_log import EVERY, Log, Part, Seen
from services.operations.trace_story import newest_outcome

DELIVERS = {
    PaymentReceived.TOPIC: "payments.post",
    InvoiceIssued.TOPIC: "invoices.upload",
    SettingChanged.TOPIC: "settings.apply",
}
CALLED = {
    PaymentReceived.TOPIC: "payment",
    InvoiceIssued.TOPIC: "invoice",
    SettingChanged.TOPIC: "setting",
}


@dataclass(frozen=True)
class Position:
    """Where a lane, or a biller's cursor beside it, stands in one partition.

    `behind_s` is the age of the first record that is not finished, 0 where all are; `committed` is None
    where nothing is committed.
    """

    who: str
    committed: int | None
    restored: Restored
    behind_s: float

    def said(self) -> str:
        if self.committed is None:
            return f"{self.who} has no offset there"
        if not self.behind_s:
            return f"{self.who} is not behind"
        return f"{self.who} is {lasting(self.behind_s)} behind"

    def passed(self, offset: int) -> bool:
        return self.committed is not None and (offset < self.committed or offset in self.restored.done)


async def unsettled(log: Log, chosen: Collection[Seen], now: datetime) -> list[str]:
    """A sentence for each fact without a final outcome, and for what an operator asked for and waits."""
    said, pauses = [], None
    for seen in _facts(chosen):
        fact = seen.event
        assert isinstance(fact, Delivered)
        last = newest_outcome(fact, chosen)
        waiting = _asked_since(seen, last, chosen)
        if last is not None and _state(last) != "parked" and waiting is None:
            continue
        pauses = pauses or await _pauses(log)
        lane = DELIVERS[seen.live_topic]
        where = waiting or seen
        at = await _positions(log, lane, fact.biller, where, now)
        what = f"{CALLED[seen.live_topic]} of {seen.hit.partition}@{seen.hit.offset}"
        if waiting is not None:
            said.append(f"{what}: {_act_waits(waiting, at)}")
        elif last is None:
            said.append(f"{what}: {_without_outcome(seen, at)}")
        else:
            said.append(
                f"{what}: parked for {lasting((now - last.at).total_seconds())} and waits for a person; "
                f"look at it with: billbus parked show {_natural(last)}"
            )
        if pause := pauses.why(fact.biller, lane):
            said.append(f"{lane} is paused for {fact.biller} by {pause.operator}: {pause.reason}")
    return said


def lasting(seconds: float) -> str:
    """A length of time as people say it, in its two largest units."""
    left, parts = max(round(seconds), 1), []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        many, left = divmod(left, size)
        if many:
            parts.append(f"{many} {unit}")
    return " ".join(parts[:2])


def _facts(chosen: Collection[Seen]) -> Iterator[Seen]:
    """Each delivered fact once, however often its sender told of it."""
    told = set()
    for seen in chosen:
        if seen.live_topic in DELIVERS and not seen.replayed and isinstance(seen.event, Delivered):
            same = (seen.live_topic, seen.event.biller, natural_id(seen.event), seen.event.content)
            if same not in told:
                told.add(same)
                yield seen


def _state(seen: Seen) -> str:
    assert isinstance(seen.event, Outcome)
    return seen.event.state


def _natural(seen: Seen) -> str:
    assert isinstance(seen.event, Outcome)
    return seen.event.natural_id


def _asked_since(fact: Seen, last: Seen | None, chosen: Collection[Seen]) -> Seen | None:
    """The newest thing an operator asked for of this fact after its last outcome."""
    after = last.hit.timestamp if last else 0
    assert isinstance(fact.event, Delivered)
    asked = [
        seen
        for seen in chosen
        if seen.replayed
        and isinstance(seen.event, Delivered)
        and seen.live_topic == fact.live_topic
        and natural_id(seen.event) == natural_id(fact.event)
        and seen.hit.timestamp > after
    ]
    return max(asked, key=lambda seen: seen.hit.timestamp, default=None)


def _without_outcome(seen: Seen, positions: list[Position]) -> str:
    lane, *cursors = positions
    at = seen.hit.offset
    behind = next((each for each in cursors if not each.passed(at)), None)
    if behind is not None:
        return f"received, no outcome yet; it waits behind its biller's own cursor: {behind.said()}"
    if lane.passed(at):
        return (
            f"received, and {lane.who} has passed it, but no outcome stands in what was searched; look "
            "further with --days, or ask the partner: billbus reconcile"
        )
    if lane.restored.in_doubt(at):
        under_way = "it is under way, or was when its service ended (in doubt)"
        return f"received, no outcome yet; {under_way}; {lane.said()}"
    return f"received, no outcome yet; {lane.said()}"


def _act_waits(seen: Seen, positions: list[Position]) -> str:
    act = act_of(seen.hit)
    wish = act.wish if act else "replay"
    if any(each.passed(seen.hit.offset) for each in positions[:1]):
        return f"the {wish} that was asked for changed nothing, what was known stands"
    return f"a {wish} was asked for and has no outcome yet; {positions[0].said()}"


async def _positions(log: Log, lane: str, biller: str, seen: Seen, now: datetime) -> list[Position]:
    """The lane's own, then that of the biller's cursor where it is open."""
    own = await _position(log, group_of(lane), lane, seen, now)
    cursor = await _position(log, f"{group_of(lane)}.{biller}", f"the cursor of {biller}", seen, now)
    is_open = cursor.committed is not None and cursor.restored.until is None and cursor.restored.readable
    return [own, cursor] if is_open else [own]


async def _position(log: Log, group: str, who: str, seen: Seen, now: datetime) -> Position:
    place = TopicPartition(seen.hit.topic, seen.hit.partition)
    committed, metadata = await log.committed(group, place.topic, place.partition)
    end = next(iter((await asyncio.to_thread(log.ends, [place])).values()))
    if committed < 0:
        return Position(who, None, Restored(reserved=0), 0.0)
    restored = decode_metadata(metadata, committed, end)
    behind = 0.0
    if committed < end:
        first = await log.at(place.topic, place.partition, committed)
        behind = max(now.timestamp() - first.timestamp / 1000, 0.001) if first else 0.0
    return Position(who, committed, restored, behind)


async def _pauses(log: Log) -> Pauses:
    """What is paused now."""
    pauses = Pauses()
    async for seen in log.find([Part(PauseCurrent.TOPIC, None)], EVERY):
        if isinstance(seen.event, PauseCurrent):
            pauses.take(seen.event)
    return pauses
