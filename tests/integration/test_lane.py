"""The lane on the real broker: order, bounds, doubt after a crash, dead letters, offsets that never jump."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from deploy.local import Stack
from deploy.local.processes import ROOT
from deploy.local.progress import fetch_with_progress
from services.bus.catalog import REPLAY, load_catalog
from services.bus.clock import Clock
from services.bus.codec import Codec
from services.bus.delivery import Delivery, Limits
from services.bus.lane import Answer, Found, Lane, NotFound, Posted, Settlement
from services.bus.membership import Membership
from services.bus.outcomes import OutcomeIndex
from services.bus.partner import Unknown
from services.bus.progress import fresh_metadata
from services.bus.publisher import Publisher
from services.bus.registry import Registry
from services.bus.topics import apply
from services.events import PaymentOutcome, PaymentReceived
from services.payments.handlers import record_outcome
from tests.unit.payments_sample import a_payment

PATIENCE_S = 0.5
TOPICS = (PaymentReceived.TOPIC, PaymentReceived.TOPIC + REPLAY)
BILLERS = ("acme", "birch", "cedar")


@pytest.fixture(scope="module")
def own_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A broker of our own: these tests break offsets and write what no service should read."""
    with Stack(tmp_path_factory.mktemp("lane"), parts=fetch_with_progress()) as stack:
        apply(stack.bootstrap, stack.registry, load_catalog(ROOT / "schemas"))
        yield stack


@dataclass
class Ledger:
    """A partner that keeps every effect in order, and can be slow or silent."""

    effects: list[tuple[str, str]] = field(default_factory=list)
    running: Counter[str] = field(default_factory=Counter)
    most: int = 0
    overlaps: int = 0
    slow_s: float = 0.0
    silent: Callable[[str], bool] = lambda _: False
    asked: int = 0

    async def deliver(self, event: PaymentReceived) -> Settlement:
        self.running[event.account] += 1
        self.overlaps += self.running[event.account] > 1
        self.most = max(self.most, sum(self.running.values()))
        try:
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
        """One member, until the end of the block; `abandon` ends it as a crash would."""
        self.members += 1
        index = OutcomeIndex(
            self.folder / f"{self.members}.sqlite", self.stack.bootstrap, PaymentOutcome.TOPIC, self.codec
        ).open()
        lane = Lane(
            name=self.name, reads=PaymentReceived, deliver=ledger.deliver, ask=ledger.ask,
            writes=record_outcome, patience=lambda _: PATIENCE_S,
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
            delivery.stop()
            await running

    def behind(self, delivery: Delivery[PaymentReceived]) -> int:
        """Records of the live topic that the member has not finished."""
        ends = self.ends()
        return sum(
            ends[partition.partition] - owned.main.progress.position
            for partition, owned in delivery._owned.items()
            if partition.topic == PaymentReceived.TOPIC
        )

    async def publish(self, *payments: PaymentReceived) -> None:
        await self.publisher.publish(*payments)

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
            await consumer.stop()


@pytest.fixture
async def bench(own_stack: Stack, tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(own_stack, tmp_path)
    await made.codec.start()
    await made.publisher.start()
    made.begin()
    yield made
    await made.publisher.stop()
    made.codec.close()


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


async def test_every_payment_once_in_order_of_its_account_and_bounded(bench: Bench) -> None:
    ledger, sent = Ledger(slow_s=0.002), payments(2000, 100)
    async with bench.lane(ledger, in_flight=20):
        await bench.publish(*sent)
        await reaches(lambda: len(ledger.effects) >= len(sent))
    assert sorted(ledger.guids) == sorted(p.payment_guid for p in sent)
    for account in {p.account for p in sent}:
        in_order = [guid for a, guid in ledger.effects if a == account]
        assert in_order == sorted(in_order)
    assert (ledger.overlaps, ledger.most <= 20, ledger.asked) == (0, True, 0)
    ended = Counter(o.value for o in await bench.read(PaymentOutcome.TOPIC))
    assert len(ended) >= len(sent)


async def test_a_slow_account_holds_nobody_up(bench: Bench) -> None:
    ledger = Ledger()
    slow, others = replace(payments(1, 1)[0], account="SLOW"), payments(300, 50)
    release = asyncio.Event()
    quick = ledger.deliver

    async def deliver(event: PaymentReceived) -> Settlement:
        if event.payment_guid == slow.payment_guid:
            await release.wait()
        return await quick(event)

    ledger.deliver = deliver  # type: ignore[method-assign]  # one account's partner call hangs
    async with bench.lane(ledger):
        await bench.publish(slow, *others)
        await reaches(lambda: len(ledger.effects) == len(others))
        release.set()
        await reaches(lambda: slow.payment_guid in ledger.guids)


async def test_after_a_clean_stop_nothing_is_asked_or_sent_again(bench: Bench) -> None:
    ledger, sent = Ledger(), payments(300, 30)
    async with bench.lane(ledger):
        await bench.publish(*sent)
        await reaches(lambda: len(ledger.effects) == 300)
    more = payments(50, 30)
    await bench.publish(*more)
    async with bench.lane(ledger):
        await reaches(lambda: len(ledger.effects) == 350)
    assert (len(set(ledger.guids)), ledger.asked) == (350, 0)


async def test_an_effect_without_an_answer_is_looked_up_not_repeated(bench: Bench) -> None:
    ledger, sent = Ledger(silent=lambda guid: guid.endswith("7")), payments(200, 200)
    async with bench.lane(ledger):
        await bench.publish(*sent)
        await reaches(lambda: len(ledger.effects) >= 200 and not ledger.running.total())
        await reaches(lambda: ledger.asked >= 20)
    assert len(ledger.effects) == len(set(ledger.guids)) == 200


@pytest.mark.parametrize("metadata", ["", "somebody else's", "bb1.00000000.0.0."])
async def test_unreadable_metadata_means_ask_first(bench: Bench, metadata: str) -> None:
    ledger, sent = Ledger(), payments(40, 40)
    before = bench.ends()
    await bench.publish(*sent)
    ledger.effects = [(p.account, p.payment_guid) for p in sent[:15]]  # a process before us had sent these
    bench.begin(metadata, before)
    async with bench.lane(ledger):
        await reaches(lambda: len(ledger.effects) == 40)
    assert len(set(ledger.guids)) == 40
    assert ledger.asked >= 40


async def test_two_members_share_and_hand_over_without_loss_or_double(bench: Bench) -> None:
    ledger, sent = Ledger(slow_s=0.01), payments(1500, 200)
    async with bench.lane(ledger) as first:
        await bench.publish(*sent[:700])
        await reaches(lambda: len(ledger.effects) > 200)
        async with bench.lane(ledger) as second:
            await bench.publish(*sent[700:])
            await reaches(lambda: sum(map(second.owns, range(12))) == 6)
            assert sum(map(first.owns, range(12))) == 6
            await reaches(lambda: len(ledger.effects) > 1000)
        await reaches(lambda: len(set(ledger.guids)) == 1500)
    assert len(ledger.effects) == 1500
    assert ledger.overlaps == 0


async def test_what_nobody_can_decode_is_in_the_dead_letters_with_where_and_why(bench: Bench) -> None:
    ledger, good = Ledger(), payments(3, 1)
    mark = uuid4().bytes
    async with bench.lane(ledger):
        await bench.publish(good[0])
        await bench.publisher.publish_raw(PaymentReceived.TOPIC, b"acme/A0000", mark, [])
        await bench.publish(*good[1:])
        await reaches(lambda: len(ledger.effects) == 3)
    (letter,) = [r for r in await bench.read(f"{PaymentReceived.TOPIC}.dlq") if r.value == mark]
    headers = dict(letter.headers)
    assert headers["billbus_origin_topic"] == PaymentReceived.TOPIC.encode()
    assert headers["billbus_origin_offset"].isdigit()
    assert headers["billbus_reason"]


async def test_a_lost_offset_stops_the_partition_by_name(bench: Bench) -> None:
    ledger, sent = Ledger(), payments(60, 60)
    lost = f"{bench.group}x"
    bench.group, bench.name = lost, lost.removeprefix("billbus.")
    bench.begin(offsets={p: end for p, end in bench.ends().items() if p != 4})
    async with bench.lane(ledger) as delivery:
        await reaches(lambda: "partition 4" in delivery.not_ready)
        await bench.publish(*sent)
        here = [p for p in sent if partition_of(p) != 4]
        await reaches(lambda: len(ledger.effects) == len(here))
        assert "offset is lost" in delivery.not_ready
    assert all(guid in {p.payment_guid for p in here} for guid in ledger.guids)


def partition_of(payment: PaymentReceived) -> int:
    from aiokafka.partitioner import DefaultPartitioner

    numbers = list(range(12))
    return int(DefaultPartitioner()(f"{payment.biller}/{payment.account}".encode(), numbers, numbers))


async def test_the_index_is_read_again_when_its_file_is_lost_or_damaged(bench: Bench) -> None:
    ledger, sent = Ledger(), payments(100, 10)
    before = bench.ends()
    async with bench.lane(ledger):
        await bench.publish(*sent)
        await reaches(lambda: len(ledger.effects) == 100)
    bench.begin("lost", before)  # the whole day again, with nothing known of it
    (bench.folder / "2.sqlite").write_bytes(b"no database" * 100)
    async with bench.lane(ledger) as again:
        await reaches(lambda: not again.not_ready and again.owns(0))
        await reaches(lambda: bench.behind(again) == 0)
    assert len(ledger.effects) == 100
