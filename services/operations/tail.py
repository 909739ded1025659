"""Records of a topic, its `.replay` or its `.dlq`, as they come: decoded, personal data hidden."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from services.bus.catalog import DLQ, Topic
from services.bus.clock import Clock
from services.bus.codec import Codec, Undecodable
from services.bus.connection import kafka_of
from services.bus.log import mask_account
from services.bus.place import Place, Unreachable
from services.bus.registry import Registry, RegistryAway
from services.bus.settings import Settings
from services.operations.beside import Beside, beside_of
from services.operations.personal_data import masked, masked_key
from services.operations.topic_reader import TopicReader

RAW_SHOWN = 2048
"""Bytes of a dead letter that are shown at the most."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Which records: of a biller or an account ('' for all), stored `since` then (None: from now on).

    `suffix` is '' for the topic itself, or `.replay` or `.dlq` for what stands beside it. With `follow` the
    records that come later too; `personal_data` shows what is marked `pii`.
    """

    topic: Topic
    suffix: str = ""
    biller: str = ""
    account: str = ""
    since: datetime | None = None
    follow: bool = True
    personal_data: bool = False

    @property
    def name(self) -> str:
        """The topic that is read."""
        return self.topic.name + self.suffix

    def wants(self, key: str) -> bool:
        """Whether a record with this key was asked for."""
        biller, _, account = key.partition("/")
        return self.biller in ("", biller) and self.account in ("", account)


@dataclass(frozen=True, kw_only=True)
class Line:
    """One record. `value` is None where a compacted topic forgets a key, and where it is `unreadable`.

    `stored` is when the broker took it (UTC); `id` and `time` are its CloudEvents headers. On `.replay` and
    `.dlq`, `beside` is what its headers say. A dead letter has its `size` in bytes and never a value; its
    first RAW_SHOWN bytes are `raw`, as hex, where personal data is shown.
    """

    partition: int
    offset: int
    stored: datetime
    key: str
    id: str | None
    time: str | None
    value: dict[str, Any] | None
    unreadable: str | None = None
    beside: Beside | None = None
    size: int | None = None
    raw: str | None = None


class Tail:
    """What `open_tail` opened; its place on the topic is fixed."""

    def __init__(self, reader: TopicReader, codec: Codec, asked: Asked) -> None:
        self._reader = reader
        self._codec = codec
        self._asked = asked

    async def lines(self, stopped: Callable[[], bool]) -> AsyncIterator[Line]:
        """The records, each account's in order, until all are told or `stopped` says so.

        Raises Unreachable, and KafkaException for what the broker refuses.
        """
        while not (self._reader.finished or stopped()):
            for record in await asyncio.to_thread(self._reader.fetch):
                if stopped():
                    return
                key = (record.key() or b"").decode(errors="replace")
                if self._asked.wants(key):
                    yield await self._line(record, key)

    async def _line(self, record: Any, key: str) -> Line:
        value, unreadable = None, None
        raw: bytes | None = record.value()
        dead = self._asked.suffix == DLQ
        try:
            value = None if dead else await self._value(raw)
        except Undecodable as error:
            unreadable = str(error)
        headers = {name: text.decode(errors="replace") for name, text in record.headers() or [] if text}
        return Line(
            partition=record.partition(),
            offset=record.offset(),
            stored=datetime.fromtimestamp(record.timestamp()[1] / 1000, UTC),
            key=key if self._asked.personal_data else self._masked(key),
            id=headers.get("ce_id"),
            time=headers.get("ce_time"),
            value=value,
            unreadable=unreadable,
            beside=beside_of(headers) if self._asked.suffix else None,
            size=len(raw or b"") if dead else None,
            raw=(raw or b"")[:RAW_SHOWN].hex() if dead and self._asked.personal_data else None,
        )

    def _masked(self, key: str) -> str:
        """A dead letter's key may be anything: what does not look like a key is hidden whole."""
        if self._asked.topic.key == "biller/account" and "/" not in key:
            return mask_account(key)
        return masked_key(key)

    async def _value(self, value: bytes | None) -> dict[str, Any] | None:
        if value is None:
            return None
        try:
            record = (await self._codec.decode(self._asked.topic.name, value)).as_record()
        except RegistryAway as error:
            raise Unreachable(f"The schema registry does not answer: {error}") from None
        return record if self._asked.personal_data else masked(self._asked.topic.schema, record)


@contextmanager
def open_tail(settings: Settings, asked: Asked, clock: Clock) -> Iterator[Tail]:
    """Finds the place on the topic: whatever is stored from now on is told.

    Raises Unreachable, and ConfigurationError where the broker lacks the topic.
    """
    topic, registry = asked.topic, Registry(settings.registry)
    try:
        with (
            Place(kafka_of(settings), settings.registry) as place,
            TopicReader(place, asked.name, clock) as reader,
        ):
            ends = reader.ends()
            starts = reader.offsets_at(asked.since, ends) if asked.since else ends
            reader.read(starts, None if asked.follow else ends)
            yield Tail(reader, Codec({topic.name: topic.schema}, registry), asked)
    finally:
        registry.close()
