"""A closed day is what was received between two cut-offs: the same for every replica, each payment once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from services.bus.biller import Biller
from services.bus.business_day import cut_off
from services.bus.identity import event_id, key
from services.bus.settings import load_settings
from services.events import BatchClosed, PaymentReceived
from services.payments import received
from services.payments.batches import BatchClock, ClosedBatches
from tests.unit.parts import FakeClock, FakePublisher, FakeSecrets, a_biller
from tests.unit.payments_sample import a_payment

DAY = date(2026, 11, 20)
MILLISECOND = timedelta(milliseconds=1)
PAYMENT = a_payment()


@dataclass
class Topic:
    """The payments topic: by partition the records, each with the instant the bus gave it.

    `asked` happens once, right after the first question for offsets: what lands while a day is closed.
    `order` is the order in which partitions are fetched.
    """

    partitions: list[list[tuple[datetime, PaymentReceived]]] = field(default_factory=lambda: [[], [], []])
    asked: Callable[[], None] | None = None
    order: Sequence[int] = (0, 1, 2)

    def land(self, partition: int, at: datetime, guid: str, amount: str = "10.00", **more: Any) -> None:
        payment = replace(PAYMENT, payment_guid=guid, amount=Decimal(amount), **more)
        self.partitions[partition].append((at, payment))

    def happen(self) -> None:
        if self.asked is not None:
            asked, self.asked = self.asked, None
            asked()


class Consumer:
    """Reads a Topic as aiokafka would, two records at a time."""

    def __init__(self, topic: Topic) -> None:
        self._topic = topic
        self._places: dict[TopicPartition, int] = {}
        self._client = SimpleNamespace(set_topics=self.start, close=self.start)
        self._coordinator = self._fetcher = None

    async def start(self, *_: object) -> None:
        return

    stop = start

    def assign(self, _: object) -> None:
        return

    def partitions_for_topic(self, _: str) -> set[int]:
        return set(range(len(self._topic.partitions)))

    def _records(self, partition: TopicPartition) -> list[tuple[datetime, PaymentReceived]]:
        return self._topic.partitions[partition.partition]

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        ends = {partition: len(self._records(partition)) for partition in partitions}
        self._topic.happen()
        return ends

    async def offsets_for_times(self, times: dict[TopicPartition, int]) -> dict[TopicPartition, Any]:
        found = {partition: self._first(partition, at) for partition, at in times.items()}
        self._topic.happen()
        return found

    def _first(self, partition: TopicPartition, stamp: int) -> Any:
        for offset, (at, _) in enumerate(self._records(partition)):
            if at.timestamp() * 1000 >= stamp:
                return SimpleNamespace(offset=offset)
        return None

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._places[partition] = offset

    async def position(self, partition: TopicPartition) -> int:
        return self._places[partition]

    async def getmany(self, *partitions: TopicPartition, **_: Any) -> dict[TopicPartition, list[Any]]:
        for partition in sorted(partitions, key=lambda p: self._topic.order.index(p.partition)):
            begin = self._places[partition]
            some = self._records(partition)[begin : begin + 2]
            if some:
                self._places[partition] += len(some)
                return {
                    partition: [
                        SimpleNamespace(
                            offset=begin + n,
                            timestamp=int(at.timestamp() * 1000),
                            key=key(payment).encode(),
                            value=payment,
                        )
                        for n, (at, payment) in enumerate(some)
                    ]
                }
        return {}


class Replica:
    """One process that closes batches, with a clock and a view of its own."""

    def __init__(self, topic: Topic, now: datetime, known: Sequence[BatchClosed] = ()) -> None:
        self.topic, self.publisher = topic, FakePublisher()
        self.clock, self.closed = FakeClock(now), ClosedBatches()
        for batch in known:
            self.closed.take(batch)
        bus: Any = SimpleNamespace(
            settings=load_settings(bootstrap="nowhere"),
            secrets=FakeSecrets(),
            codec=SimpleNamespace(decode=_as_it_is),
            clock=self.clock,
            publisher=self.publisher,
        )
        self.batches = BatchClock(bus, self.closed)

    async def close(self, biller: Biller, times: int = 1) -> list[BatchClosed]:
        """So many ticks; all batches that it has published."""
        for _ in range(times):
            await self.batches.close_due(biller)
        return self.publisher.events


async def _as_it_is(_: str, value: PaymentReceived) -> PaymentReceived:
    return value


@pytest.fixture
def topic(monkeypatch: pytest.MonkeyPatch) -> Topic:
    made = Topic()
    monkeypatch.setattr(received, "AIOKafkaConsumer", lambda **_: Consumer(made))
    return made


def after(biller: Biller, day: date) -> datetime:
    """Late enough to close a day."""
    return cut_off(biller, day) + timedelta(minutes=1)


async def day_before(biller: Biller, topic: Topic) -> BatchClosed:
    """The batch before DAY, as it stands on the topic now."""
    (batch,) = await Replica(topic, after(biller, DAY - timedelta(days=1))).close(biller)
    return batch


async def test_what_lands_while_a_day_is_closed_belongs_to_the_next(topic: Topic) -> None:
    biller = a_biller()
    topic.land(0, cut_off(biller, DAY) - timedelta(days=1, hours=3), "first")
    known = await day_before(biller, topic)
    topic.land(1, cut_off(biller, DAY) - MILLISECOND, "in-time")
    topic.asked = lambda: topic.land(1, cut_off(biller, DAY) + timedelta(seconds=5), "late", "99.00")
    (batch,) = await Replica(topic, after(biller, DAY), [known]).close(biller)
    assert (batch.count, batch.amount) == (1, Decimal("10.00"))
    (following,) = await Replica(topic, after(biller, DAY + timedelta(days=1)), [known, batch]).close(biller)
    assert (following.count, following.amount) == (1, Decimal("99.00"))


async def test_the_first_day_is_that_of_the_oldest_payment_in_whatever_partition(topic: Topic) -> None:
    biller = a_biller()
    topic.land(0, cut_off(biller, DAY) - timedelta(hours=1), "younger")
    topic.land(2, cut_off(biller, DAY) - timedelta(days=2, hours=1), "oldest")
    days = await Replica(topic, after(biller, DAY)).close(biller, times=4)
    assert [(batch.batch_day, batch.count) for batch in days] == [
        (DAY - timedelta(days=2), 1),
        (DAY - timedelta(days=1), 0),
        (DAY, 1),
    ]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
async def test_of_two_contents_under_one_guid_the_bus_first_counts_however_they_are_fetched(
    topic: Topic, order: Sequence[int]
) -> None:
    biller = a_biller()
    at = cut_off(biller, DAY) - timedelta(hours=2)
    for partition, amount, later in ((0, "30.00", 3), (1, "10.00", 0), (2, "20.00", 3)):
        topic.land(partition, at + timedelta(seconds=later), "twice", amount)
        topic.land(partition, at + timedelta(seconds=10), f"other-{partition}", "1.00")
    topic.order = order
    (batch,) = await Replica(topic, after(biller, DAY)).close(biller)
    assert (batch.count, batch.amount, batch.repeats) == (4, Decimal("13.00"), 2)


@pytest.mark.parametrize(("days", "counted"), [(1, 0), (3, 0), (4, 1)])
async def test_a_repeat_counts_on_no_later_day_within_the_billers_look_back(
    topic: Topic, days: int, counted: int
) -> None:
    biller = a_biller(batch={"cut_off": "17:00", "repeat_days": 3})
    topic.land(0, cut_off(biller, DAY) - timedelta(hours=1), "again")
    again = DAY + timedelta(days=days)
    topic.land(1, cut_off(biller, again) - timedelta(hours=1), "AGAIN")
    batches = await Replica(topic, after(biller, again)).close(biller, times=days + 2)
    assert [batch.batch_day for batch in batches] == [DAY + timedelta(days=n) for n in range(days + 1)]
    assert (batches[0].count, batches[-1].count, batches[-1].repeats) == (1, counted, 1 - counted)


@pytest.mark.parametrize("at", ["17:00", "01:30", "02:30", "00:00"])
@pytest.mark.parametrize("day", [date(2026, 3, 8), date(2026, 11, 1)])
async def test_a_day_on_which_clocks_change_is_closed_whole(topic: Topic, day: date, at: str) -> None:
    biller = a_biller(batch={"cut_off": at})
    begins, ends = cut_off(biller, day - timedelta(days=1)), cut_off(biller, day)
    topic.land(0, begins - MILLISECOND, "before")
    hours = int((ends - begins) / timedelta(hours=1))
    for hour in range(hours):
        topic.land(hour % 3, begins + timedelta(hours=hour), f"hour-{hour}")
    topic.land(1, ends - MILLISECOND, "last")
    topic.land(2, ends, "after")
    batches = await Replica(topic, ends + timedelta(hours=1)).close(biller, times=3)
    assert [batch.batch_day for batch in batches] == [day - timedelta(days=1), day]
    batch = batches[-1]
    assert (batch.opened_at, batch.closed_at) == (begins, ends)
    assert batch.count == hours + 1


async def test_two_replicas_close_the_same_day_as_the_same_fact(topic: Topic) -> None:
    biller = a_biller()
    for number in range(7):
        topic.land(number % 3, cut_off(biller, DAY) - timedelta(minutes=number + 1), f"g-{number}")
    topic.land(0, cut_off(biller, DAY), "next")
    one = Replica(topic, after(biller, DAY))
    (first,) = await one.close(biller)
    topic.order = (2, 0, 1)
    (second,) = await Replica(topic, after(biller, DAY) + timedelta(minutes=5)).close(biller)
    assert first == second
    assert event_id(first) == event_id(second)
    assert (first.count, first.amount) == (7, Decimal("70.00"))
    assert await one.close(biller, times=3) == [first]
    taught = Replica(topic, after(biller, DAY), [second])
    assert await taught.close(biller, times=3) == []


async def test_nothing_is_closed_before_the_cut_off_and_its_margin(topic: Topic) -> None:
    biller = a_biller()
    topic.land(0, cut_off(biller, DAY) - timedelta(hours=1), "one")
    assert await Replica(topic, cut_off(biller, DAY) + timedelta(seconds=1)).close(biller) == []


async def test_another_billers_payments_are_not_counted(topic: Topic) -> None:
    biller = a_biller()
    topic.land(0, cut_off(biller, DAY) - timedelta(hours=1), "ours")
    topic.land(0, cut_off(biller, DAY) - timedelta(hours=1), "theirs", biller="birch")
    (batch,) = await Replica(topic, after(biller, DAY)).close(biller)
    assert batch.count == 1


def test_the_view_keeps_as_many_batches_as_a_look_back_may_need() -> None:
    view = ClosedBatches()
    batches = [a_batch(DAY + timedelta(days=number)) for number in range(100)]
    for batch in reversed(batches):
        view.take(batch)
    assert view.last("acme") == batches[-1]
    assert view.since("acme", DAY + timedelta(days=90)) == batches[90]
    assert view.since("acme", DAY) == batches[-31]
    assert view.since("birch", DAY) is None


def a_batch(day: date) -> BatchClosed:
    at = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return BatchClosed(
        biller="acme",
        batch_day=day,
        opened_at=at,
        closed_at=at,
        count=0,
        amount=Decimal("0.00"),
        convenience_fee=Decimal("0.00"),
        totals=(),
        agents=(),
        ranges=(),
        rule="received_by_cut_off",
    )
