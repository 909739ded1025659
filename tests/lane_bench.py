"""A lane on the real broker with a partner that is a ledger in memory."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaConsumer
from aiokafka import TopicPartition as AioPartition
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from deploy.local import Stack
from deploy.local.processes import ROOT
from services.bus.catalog import REPLAY, load_catalog
from services.bus.clock import Clock
from services.bus.closing import stop_consumer
from services.bus.codec import Codec
from services.bus.delivery import Delivery, Limits
from services.bus.identity import key
from services.bus.lane import Answer, Found, Lane, NotFound, Posted, Settlement
from services.bus.membership import Membership
from services.bus.outcomes import OutcomeIndex
from services.bus.partner import Unknown
from services.bus.progress import fresh_metadata
from services.bus.publisher import Publisher
from services.bus.registry import Registry
from services.bus.replayed import ORIGIN_OFFSET, ORIGIN_PARTITION, ORIGIN_TIMESTAMP
from services.events import PaymentOutcome, PaymentReceived
from services.payments.handlers import record_outcome
from tests.unit.payments_sample import a_payment

PATIENCE_S = 0.5
TOPICS = (PaymentReceived.TOPIC, PaymentReceived.TOPIC + REPLAY)
BILLERS = ("acme", "birch", "cedar")


@dataclass
class Ledger:
    """A partner that keeps every effect in order, and can be slow or silent."""

    effects: list[tuple[str, str]] = field(default_factory=list)
    running: Counter[str] = field(default_factory=Counter)
    most: int = 0
    overlaps: int = 0
    slow_s: float = 0.0
    silent: Callable[[str], bool] = lambda _: False
    fails: Callable[[PaymentReceived], Exception | None] = lambda _: None
    asked: int = 0

    async def deliver(self, event: PaymentReceived) -> Settlement:
        self.running[event.account] += 1
        self.overlaps += self.running[event.account] > 1
        self.most = max(self.most, sum(self.running.values()))
        try:
            if (failure := self.fails(event)) is not None:
                raise failure
            await asyncio.sleep(self.slow_s)
            self.effects.append((event.account, event.payment_guid))
            if self.silent(event.payment_guid):
                raise Unknown("acme", "imt", "no answer")
        finally:
            self.running[event.account] -= 1
        return Posted("R")

    async def ask(self, event: PaymentReceived) -> Answer:
        self.asked += 1
        found = any(guid == event.payment_guid for _, guid in self.effects)
        return Found("R") if found else NotFound()

    @property
    def guids(self) -> list[str]:
        return [guid for _, guid in self.effects]


class Bench:
    """Starts lanes of one group, and says what happened on the topics."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack, self.folder = stack, folder
        self.name = f"test.{uuid4().hex[:8]}"
        self.group = f"billbus.{self.name}"
        self.catalog = load_catalog(ROOT / "schemas")
        self.codec = Codec({n: t.schema for n, t in self.catalog.items()}, Registry(stack.registry))
        self.publisher = Publisher(stack.bootstrap, "test", self.codec, Clock())
        self.admin = AdminClient({"bootstrap.servers": stack.bootstrap})
        self.members = 0

    def begin(self, metadata: str | None = None, offsets: dict[int, int] | None = None) -> None:
        """Commits where the group goes on: by default at the end of every partition, as if fresh."""
        live, replay = TOPICS
        ends = offsets if offsets is not None else self.ends()
        positions = [
            TopicPartition(live, p, offset, metadata if metadata is not None else fresh_metadata())
            for p, offset in ends.items()
        ]
        positions += [TopicPartition(replay, p, o, fresh_metadata()) for p, o in self.ends(replay).items()]
        asked = self.admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(self.group, positions)])
        asked[self.group].result(20)

    def ends(self, topic: str = PaymentReceived.TOPIC) -> dict[int, int]:
        wanted = {TopicPartition(topic, p): OffsetSpec.latest() for p in range(12)}
        return {p.partition: f.result(20).offset for p, f in self.admin.list_offsets(wanted).items()}

    @asynccontextmanager
    async def lane(self, ledger: Ledger, **more: Any) -> AsyncIterator[Delivery[PaymentReceived]]:
        """One member, until the end of the block; `crash=True` ends it without a commit or a good-bye."""
        self.members += 1
        index = OutcomeIndex(
            self.folder / f"{self.members}.sqlite", self.stack.bootstrap, PaymentOutcome.TOPIC, self.codec
        ).open()
        lane = Lane(
            name=self.name, reads=PaymentReceived, deliver=ledger.deliver, writes=record_outcome,
            patience=lambda _: PATIENCE_S, **{"ask": ledger.ask, **more.get("options", {})},
        )  # fmt: skip
        broker = Membership(
            self.stack.bootstrap, lane.group, list(TOPICS), Clock(), session_s=3, margin_s=0.5
        )
        delivery = Delivery(
            lane, broker=broker, codec=self.codec, publisher=self.publisher, clock=Clock(),
            limits=Limits(more.get("in_flight", 50), grace_s=5), index=index, billers=BILLERS,
        )  # fmt: skip
        running = asyncio.create_task(delivery.run())
        try:
            yield delivery
        finally:
            if more.get("crash"):
                for task in [running, *delivery._tasks]:
                    task.cancel()
                await asyncio.gather(running, return_exceptions=True)
            else:
                delivery.stop()
                await running

    def behind(self, delivery: Delivery[PaymentReceived]) -> int:
        """Records of the live topic that the member, which is alone, has not finished or has not opened."""
        behind = 0
        for number, end in self.ends().items():
            owned = delivery._owned.get(AioPartition(PaymentReceived.TOPIC, number))
            behind += end - owned.main.progress.position if owned is not None and owned.open else 1
        return behind

    async def publish(self, *payments: PaymentReceived) -> None:
        await self.publisher.publish(*payments)

    async def replay(self, *payments: PaymentReceived) -> None:
        """Onto `.replay`, as the replay command would, with an origin of its own."""
        for number, each in enumerate(payments):
            headers = [
                (ORIGIN_PARTITION, b"0"),
                (ORIGIN_OFFSET, str(number).encode()),
                (ORIGIN_TIMESTAMP, str(int(time.time() * 1000)).encode()),
            ]
            await self.publisher.publish_raw(TOPICS[1], key(each).encode(), self.codec.encode(each), headers)

    async def outcomes(self, payments: Sequence[PaymentReceived]) -> list[PaymentOutcome]:
        """The outcomes of these payments, in no order."""
        wanted = {each.payment_guid for each in payments}
        found = [
            await self.codec.decode(PaymentOutcome.TOPIC, record.value)
            for record in await self.read(PaymentOutcome.TOPIC)
        ]
        return [each for each in found if isinstance(each, PaymentOutcome) and each.natural_id in wanted]

    async def read(self, topic: str) -> list[Any]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.stack.bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        try:
            from services.bus.views import whole

            partitions = await whole(consumer, topic)
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            records: list[Any] = []
            for partition in partitions:
                while await consumer.position(partition) < ends[partition]:
                    for batch in (await consumer.getmany(partition, timeout_ms=500)).values():
                        records += batch
            return records
        finally:
            await stop_consumer(consumer)


def payments(count: int, accounts: int) -> list[PaymentReceived]:
    tag = uuid4().hex[:8]
    made = a_payment()
    return [
        replace(made, payment_guid=f"{tag}-{n:05d}", account=f"A{n % accounts:04d}") for n in range(count)
    ]


async def reaches(holds: Callable[[], object], limit_s: float = 30) -> None:
    async with asyncio.timeout(limit_s):
        while not holds():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0.02)


def partition_of(payment: PaymentReceived) -> int:
    from aiokafka.partitioner import DefaultPartitioner

    numbers = list(range(12))
    return int(DefaultPartitioner()(f"{payment.biller}/{payment.account}".encode(), numbers, numbers))
