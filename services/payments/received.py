"""Ranges of the payments topic, read without a group and in one order whoever reads them."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

from aiokafka import AIOKafkaConsumer, TopicPartition

from services.bus.closing import start_consumer, stop_consumer
from services.bus.codec import Codec, Undecodable
from services.bus.connection import aiokafka_client, kafka_of
from services.bus.secrets import Secrets
from services.bus.settings import Settings
from services.bus.views import whole
from services.events import PaymentReceived

AT_ONCE = 2000
"""Records fetched at a time; what is read ahead is bounded by it and by one fetch of each partition."""
REST_S = 0.05
"""After so many of them: a long log is read with a sixth of the CPU, the rest is the lane's."""


class Log(Protocol):
    """What reading the bus needs: where it is, who we are there, and the codec of the topic."""

    @property
    def settings(self) -> Settings: ...
    @property
    def secrets(self) -> Secrets: ...
    @property
    def codec(self) -> Codec: ...


class ReceivedPayments:
    """`async with` it. `passed`: the records of all billers that were read so far."""

    def __init__(self, bus: Log) -> None:
        self.passed = 0
        self._codec: Codec = bus.codec
        self._topic = PaymentReceived.TOPIC
        self._consumer = AIOKafkaConsumer(
            **aiokafka_client(kafka_of(bus.settings, bus.secrets)),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
        )

    async def __aenter__(self) -> "ReceivedPayments":
        await start_consumer(self._consumer)
        try:
            self._partitions = await whole(self._consumer, self._topic)
        except BaseException:
            await stop_consumer(self._consumer)
            raise
        self._consumer.assign(self._partitions)
        return self

    async def __aexit__(self, *_: object) -> None:
        await stop_consumer(self._consumer)

    async def begins(self) -> dict[int, int]:
        """By partition the first offset that is kept."""
        return numbers(await self._consumer.beginning_offsets(self._partitions))

    async def ends(self) -> dict[int, int]:
        """By partition the offset after the last one."""
        return numbers(await self._consumer.end_offsets(self._partitions))

    async def ends_at(self, at: datetime) -> dict[int, int]:
        """By partition the first offset stamped at or after a past instant, else the end of the log."""
        # the ends first: what lands between the two questions is stamped after `at`
        ends = await self.ends()
        stamp = int(at.timestamp() * 1000)
        found = await self._consumer.offsets_for_times(dict.fromkeys(self._partitions, stamp))
        return {p.partition: found[p].offset if found[p] else ends[p.partition] for p in self._partitions}

    async def read(
        self, biller: str, begins: Mapping[int, int], ends: Mapping[int, int]
    ) -> AsyncGenerator[tuple[PaymentReceived, datetime], None]:
        """A biller's payments from `begins` up to, not including, `ends`, with the bus's own instants.

        They come in the order of those instants, of one instant by partition, however they are fetched.
        """
        keys = f"{biller}/".encode()
        async for record in self._in_order(begins, ends):
            self.passed += 1
            if not (record.key or b"").startswith(keys):
                continue  # decoding it would cost more than reading it
            try:
                event = await self._codec.decode(self._topic, record.value)
            except Undecodable:
                continue  # the lane buries it
            if isinstance(event, PaymentReceived) and event.biller == biller:
                yield event, datetime.fromtimestamp(record.timestamp / 1000, UTC)

    async def _in_order(
        self, begins: Mapping[int, int], ends: Mapping[int, int]
    ) -> AsyncGenerator[Any, None]:
        first = await self.begins()
        ahead: dict[TopicPartition, deque[Any]] = {}
        for partition in self._partitions:
            begin = max(begins.get(partition.partition, 0), first[partition.partition])
            if begin < ends[partition.partition]:
                self._consumer.seek(partition, begin)
                ahead[partition] = deque()
        while ahead:
            if empty := [partition for partition, records in ahead.items() if not records]:
                await self._fetch(empty, ahead, ends)
                continue
            next_one = min(ahead, key=lambda partition: (ahead[partition][0].timestamp, partition.partition))
            yield ahead[next_one].popleft()

    async def _fetch(
        self, empty: list[TopicPartition], ahead: dict[TopicPartition, deque[Any]], ends: Mapping[int, int]
    ) -> None:
        """Reads on in these partitions, and leaves out those that are read to their end."""
        found = await self._consumer.getmany(*empty, timeout_ms=200, max_records=AT_ONCE)
        for partition, records in found.items():
            ahead[partition].extend(r for r in records if r.offset < ends[partition.partition])
        for partition in empty:
            if not ahead[partition] and await self._consumer.position(partition) >= ends[partition.partition]:
                del ahead[partition]
        much = sum(map(len, found.values())) >= AT_ONCE
        await asyncio.sleep(REST_S if much else 0)  # what was read ahead comes without waiting


def numbers(offsets: Mapping[TopicPartition, int]) -> dict[int, int]:
    return {partition.partition: offset for partition, offset in offsets.items()}
