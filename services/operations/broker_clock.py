"""How far this machine's clock is from the broker's: the broker stamps records, so one is written."""

from collections.abc import Mapping
from datetime import datetime

from aiokafka import AIOKafkaProducer

from services.bus.catalog import Topic
from services.bus.clock import Clock
from services.bus.codec import Codec
from services.bus.connection import aiokafka_client, kafka_of
from services.bus.identity import key
from services.bus.registry import Registry
from services.bus.settings import Settings
from services.events import OperationAudited


async def skew_s(
    settings: Settings, catalog: Mapping[str, Topic], clock: Clock, operator: str
) -> tuple[float, float]:
    """Seconds by which our clock is ahead of the broker's (negative: behind), and the doubt in it.

    Writes an audit record that says who asked. Raises what the Kafka client raises.
    """
    schema = {OperationAudited.TOPIC: catalog[OperationAudited.TOPIC].schema}
    registry = Registry(settings.registry)
    codec = Codec(schema, registry)
    try:
        await codec.start()
    finally:
        registry.close()
    event = OperationAudited(
        operator=operator,
        action="doctor",
        target="broker clock",
        reason="checks of billbus doctor",
        result="asked",
        at=clock.now(),
    )
    producer = AIOKafkaProducer(**aiokafka_client(kafka_of(settings)), acks="all", request_timeout_ms=10_000)
    await producer.start()
    try:
        value, record_key = codec.encode(event), key(event).encode()
        # the first send also fetches metadata, so only the second is timed
        await producer.partitions_for(event.TOPIC)
        sent = clock.now()
        stamped = await producer.send_and_wait(event.TOPIC, value, record_key)
        received = clock.now()
    finally:
        await producer.stop()
    return _compare(sent, stamped.timestamp / 1000, received)


def _compare(sent: datetime, stamped: float, received: datetime) -> tuple[float, float]:
    ours = (sent.timestamp() + received.timestamp()) / 2
    # a stamp has whole milliseconds
    return ours - stamped, (received - sent).total_seconds() / 2 + 0.001
