"""All that is known of one parked delivery: its fact, its outcomes so far, and what the partner has now."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.bus.codec import Codec, Undecodable
from services.bus.identity import Delivered, Outcome
from services.bus.partitioning import place_of
from services.bus.place import Unreachable
from services.bus.registry import RegistryAway
from services.operations.parked_partner import PartnerSays, ask_partner
from services.operations.parked_plan import Choice, Sources, plan_retries
from services.operations.parked_records import ParkedRecord
from services.operations.parked_view import OUTCOMES, Told
from services.operations.topic_reader import TopicReader

BEFORE_A_CONFLICT = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class Known:
    """`taken` is when the bus took the fact (UTC); `retry` what a retry would do now.

    `fact` is None where the log no longer has it: then `says` is None too.
    """

    parked: ParkedRecord
    fact: Delivered | None
    taken: datetime | None
    outcomes: tuple[Outcome, ...]
    retry: Choice
    says: PartnerSays | None


async def look_at(sources: Sources, parked: ParkedRecord, told: Told) -> Known:
    """Reads the logs and asks the partner, with calls that only read.

    Raises Unreachable and KafkaException for the bus alone: a partner that is away is part of the answer.
    """
    (retry,) = await plan_retries(sources, [parked], "", told)
    fact, taken = retry.fact, None
    if retry.record is not None:
        taken = datetime.fromtimestamp(retry.record.timestamp()[1] / 1000, UTC)
    return Known(
        parked=parked,
        fact=fact,
        taken=taken,
        outcomes=tuple(await _outcomes(sources, parked, taken or parked.settled_at, told)),
        retry=retry,
        says=await ask_partner(sources.settings, fact) if fact is not None else None,
    )


async def _outcomes(sources: Sources, parked: ParkedRecord, since: datetime, told: Told) -> list[Outcome]:
    """Of its natural id; of a conflict also those of the first one, if it came within the day before."""
    topic = OUTCOMES[parked.family].TOPIC
    codec = Codec({topic: sources.catalog[topic].schema}, sources.registry)
    key = f"{parked.biller}/{parked.account}".encode()
    ids = {parked.natural_id, parked.natural_id.partition("#")[0]}
    found: list[Outcome] = []
    with TopicReader(sources.place, topic, sources.clock) as reader:
        ends = reader.ends()
        mine = place_of(key, len(ends))
        begin = reader.offsets_at(since - BEFORE_A_CONFLICT if len(ids) > 1 else since, ends)[mine]
        reader.read({mine: begin}, ends)
        done, total = 0, ends[mine] - begin
        while not reader.finished:
            records = await asyncio.to_thread(reader.fetch)
            for record in records:
                if record.key() != key:
                    continue
                outcome = await _outcome(codec, topic, record.value())
                if outcome is not None and outcome.natural_id in ids:
                    found.append(outcome)
            told(done := done + len(records), total)
    return found


async def _outcome(codec: Codec, topic: str, value: bytes | None) -> Outcome | None:
    try:
        event = await codec.decode(topic, value)
    except Undecodable:
        return None
    except RegistryAway as error:
        raise Unreachable(f"The schema registry does not answer: {error}") from None
    return event if isinstance(event, Outcome) else None
