"""How far the lanes are behind and what lies in the dead letters, as the broker has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from services.bus.catalog import DLQ, REPLAY, Topic
from services.bus.closing import start_consumer, stop_consumer
from services.bus.connection import Brokers, aiokafka_client
from services.bus.place import Unreachable
from services.bus.progress import decode_metadata
from services.bus.topics import LANES, group_of

CONNECT_S, ANSWER_S = 5.0, 10.0
"""How long the broker may take until it answers at all, and then for one look."""
STAMPS_S = 1.5
"""How long the stamps of the first unsettled records may take; what has not come by then is not known."""
MOST_CURSORS = 200
"""Groups of cursors that are asked in one look."""
AT_ONCE = 16
FETCH_BYTES = 32 * 1024

Place = tuple[TopicPartition, int]
Stamps = Mapping[Place, tuple[datetime, str]]
"""When the broker took the record that stands there, or first after it (UTC), and whose biller it is."""


@dataclass(frozen=True, kw_only=True)
class Head:
    """The first record of a partition that a lane has not settled; `at` is None where it was not read."""

    topic: str
    partition: int
    offset: int
    at: datetime | None
    biller: str


@dataclass(frozen=True, kw_only=True)
class LaneLag:
    """How far one lane is behind.

    `live` and `replay` are records not settled; `cursors` are open ones, and `behind_cursors` at most so
    many records between them and the lane (other billers' among them). `lost` are partitions of the group
    that have no offset.
    """

    lane: str
    live: int
    replay: int
    cursors: int
    behind_cursors: int
    heads: tuple[Head, ...]
    lost: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DeadLetters:
    """What lies on one `.dlq`; `newest` is None where it was not read."""

    topic: str
    records: int
    newest: datetime | None


@dataclass(frozen=True, kw_only=True)
class BrokerState:
    """What the broker says; `missing` are topics of ours that it does not have."""

    lanes: tuple[LaneLag, ...]
    dead: tuple[DeadLetters, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class Stand:
    """A place that a group has committed: the offset and its metadata."""

    partition: TopicPartition
    offset: int
    metadata: str


class Connected:
    """What `connected` opened."""

    def __init__(self, consumer: AIOKafkaConsumer, admin: AIOKafkaAdminClient) -> None:
        self._consumer = consumer
        self._admin = admin

    async def look(self, catalog: Mapping[str, Topic]) -> BrokerState:
        """Raises KafkaError or TimeoutError."""
        async with asyncio.timeout(ANSWER_S):
            return await self._look(catalog)

    async def _look(self, catalog: Mapping[str, Topic]) -> BrokerState:
        read = {lane: _read(catalog[topic]) for lane, topic in LANES.items()}
        dead = [topic.name + DLQ for topic in catalog.values() if topic.dlq]
        names = sorted({*dead, *(name for topics in read.values() for name in topics)})
        there = await self._partitions(names)
        missing = tuple(name for name in names if not there[name])
        everything = [partition for partitions in there.values() for partition in partitions]
        ends = await self._consumer.end_offsets(everything) if everything else {}
        begins, stands, cursors = await asyncio.gather(
            self._begins([p for name in dead for p in there[name]]),
            self._stands({lane: [p for name in names for p in there[name]] for lane, names in read.items()}),
            self._cursors(ends),
        )
        lasts = {p: ends[p] - 1 for p in begins if ends[p] > begins[p]}
        stamps = await self._stamps([*_heads(stands, cursors, ends), *lasts.items()])
        return BrokerState(
            lanes=tuple(_lag(lane, stands[lane], cursors[lane], ends, stamps) for lane in LANES),
            dead=tuple(_dead(name, there[name], begins, ends, stamps) for name in dead),
            missing=missing,
        )

    async def _partitions(self, names: Collection[str]) -> dict[str, list[TopicPartition]]:
        # the public call answers from metadata that may not know the topics yet
        await self._consumer._client.set_topics(names)
        return {
            name: [
                TopicPartition(name, number)
                for number in sorted(self._consumer.partitions_for_topic(name) or ())
            ]
            for name in names
        }

    async def _begins(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        found = await self._consumer.beginning_offsets(list(partitions)) if partitions else {}
        return dict(found)

    async def _stands(self, lanes: Mapping[str, Sequence[TopicPartition]]) -> dict[str, list[Stand]]:
        """What each lane has committed; offset -1 where it has nothing."""
        found = await asyncio.gather(*(self._committed(group_of(lane), each) for lane, each in lanes.items()))
        return dict(zip(lanes, found, strict=True))

    async def _committed(self, group: str, partitions: Sequence[TopicPartition] | None = None) -> list[Stand]:
        wanted = None if partitions is None else list(partitions)
        found = await self._admin.list_consumer_group_offsets(group, partitions=wanted)
        return [Stand(partition, each.offset, each.metadata or "") for partition, each in found.items()]

    async def _cursors(self, ends: Mapping[TopicPartition, int]) -> dict[str, list[Stand]]:
        """The open cursors of each lane."""
        groups = [name for name, *_ in await self._admin.list_consumer_groups()]
        room = asyncio.Semaphore(AT_ONCE)

        async def ask(group: str) -> list[Stand]:
            async with room:
                return await self._committed(group)

        asked = [
            (lane, group) for lane in LANES for group in groups if group.startswith(f"{group_of(lane)}.")
        ][:MOST_CURSORS]
        found = await asyncio.gather(*(ask(group) for _, group in asked))
        open_ones: dict[str, list[Stand]] = {lane: [] for lane in LANES}
        for (lane, _), stands in zip(asked, found, strict=True):
            open_ones[lane] += [stand for stand in stands if _is_open(stand, ends)]
        return open_ones

    async def _stamps(self, places: Sequence[Place]) -> Stamps:
        """Reads one record at each place, a partition's different places one after the other."""
        found: dict[Place, tuple[datetime, str]] = {}
        left = set(places)
        try:
            async with asyncio.timeout(STAMPS_S):
                while left:
                    now = dict(left)  # of each partition one
                    left -= set(now.items())
                    await self._read_each(now, found)
        except TimeoutError:
            pass  # what was not read is not known
        return found

    async def _read_each(
        self, places: Mapping[TopicPartition, int], found: dict[Place, tuple[datetime, str]]
    ) -> None:
        self._consumer.assign(list(places))
        for partition, offset in places.items():
            self._consumer.seek(partition, offset)
        left = set(places)
        while left:
            try:
                batches = await self._consumer.getmany(*left, timeout_ms=100)
            except OffsetOutOfRangeError as error:
                left -= set(error.args[0])  # gone from the log: the lane halts there by name
                continue
            for partition, records in batches.items():
                if not records or partition not in left:
                    continue
                at = datetime.fromtimestamp(records[0].timestamp / 1000, UTC)
                biller = (records[0].key or b"").partition(b"/")[0].decode(errors="replace")
                found[partition, places[partition]] = (at, biller)
                left.discard(partition)
                self._consumer.pause(partition)


@asynccontextmanager
async def connected(brokers: Brokers) -> AsyncIterator[Connected]:
    """Raises Unreachable where the broker does not answer in time, also to what is asked within."""
    consumer = AIOKafkaConsumer(
        **aiokafka_client(brokers),
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=50,
        max_partition_fetch_bytes=FETCH_BYTES,
        request_timeout_ms=int(ANSWER_S * 1000),
    )
    admin = AIOKafkaAdminClient(**aiokafka_client(brokers), request_timeout_ms=int(ANSWER_S * 1000))
    try:
        async with asyncio.timeout(CONNECT_S):
            await asyncio.gather(start_consumer(consumer), admin.start())
        yield Connected(consumer, admin)
    except (KafkaError, TimeoutError, OSError) as error:
        raise Unreachable(f"Kafka at {brokers} does not answer ({type(error).__name__})") from None
    finally:
        await stop_consumer(consumer)
        await admin.close()


def _read(topic: Topic) -> list[str]:
    return [topic.name, topic.name + REPLAY] if topic.replay else [topic.name]


def _is_open(stand: Stand, ends: Mapping[TopicPartition, int]) -> bool:
    """A cursor is closed once it has met the lane it came from, which its commit says."""
    if stand.offset < 0 or stand.partition not in ends:
        return False
    until = decode_metadata(stand.metadata, stand.offset, ends[stand.partition]).until
    return until is None or stand.offset < until


def _heads(
    stands: Mapping[str, Sequence[Stand]],
    cursors: Mapping[str, Sequence[Stand]],
    ends: Mapping[TopicPartition, int],
) -> list[Place]:
    """The places whose records are the first unsettled ones, of lanes and of open cursors."""
    every = [stand for each in (*stands.values(), *cursors.values()) for stand in each]
    return [(s.partition, s.offset) for s in every if 0 <= s.offset < ends.get(s.partition, 0)]


def _lag(
    lane: str,
    stands: Sequence[Stand],
    cursors: Sequence[Stand],
    ends: Mapping[TopicPartition, int],
    stamps: Stamps,
) -> LaneLag:
    live = replay = 0
    for stand in stands:
        behind = max(0, ends[stand.partition] - stand.offset) if stand.offset >= 0 else 0
        if stand.partition.topic.endswith(REPLAY):
            replay += behind
        else:
            live += behind
    main = {stand.partition: stand.offset for stand in stands}
    heads = []
    for topic_partition, offset in _heads({lane: stands}, {lane: cursors}, ends):
        at, biller = stamps.get((topic_partition, offset), (None, ""))
        topic, partition = topic_partition
        heads.append(Head(topic=topic, partition=partition, offset=offset, at=at, biller=biller))
    return LaneLag(
        lane=lane,
        live=live,
        replay=replay,
        cursors=len(cursors),
        behind_cursors=sum(max(0, main.get(c.partition, c.offset) - c.offset) for c in cursors),
        heads=tuple(heads),
        lost=tuple(f"{s.partition.topic} {s.partition.partition}" for s in stands if s.offset < 0),
    )


def _dead(
    name: str,
    partitions: Sequence[TopicPartition],
    begins: Mapping[TopicPartition, int],
    ends: Mapping[TopicPartition, int],
    stamps: Stamps,
) -> DeadLetters:
    records = sum(ends[p] - begins[p] for p in partitions)
    stamped = [stamps[place][0] for p in partitions if (place := (p, ends[p] - 1)) in stamps]
    return DeadLetters(topic=name, records=records, newest=max(stamped, default=None))
