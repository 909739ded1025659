"""Consume with aiokafka, post in order within a key, commit what is done without a gap."""

import asyncio
import contextlib
import signal
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine

from aiokafka import (
    AIOKafkaConsumer,
    ConsumerRebalanceListener,
    ConsumerRecord,
    OffsetAndMetadata,
    TopicPartition,
)
from aiokafka.errors import KafkaError

from benchmarks.lane.peers.settings import COMMIT_EVERY_S, RETRY_AFTER_S, SESSION_TIMEOUT_MS, Settings

Post = Callable[[bytes], Awaitable[bool]]  # True when the partner answered 200
BUFFERED_PER_SLOT = 10
FETCH_WAIT_MS = 100
DRAIN_LIMIT_S = 10


class KeyedLoop(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka ships no types
    def __init__(self, settings: Settings, post: Post) -> None:
        self.settings = settings
        self.post = post
        self.limit = settings.in_flight * BUFFERED_PER_SLOT
        self.waiting: dict[tuple[int, bytes], deque[ConsumerRecord]] = {}
        self.ready: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self.open: dict[TopicPartition, dict[int, None]] = {}  # offsets not done, in order
        self.next: dict[TopicPartition, int] = {}  # offset after the last one fetched
        self.committed: dict[TopicPartition, int] = {}
        self.count = 0
        self.room = asyncio.Event()
        self.empty = asyncio.Event()
        self.room.set()
        self.empty.set()
        self.consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.bootstrap,
            group_id=settings.group,
            group_instance_id=settings.instance,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=SESSION_TIMEOUT_MS,
        )

    async def run(self) -> None:
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stopping.set)
        await self.consumer.start()
        self.consumer.subscribe([self.settings.topic], listener=self)
        fetching = asyncio.create_task(self.fetch())
        tasks = [fetching, asyncio.create_task(self.commit_regularly())]
        tasks += [asyncio.create_task(self.work()) for _ in range(self.settings.in_flight)]
        ends: set[asyncio.Task[object]] = {*tasks, asyncio.create_task(stopping.wait())}
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        fetching.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.empty.wait(), DRAIN_LIMIT_S)
        await self.commit()
        await self.consumer.stop()
        for task in tasks:
            task.cancel()
        for ended in done:
            ended.result()  # raises what ended a task early

    async def fetch(self) -> None:
        while True:
            await self.room.wait()
            room = self.limit - self.count
            batches = await self.consumer.getmany(timeout_ms=FETCH_WAIT_MS, max_records=room)
            for partition, records in batches.items():
                self.accept(partition, records)

    def accept(self, partition: TopicPartition, records: list[ConsumerRecord]) -> None:
        offsets = self.open.setdefault(partition, {})
        for record in records:
            offsets[record.offset] = None
            key = (record.partition, record.key)
            if (queue := self.waiting.get(key)) is None:
                self.waiting[key] = deque((record,))
                self.ready.put_nowait(key)
            else:
                queue.append(record)
        self.next[partition] = records[-1].offset + 1
        self.count += len(records)
        self.empty.clear()
        if self.count >= self.limit:
            self.room.clear()

    async def work(self) -> None:
        while True:
            key = await self.ready.get()
            queue = self.waiting[key]
            record = queue.popleft()
            while not await self.post(record.value):  # noqa: ASYNC110 - the pause before a retry
                await asyncio.sleep(RETRY_AFTER_S)
            self.finish(record)
            if queue:
                self.ready.put_nowait(key)
            else:
                del self.waiting[key]

    def finish(self, record: ConsumerRecord) -> None:
        self.open[TopicPartition(record.topic, record.partition)].pop(record.offset, None)
        self.count -= 1
        if self.count < self.limit // 2:
            self.room.set()
        if self.count == 0:
            self.empty.set()

    async def commit_regularly(self) -> None:
        while True:
            await asyncio.sleep(COMMIT_EVERY_S)
            with contextlib.suppress(KafkaError):
                await self.commit()

    async def commit(self) -> None:
        positions = {
            partition: next(iter(self.open[partition]), after) for partition, after in self.next.items()
        }
        moved = {
            partition: OffsetAndMetadata(offset, "")
            for partition, offset in positions.items()
            if self.committed.get(partition) != offset
        }
        if moved:
            await self.consumer.commit(moved)
            self.committed.update({tp: position.offset for tp, position in moved.items()})

    async def on_partitions_revoked(self, _revoked: list[TopicPartition]) -> None:
        """Finishes what is in hand before another member takes the partitions."""
        with contextlib.suppress(TimeoutError, KafkaError):
            await asyncio.wait_for(self.empty.wait(), DRAIN_LIMIT_S)
            await self.commit()

    async def on_partitions_assigned(self, _assigned: list[TopicPartition]) -> None:
        self.next.clear()
        self.committed.clear()


def start(main: Coroutine[None, None, None]) -> None:
    try:
        import uvloop

        runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    except ImportError:
        runner = asyncio.Runner()
    with runner:
        runner.run(main)
