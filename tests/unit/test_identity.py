"""Who an event is: ids are UUIDv5 as the standard library makes them, and the place of a key is Kafka's."""

from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid5

from aiokafka.partitioner import DefaultPartitioner
from hypothesis import given
from hypothesis import strategies as st

from services.bus.identity import NAMESPACE, delivery_id, delivery_key, event_id, event_id_text
from services.bus.partitioning import partition_of
from services.events import PaymentReceived


def payment(guid: str, content: str = "c") -> PaymentReceived:
    at = datetime(2026, 11, 20, tzinfo=UTC)
    return PaymentReceived(
        biller="acme",
        account="1",
        payment_guid=guid,
        resolution="matched",
        amount=Decimal("1.00"),
        convenience_fee=Decimal("0.00"),
        approved=True,
        tender="card",
        product="portal",
        paid_at=at,
        via="form",
        content=content,
        received_at=at,
    )


@given(st.text(max_size=80), st.text(max_size=20))
def test_ids_are_those_of_the_standard(guid: str, content: str) -> None:
    event = payment(guid, content)
    wanted = uuid5(NAMESPACE, f"billing.payment.received.v1|acme|{guid}|{content}")
    assert event_id(event) == wanted
    assert event_id_text(event) == str(wanted)
    assert delivery_id(event) == uuid5(NAMESPACE, f"payment|acme|{guid}")
    assert delivery_key(event) == delivery_id(event).bytes


@given(st.binary(min_size=1, max_size=40), st.integers(1, 50))
def test_a_key_stands_where_every_kafka_client_puts_it(key: bytes, count: int) -> None:
    numbers = list(range(count))
    assert partition_of(key, numbers, numbers) == DefaultPartitioner()(key, numbers, numbers)


def test_without_a_key_any_partition_will_do() -> None:
    assert partition_of(None, [0, 1, 2], [1]) == 1
