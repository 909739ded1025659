"""The payments of a run: the same for the same seed, for the peers as bare JSON, for our lane as Avro."""

import asyncio
import json
import random
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from deploy.local.processes import ROOT
from services.bus import topics
from services.bus.catalog import load_catalog
from services.bus.codec import Codec
from services.bus.identity import key
from services.bus.registry import Registry
from services.events import PaymentReceived

BILLER, ACCOUNTS, PARTITIONS, SEED = "acme", 2000, 12, 1
HOT = "A000000"
"""The account that has more than its part in a skewed run."""
LIMIT_S, POLL_S = 60, 0.05
Record = tuple[bytes, bytes]


@dataclass(frozen=True)
class Payment:
    """One payment; `seq` numbers those of its account from 1, `cents` is its amount in US cents."""

    guid: str
    account: str
    seq: int
    cents: int


def make(count: int, hot_share: float = 0.0) -> Iterator[Payment]:
    """Payments by accounts at random; `hot_share` of them are of the account HOT."""
    chance = random.Random(SEED)
    seqs = [0] * ACCOUNTS
    for _ in range(count):
        number = 0 if hot_share and chance.random() < hot_share else chance.randrange(ACCOUNTS)
        seqs[number] += 1
        guid = str(uuid.UUID(int=chance.getrandbits(128), version=4))
        yield Payment(guid, f"A{number:06d}", seqs[number], chance.randint(100, 99_999))


def as_json(payments: Iterable[Payment]) -> Iterator[Record]:
    """What the peers post as it is."""
    for p in payments:
        body = {"guid": p.guid, "account": p.account, "seq": p.seq, "amount": f"{p.cents / 100:.2f}"}
        yield p.account.encode(), json.dumps(body).encode()


def as_event(payment: Payment, at: datetime) -> PaymentReceived:
    """The fact as the intake publishes it; the partner reads `seq` from the invoice's number."""
    return PaymentReceived(
        biller=BILLER,
        account=payment.account,
        payment_guid=payment.guid,
        invoice_number=str(payment.seq),
        resolution="matched",
        amount=Decimal(payment.cents).scaleb(-2),
        convenience_fee=Decimal("2.95"),
        approved=True,
        tender="card",
        card_type="Visa",
        product="portal",
        paid_at=at,
        description="Premium",
        payer_name="Ada Example",
        via="form",
        content=payment.guid[:16],
        received_at=at,
    )


class OurTopics:
    """Our own topics on a broker and registry, made anew for each run."""

    def __init__(self, bootstrap: str, registry: str) -> None:
        self.bootstrap, self.registry = bootstrap, registry
        self._catalog = load_catalog(ROOT / "schemas")
        topics.apply(bootstrap, registry, self._catalog)
        ids = Registry(registry)
        self._codec = Codec({name: topic.schema for name, topic in self._catalog.items()}, ids)
        asyncio.run(self._codec.start())
        self._encoded: dict[tuple[int, float], list[Record]] = {}

    def renew(self) -> None:
        """Empties the lane's topics and lets its group begin again."""
        admin = connect(self.bootstrap)
        for name in ("billing.payment.received.v1", "billing.payment.outcome.v1"):
            delete_topic(admin, name)
        deadline = time.monotonic() + LIMIT_S
        while True:
            try:
                topics.apply(self.bootstrap, self.registry, self._catalog)
                return
            except KafkaException as error:  # a partition just made has no leader for a moment
                if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION or time.monotonic() > deadline:
                    raise
            time.sleep(POLL_S)

    def load(self, count: int, hot_share: float) -> None:
        self.renew()
        self.fill(count, hot_share)

    def fill(self, count: int, hot_share: float) -> None:
        """Writes the payments behind what the topic has."""
        if (count, hot_share) not in self._encoded:
            self._encoded[count, hot_share] = list(self._encode(count, hot_share))
        write(self.bootstrap, PaymentReceived.TOPIC, self._encoded[count, hot_share])

    def load_once(self, count: int) -> None:
        """As `load`, for more payments than anybody wants to keep in memory for the next run."""
        self.renew()
        write(self.bootstrap, PaymentReceived.TOPIC, self._encode(count, 0.0))

    def _encode(self, count: int, hot_share: float) -> Iterator[Record]:
        at = datetime.now(UTC).replace(microsecond=0)
        for payment in make(count, hot_share):
            event = as_event(payment, at)
            yield key(event).encode(), self._codec.encode(event)

    def close(self) -> None:
        self._codec.close()


def load_peer_topic(bootstrap: str, topic: str, count: int, hot_share: float) -> None:
    """Makes a topic and writes the payments to it as JSON."""
    make_topic(bootstrap, topic)
    write(bootstrap, topic, as_json(make(count, hot_share)))


def make_topic(bootstrap: str, topic: str) -> None:
    admin = connect(bootstrap)  # it answers only as long as somebody holds it
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(LIMIT_S)


def connect(bootstrap: str) -> AdminClient:
    return AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})


def delete_topic(admin: AdminClient, topic: str) -> None:
    """Deletes it if it is there; returns when the broker no longer shows it."""
    try:
        admin.delete_topics([topic], operation_timeout=LIMIT_S)[topic].result(LIMIT_S)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise
    deadline = time.monotonic() + LIMIT_S
    while topic in admin.list_topics(timeout=LIMIT_S).topics:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the broker still shows {topic} {LIMIT_S} s after it was deleted")
        time.sleep(POLL_S)


def write(bootstrap: str, topic: str, records: Iterable[Record]) -> None:
    """Writes records in order; raises RuntimeError if the broker did not take every one."""
    failures: list[str] = []
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "log_level": 0,
            "partitioner": "murmur2_random",
            "enable.idempotence": True,
            "linger.ms": 20,
            "queue.buffering.max.messages": 1_000_000,
        }
    )

    def delivered(error: KafkaError | None, _message: object) -> None:
        if error is not None:
            failures.append(str(error))

    for record_key, value in records:
        producer.produce(topic, key=record_key, value=value, on_delivery=delivered)
        producer.poll(0)
    left = producer.flush(LIMIT_S)
    if left or failures:
        raise RuntimeError(f"{topic}: {left} records unsent, {len(failures)} refused: {failures[:1]}")
