"""Retries and dismissals of parked deliveries: emitted to `.replay`, audited, and what came of each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import uuid4

from services.bus.catalog import REPLAY
from services.bus.codec import Codec
from services.bus.identity import Outcome
from services.bus.place import Unreachable
from services.bus.registry import RegistryAway
from services.bus.replayed import ACT, ATTEMPT
from services.bus.replayed import Act as Wished
from services.operations.audit import Act, Audit, auditing
from services.operations.parked_outcomes import OutcomeWatch
from services.operations.parked_plan import Choice, Sources
from services.operations.parked_view import Told
from services.operations.reemitting import Reemitter, coordinates_of
from services.operations.topic_reader import TopicReader

Wish = Literal["retry", "dismiss"]
Result = Literal[
    "posted",
    "refused",
    "parked again",
    "superseded",
    "dismissed",
    "skipped",
    "not answered yet",
    "not possible",
]
CAME: Mapping[str, Result] = {
    "posted": "posted",
    "rejected": "refused",
    "parked": "parked again",
    "superseded": "superseded",
    "dismissed": "dismissed",
}
DONE: Mapping[Wish, frozenset[Result]] = {
    "retry": frozenset({"posted", "superseded", "skipped"}),
    "dismiss": frozenset({"dismissed", "skipped"}),
}
"""What leaves nothing to do."""
MOST_AT_ONCE = 1000
"""Of one command; the rest is told and is for the next one."""
LATELY_S = 5.0
NAMED = 5
"""So many are named in the audit record; of more it says how many of which kind."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """What an operator wants done, and why; `wait_s` is how long the answers are waited for."""

    wish: Wish
    operator: str
    reason: str
    wait_s: float


@dataclass(frozen=True, kw_only=True)
class Came:
    """What came of one; `outcome` where there is a new one."""

    choice: Choice
    result: Result
    why: str = ""
    outcome: Outcome | None = None


async def carry_out(
    sources: Sources, watch: OutcomeWatch, choices: Sequence[Choice], order: Order, told: Told
) -> list[Came]:
    """Emits what is possible and waits for its outcomes; answers for each in the order given.

    `watch` was opened before the choices were read: what came meanwhile is skipped. Nothing is emitted
    before the audit record that says so is acknowledged. Raises Unreachable, KafkaException; what was
    emitted by then is done by the lane all the same.
    """
    since = await _newer(watch, choices, LATELY_S, told, until_quiet=True)
    elsewhere = await asyncio.to_thread(_on_their_way, sources, [each for each in choices if each.resolved])
    came: dict[bytes, Came] = {}
    for choice in choices:
        delivery = choice.parked.delivery
        if choice.does == "cannot":
            came[delivery] = Came(choice=choice, result="not possible", why=choice.why)
        elif delivery in since:
            state = CAME[since[delivery].state]
            why = f"somebody else was first: {state}"
            came[delivery] = Came(choice=choice, result="skipped", why=why, outcome=since[delivery])
        elif delivery in elsewhere:
            why = "a retry of it to another account is on its way: wait for its outcome"
            came[delivery] = Came(choice=choice, result="not possible", why=why)
    going = [choice for choice in choices if choice.parked.delivery not in came]
    if going:
        came |= await _audited(sources, watch, going, order, told)
    return [came[choice.parked.delivery] for choice in choices]


async def _audited(
    sources: Sources, watch: OutcomeWatch, going: Sequence[Choice], order: Order, told: Told
) -> dict[bytes, Came]:
    run = uuid4().hex[:12]
    acts = {biller: _act(biller, going, order, run) for biller in {each.parked.biller for each in going}}
    async with auditing(sources.settings, sources.catalog, sources.clock) as audit:
        await _tell(audit, acts, dict.fromkeys(acts, "begun"))
        try:
            await _emit(sources, going, order, run)
        except Exception:
            await _tell(audit, acts, dict.fromkeys(acts, "broke off: not all of it is on the bus"))
            raise
        await _tell(audit, acts, dict.fromkeys(acts, "on the bus"))
        newer = await _newer(watch, going, order.wait_s, told)
        came = {choice.parked.delivery: _came(choice, newer.get(choice.parked.delivery)) for choice in going}
        await _tell(audit, acts, {biller: _counted(biller, came.values()) for biller in acts})
    return came


def _act(biller: str, going: Iterable[Choice], order: Order, run: str) -> Act:
    of_it = [each.parked for each in going if each.parked.biller == biller]
    kinds = Counter(f"{each.family} {each.reason.partition(':')[0]}" for each in of_it)
    what = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    names = f": {', '.join(each.natural_id for each in of_it)}" if len(of_it) <= NAMED else ""
    return Act(
        operator=order.operator,
        action=order.wish,
        target=f"parked {what}{names} (run {run})",
        reason=order.reason,
        biller=biller,
    )


async def _tell(audit: Audit, acts: Mapping[str, Act], results: Mapping[str, str]) -> None:
    for biller, act in acts.items():
        await audit.told(act, results[biller])


def _counted(biller: str, came: Iterable[Came]) -> str:
    counts = Counter(each.result for each in came if each.choice.parked.biller == biller)
    return ", ".join(f"{result} {count}" for result, count in sorted(counts.items()))


def _came(choice: Choice, outcome: Outcome | None) -> Came:
    if outcome is None:
        return Came(choice=choice, result="not answered yet", why="the service works on it, or is away")
    why = outcome.detail or outcome.reason or ""
    return Came(choice=choice, result=CAME[outcome.state], why=why, outcome=outcome)


async def _newer(
    watch: OutcomeWatch, choices: Sequence[Choice], within_s: float, told: Told, *, until_quiet: bool = False
) -> Mapping[bytes, Outcome]:
    waited_for = {choice.parked.delivery: choice.parked for choice in choices}
    keys = {_key(choice.parked.biller, account) for choice in choices for account in _accounts(choice)}
    return await watch.newer(waited_for, keys, within_s, told, until_quiet=until_quiet)


def _accounts(choice: Choice) -> set[str]:
    return {choice.parked.account, (choice.resolved or choice.parked).account}


def _key(biller: str, account: str) -> str:
    return f"{biller}/{account}"


async def _emit(sources: Sources, going: Sequence[Choice], order: Order, run: str) -> None:
    """Byte for byte, but for those whose account was found: these are written anew under its key."""
    topics = sorted({choice.parked.topic for choice in going})
    codec = Codec({name: sources.catalog[name].schema for name in topics}, sources.registry)
    try:
        await codec.start()
    except RegistryAway as error:
        raise Unreachable(f"The schema registry does not answer: {error}") from None
    with ExitStack() as opened:
        writers = {
            name: opened.enter_context(Reemitter(sources.place, name, run, sources.clock)) for name in topics
        }
        for choice in going:
            parked, record = choice.parked, choice.record
            key, value = record.key(), record.value()
            if choice.resolved is not None:
                key = _key(parked.biller, choice.resolved.account).encode()
                value = codec.encode(choice.resolved)
            reason = order.reason if order.wish == "dismiss" else ""
            act = Wished(order.wish, parked.attempt, reason)
            writers[parked.topic].emit(key, value, record.headers() or (), coordinates_of(record), act)
        for writer in writers.values():
            await asyncio.to_thread(writer.flush)


def _on_their_way(sources: Sources, moved: Collection[Choice]) -> set[bytes]:
    """Those of which a retry under another account's key stands on `.replay` already.

    Two such keys are worked on side by side, so both would be delivered. A retry that has been answered
    has a newer outcome, so what is still parked as it was waits for that one.
    """
    found: set[bytes] = set()
    for topic in {choice.parked.topic for choice in moved}:
        of_it = {choice.parked.event_id: choice for choice in moved if choice.parked.topic == topic}
        since = min(choice.parked.settled_at for choice in of_it.values())
        found |= _elsewhere(sources, topic, of_it, since)
    return found


def _elsewhere(sources: Sources, topic: str, moved: Mapping[str, Choice], since: datetime) -> set[bytes]:
    found: set[bytes] = set()
    with TopicReader(sources.place, topic + REPLAY, sources.clock) as reader:
        ends = reader.ends()
        reader.read(reader.offsets_at(since, ends), ends)
        while not reader.finished:
            for record in reader.fetch():
                said = dict(record.headers() or ())
                choice = moved.get((said.get("ce_id") or b"").decode(errors="replace"))
                if choice is None or said.get(ACT) != b"retry" or choice.resolved is None:
                    continue
                same_key = record.key() == _key(choice.parked.biller, choice.resolved.account).encode()
                if said.get(ATTEMPT) == b"%d" % choice.parked.attempt and not same_key:
                    found.add(choice.parked.delivery)
    return found
