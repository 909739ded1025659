"""Events of billbus for programs that know nothing of Kafka: `async for received in read(...)`.

Part of the package billbus-events (tools/build_events.py); our own services have lanes and views instead.
"""

from __future__ import annotations

import asyncio
import io
import json
import urllib.request
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from importlib.resources import files
from typing import Any, Generic, TypeVar, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from fastavro import parse_schema, schemaless_reader

from .types import Event

LIMIT_S = 20
AT_ONCE = 100  # events, so that one that takes long does not hold up a commit for long
MOST_S = 900  # for so many, before the group takes this reader for dead
HEADER_BYTES = 5
TAKEN_AWAY = (KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS)

E = TypeVar("E", bound=Event)
R = TypeVar("R")


class Unreadable(Exception):
    """No event of its topic, or the registry does not give its schema now; the next start has it again."""


@dataclass(frozen=True)
class Received(Generic[E]):
    """An event; `id` is the same whenever the same fact is told, None where a topic ends in .current."""

    event: E
    id: str | None


@dataclass(frozen=True)
class Login:
    """For brokers that ask who comes: SCRAM-SHA-512 over TLS.

    `ca` is a PEM file with the authorities that vouch for the brokers; None for those of the machine.
    """

    user: str
    password: str = field(repr=False)
    ca: str | None = None

    def client(self) -> dict[str, str]:
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": self.user,
            "sasl.password": self.password,
            **({"ssl.ca.location": self.ca} if self.ca else {}),
        }


async def read(
    kind: type[E],
    *,
    kafka: str,
    registry: str,
    group: str,
    since: date | datetime,
    login: Login | None = None,
) -> AsyncGenerator[Received[E], None]:
    """Events of one type, an account's in their order, each at least once; waits for more when it has all.

    An event is done when the loop asks for the next one: what was at hand when the loop was left, or when
    the program crashed, comes again. Programs of one group share the work.

    Args:
        kafka: host:port of a broker.
        registry: address of the schema registry.
        group: your own name; who comes back under it goes on where it ended.
        since: where a new group begins: a day (midnight UTC) or an instant with its offset.
        login: where the brokers ask for one.

    Raises:
        ValueError: `since` is an instant without an offset.
        Unreadable: also for a broker's lasting refusal.
    """
    if not isinstance(since, datetime):
        since = datetime.combine(since, time(), UTC)
    if since.tzinfo is None:
        raise ValueError("since has no offset from UTC")
    with ThreadPoolExecutor(1) as thread:  # the client blocks, and what it does goes one after the other

        async def aside(work: Callable[[], R]) -> R:
            return await asyncio.get_running_loop().run_in_executor(thread, work)

        client = {"bootstrap.servers": kafka, **(login.client() if login else {})}
        source = _Source(kind, client, registry, group, round(since.timestamp() * 1000))
        try:
            while True:
                for place, received in await aside(source.fetch):
                    if received is not None:
                        yield received
                    source.done[place.topic, place.partition] = place
                await aside(source.commit)
        finally:
            await aside(source.close)


class _Source(Generic[E]):
    """Everything that blocks; `done` holds, by partition, the place after the last event that is done."""

    def __init__(
        self, kind: type[E], client: dict[str, str], registry: str, group: str, since_ms: int
    ) -> None:
        self.done: dict[tuple[str, int], Any] = {}
        self._kind, self._registry, self._since_ms = kind, registry, since_ms
        self._ours = parse_schema(json.loads((files(__package__) / f"{kind.TOPIC}.avsc").read_text("utf-8")))
        self._writers: dict[int, Any] = {}
        self._consumer = Consumer(
            {
                **client,
                "group.id": group,
                "enable.auto.commit": False,
                "auto.offset.reset": "error",
                "max.poll.interval.ms": MOST_S * 1000,
            }
        )
        self._consumer.subscribe(
            [kind.TOPIC], on_assign=lambda _, given: self._consumer.assign(self._begin(given))
        )

    def fetch(self) -> list[tuple[Any, Received[E] | None]]:
        """What is there, with the place after each; None where a compacted topic forgets a key."""
        return [self._received(record) for record in self._consumer.consume(AT_ONCE, timeout=0.5)]

    def commit(self) -> None:
        """Says what is done; where another reader has the partition now, it has the events again."""
        if not self.done:
            return
        try:
            self._consumer.commit(offsets=list(self.done.values()), asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() not in TAKEN_AWAY:
                raise
        self.done.clear()

    def close(self) -> None:
        try:
            self.commit()
        finally:
            self._consumer.close()

    def _begin(self, partitions: list[Any]) -> list[Any]:
        """Where the group ended, else the first event since then, else what comes next."""
        known = self._consumer.committed(partitions, timeout=LIMIT_S)
        new = [TopicPartition(p.topic, p.partition, self._since_ms) for p in known if p.offset < 0]
        # the ends are asked for before the day, so that no event slips in between
        ends = [self._consumer.get_watermark_offsets(p, timeout=LIMIT_S, cached=False)[1] for p in new]
        found = self._consumer.offsets_for_times(new, timeout=LIMIT_S) if new else []
        for partition, end in zip(found, ends, strict=True):
            if partition.offset < 0:
                partition.offset = end
        return [p for p in known if p.offset >= 0] + found

    def _received(self, record: Any) -> tuple[Any, Received[E] | None]:
        if record.error():
            raise Unreadable(record.error().str())
        after = TopicPartition(record.topic(), record.partition(), record.offset() + 1)
        if record.value() is None:
            return after, None
        try:
            event = self._decode(record.value())
        except Exception as error:  # whatever it is, the place is what a person needs
            place = f"{record.topic()}, partition {record.partition()}, offset {record.offset()}"
            raise Unreadable(f"{place} cannot be read: {error}") from error
        ce_id = dict(record.headers() or []).get("ce_id", b"").decode()
        return after, Received(event, ce_id or None)

    def _decode(self, value: bytes) -> E:
        if len(value) < HEADER_BYTES or value[0] != 0:
            raise ValueError("not in the Confluent wire format")
        body = io.BytesIO(value[HEADER_BYTES:])
        writer = self._writer(int.from_bytes(value[1:HEADER_BYTES]))
        return cast("E", self._kind.from_record(cast("Any", schemaless_reader(body, writer, self._ours))))

    def _writer(self, schema_id: int) -> Any:
        if schema_id not in self._writers:
            address = f"{self._registry}/schemas/ids/{schema_id}"
            with urllib.request.urlopen(address, timeout=LIMIT_S) as reply:  # noqa: S310 - the user's own registry
                self._writers[schema_id] = parse_schema(json.loads(json.load(reply)["schema"]))
        return self._writers[schema_id]
