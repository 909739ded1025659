"""Records again, for reprocessing: byte for byte onto `<topic>.replay`, with where they first stood."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self

from confluent_kafka import KafkaException, Producer

from services.bus.catalog import REPLAY
from services.bus.clock import Clock
from services.bus.partitioning import place_of
from services.bus.place import Place, Unreachable
from services.bus.replayed import (
    ACT,
    ATTEMPT,
    ORIGIN_OFFSET,
    ORIGIN_PARTITION,
    ORIGIN_TIMESTAMP,
    REASON,
    RUN,
    Act,
)
from services.bus.settings import ConfigurationError

Header = tuple[str, bytes | None]
OURS = frozenset((ORIGIN_PARTITION, ORIGIN_OFFSET, ORIGIN_TIMESTAMP, RUN, ACT, ATTEMPT, REASON))
BUFFERED, BUFFERED_KIB = 20_000, 16_384
"""The most that may wait for the broker, in records and in KiB."""
LARGEST_BYTES = 2 * 1024 * 1024
"""Above every record that the topics allow; the broker's own limit of the topic says which is too large."""
UNSENT_MS = 8_000
"""After so long without an acknowledgement a record has failed, and the run with it."""
ROOM_S = 0.1
SERVED_EVERY = 64
"""After so many records the client looks which have arrived; each time would cost a tenth of the whole."""


class Coordinates(NamedTuple):
    """Where the live topic has a record; `timestamp` is the broker's, in milliseconds."""

    partition: int
    offset: int
    timestamp: int


def coordinates_of(record: Any) -> Coordinates:
    """Of a record (confluent_kafka.Message) of a live topic its own, of one of `.replay` those it came with.

    Raises ValueError for a record of `.replay` that does not say them.
    """
    if not record.topic().endswith(REPLAY):
        return Coordinates(record.partition(), record.offset(), record.timestamp()[1])
    said = dict(record.headers() or ())
    try:
        return Coordinates(*(int(said[name]) for name in (ORIGIN_PARTITION, ORIGIN_OFFSET, ORIGIN_TIMESTAMP)))
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{record.topic()} {record.partition()}@{record.offset()} has no origin") from None


class Reemitter:
    """Writes records to the `.replay` of one topic for one run; use it in `with`, and `flush` before its end.

    Each goes to the partition of its key, which is the number that the live topic has it under, and those of
    a partition arrive in the order in which they were given, each once.

    Args:
        topic: the live topic's full name.
        run: the run's id, in the header of each record.
        clock: says when a broker that acknowledges nothing is taken for away.

    Raises Unreachable where the broker does not answer, ConfigurationError where it has no such `.replay`.
    """

    def __init__(self, place: Place, topic: str, run: str, clock: Clock) -> None:
        self.topic = topic + REPLAY
        partitions = place.topics().get(self.topic)
        if partitions is None:
            raise ConfigurationError([f"{self.topic} is not on the broker; run: billbus topics apply --yes"])
        self._partitions = partitions
        self._run = run.encode()
        self._clock = clock
        self._failure: KafkaException | None = None
        self._unserved = 0
        self._act: Act | None = None
        self._said: list[Header] = []
        self._producer = Producer(
            {
                **place.client,
                "client.id": "billbus/operations",
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 5,
                "message.timeout.ms": UNSENT_MS,
                "message.max.bytes": LARGEST_BYTES,
                "queue.buffering.max.messages": BUFFERED,
                "queue.buffering.max.kbytes": BUFFERED_KIB,
                # told of each one that arrived, this process would do nothing else
                "delivery.report.only.error": True,
                "on_delivery": self._failed,
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._producer.purge()  # nothing where `flush` was called; else what nobody is to wait for
        self._producer.poll(0)

    def emit(
        self,
        key: bytes | None,
        value: bytes | None,
        headers: Iterable[Header],
        origin: Coordinates,
        act: Act,
    ) -> None:
        """Hands one record over; waits while the buffer is full.

        Raises Unreachable where an earlier one did not arrive, or the broker takes nothing.
        """
        if self._failure is not None:
            raise self._unreachable()
        kept: list[Header] = [
            *(each for each in headers if each[0] not in OURS),
            (ORIGIN_PARTITION, b"%d" % origin.partition),
            (ORIGIN_OFFSET, b"%d" % origin.offset),
            (ORIGIN_TIMESTAMP, b"%d" % origin.timestamp),
            *(self._said if act is self._act else self._wanting(act)),
        ]
        while True:
            try:
                self._producer.produce(
                    self.topic,
                    value,
                    key,
                    partition=place_of(key or b"", self._partitions),
                    headers=kept,
                )
                break
            except BufferError:
                self._producer.poll(ROOM_S)  # a record that waits too long fails, so this ends
                if self._failure is not None:
                    raise self._unreachable() from None
        self._unserved += 1
        if self._unserved >= SERVED_EVERY:
            self._unserved = 0
            self._producer.poll(0)

    @property
    def unacknowledged(self) -> int:
        """Records handed over that the broker has not acknowledged yet."""
        return len(self._producer)

    def flush(self) -> None:
        """Returns when the broker has acknowledged all that was handed over; raises Unreachable."""
        deadline = self._clock.monotonic() + 2 * UNSENT_MS / 1000
        while self._producer.flush(ROOM_S) and self._failure is None and self._clock.monotonic() < deadline:
            pass
        if self._failure is not None or len(self._producer):
            raise self._unreachable()

    def _wanting(self, act: Act) -> Sequence[Header]:
        """The headers that say the act; kept for the next record, which mostly has the same."""
        said: list[Header] = [(RUN, self._run), (ACT, act.wish.encode())]
        if act.wish in ("retry", "dismiss"):
            said.append((ATTEMPT, b"%d" % act.attempt))
        if act.reason:
            said.append((REASON, act.reason.encode()))
        self._act, self._said = act, said
        return said

    def _failed(self, error: Any, _record: Any) -> None:
        if error is not None and self._failure is None:
            self._failure = KafkaException(error)

    def _unreachable(self) -> Unreachable:
        why = self._failure.args[0].str() if self._failure else "no acknowledgement"
        return Unreachable(f"Kafka did not take a record for {self.topic}: {why}")
