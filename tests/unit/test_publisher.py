"""Many events at once: each is told what became of it, and those of a key stay in order."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaError, NotLeaderForPartitionError, UnknownTopicOrPartitionError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from services.bus.codec import Codec
from services.bus.identity import event_id_text
from services.bus.partitioning import place_of
from services.bus.publisher import TOGETHER, Publisher
from services.events import Event, PaymentReceived
from services.invoices.taking import Feed
from tests.unit.parts import FakeClock
from tests.unit.payments_sample import a_payment

PARTITIONS = 3
MADE = a_payment()
MANY = 3 * TOGETHER


def payments(count: int = MANY) -> list[PaymentReceived]:
    return [replace(MADE, account=f"A-{n % 7}", payment_guid=f"g-{n:04d}") for n in range(count)]


def partition(event: PaymentReceived) -> int:
    return place_of(f"acme/{event.account}".encode(), PARTITIONS)


class Producer:
    """Takes batches; a partition in `refuses` answers with its error, one in `silent` never."""

    def __init__(self) -> None:
        self.taken: list[tuple[int, list[Any]]] = []
        self.refuses: dict[int, KafkaError] = {}
        self.silent: set[int] = set()
        self.room = asyncio.Event()
        self.room.set()
        self.knows_the_topic = True
        self.batch_size = 1 << 20

    async def partitions_for(self, topic: str) -> set[int]:
        if not self.knows_the_topic:
            raise UnknownTopicOrPartitionError(topic)
        return set(range(PARTITIONS))

    def create_batch(self) -> BatchBuilder:
        return BatchBuilder(self.batch_size, 0)

    async def send_batch(self, batch: BatchBuilder, topic: str, partition: int) -> asyncio.Future[object]:
        assert topic == MADE.TOPIC
        await self.room.wait()
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if partition in self.refuses:
            answer.set_exception(self.refuses[partition])
        elif partition not in self.silent:
            self.taken.append((partition, records(bytes(batch._build()))))
            answer.set_result(None)
        return answer

    async def send(
        self, topic: str, value: bytes, key: bytes, headers: list[tuple[str, bytes]]
    ) -> asyncio.Future[object]:
        assert topic == MADE.TOPIC
        batch = self.create_batch()
        batch.append(timestamp=None, key=key, value=value, headers=headers)
        self.taken.append((place_of(key, PARTITIONS), records(bytes(batch._build()))))
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        answer.set_result(None)
        return answer

    def guids(self, partition: int) -> list[bytes]:
        """What a partition holds, in its order."""
        return [record.value for number, batch in self.taken for record in batch if number == partition]


def records(buffer: bytes) -> list[Any]:
    batch = MemoryRecords(buffer).next_batch()
    assert batch is not None
    return list(cast("Iterable[Any]", batch))


class Guids:
    """In place of a codec: an event's bytes are its PaymentGUID."""

    def encode(self, event: Event) -> bytes:
        assert isinstance(event, PaymentReceived)
        return event.payment_guid.encode()


@pytest.fixture
def producer() -> Producer:
    return Producer()


@pytest.fixture
def publisher(producer: Producer) -> Publisher:
    made = Publisher("", "billbus/test", cast("Codec", Guids()), FakeClock(), deadline_s=0.2)
    made._producer = producer
    return made


def there(events: Sequence[PaymentReceived], number: int) -> list[bytes]:
    return [event.payment_guid.encode() for event in events if partition(event) == number]


@pytest.mark.parametrize("batch_size", [1 << 20, 2000])
async def test_each_event_is_once_in_its_key_s_partition_in_order(
    publisher: Publisher, producer: Producer, batch_size: int
) -> None:
    producer.batch_size = batch_size
    events = payments()
    assert await publisher.publish_each(events) == [None] * MANY
    assert {number for number, _ in producer.taken} == set(range(PARTITIONS))
    assert all(producer.guids(number) == there(events, number) for number in range(PARTITIONS))
    assert (len(producer.taken) > PARTITIONS) == (batch_size == 2000)


async def test_each_record_has_its_own_id_and_the_trace_of_all(
    publisher: Publisher, producer: Producer
) -> None:
    events = payments()
    await publisher.publish_each(events, "00-" + "a" * 32 + "-" + "b" * 16 + "-01")
    found = {r.value.decode(): dict(r.headers) for _, batch in producer.taken for r in batch}
    for event in events:
        headers = found[event.payment_guid]
        assert headers["ce_id"].decode() == event_id_text(event)
        assert headers["ce_type"].decode() == event.TOPIC
        assert headers["ce_time"].decode() == FakeClock().now().isoformat()
        assert headers["traceparent"].startswith(b"00-aaaa")


async def test_only_the_events_of_a_partition_that_refuses_are_to_be_sent_again(
    publisher: Publisher, producer: Producer
) -> None:
    producer.refuses[1] = NotLeaderForPartitionError()
    events = payments()
    told = await publisher.publish_each(events)
    assert [failure is not None for failure in told] == [partition(event) == 1 for event in events]
    assert {str(failure) for failure in told if failure} == {"NotLeaderForPartitionError"}


async def test_what_is_not_acknowledged_in_time_is_to_be_sent_again(
    publisher: Publisher, producer: Producer
) -> None:
    producer.silent.add(2)
    events = payments()
    told = await publisher.publish_each(events)
    assert [failure is not None for failure in told] == [partition(event) == 2 for event in events]


async def test_nothing_is_acknowledged_while_the_topic_is_not_known(
    publisher: Publisher, producer: Producer
) -> None:
    producer.knows_the_topic = False
    assert None not in await publisher.publish_each(payments())
    assert producer.taken == []


async def test_the_rows_of_a_file_stay_in_order_while_a_partition_has_no_room(
    publisher: Publisher, producer: Producer
) -> None:
    events, feed = payments(TOGETHER + 10), Feed(publisher)
    producer.room.clear()

    async def file() -> None:
        await feed.put(events[:TOGETHER])
        await feed.put(events[TOGETHER:])  # too few to go together: they would find room at once
        await feed.end()

    taking = asyncio.create_task(file())
    await asyncio.sleep(0.01)
    producer.room.set()
    await taking
    assert all(producer.guids(number) == there(events, number) for number in range(PARTITIONS))
