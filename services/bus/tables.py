"""Tables that Faust keeps: a fold of one topic into a compacted one, which is the table's own changelog.

An agent runs one partition in order. It never skips: an event it cannot fold ends the process, bytes that
are no event go to the dead letters first.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import faust
import structlog

from services.bus.codec import Codec, Undecodable
from services.bus.connection import Brokers
from services.bus.publisher import Publisher
from services.events import Event

log = structlog.get_logger()
R = TypeVar("R", bound=Event)
I = TypeVar("I", bound=Event)  # noqa: E741 - reads, into: the letters of the two fields
FAILED = 70


@dataclass(frozen=True, kw_only=True)
class Table(Generic[R, I]):
    """Folds the events of one topic, by key, into the newest state.

    Attributes:
        reads: the event that changes the state.
        into: the state, published on its compacted topic.
        fold: new state from the old one (None: nothing known) and the event; None leaves it as it is.
              Must give the same result when the same event comes twice.
    """

    reads: type[R]
    into: type[I]
    fold: Callable[[I | None, R], I | None]


def add_table(
    app: faust.App, table: Table[Any, Any], partitions: int, codec: Codec, publisher: Publisher
) -> None:
    """Gives the Faust app the table and the agent that feeds it."""
    raw = {"key_serializer": "raw", "value_serializer": "raw", "key_type": bytes, "value_type": bytes}
    topic = table.into.TOPIC
    changelog = app.topic(topic, partitions=partitions, compacting=True, **raw)
    state = app.Table(
        topic, partitions=partitions, changelog_topic=changelog, key_type=bytes, value_type=bytes
    )
    source = app.topic(table.reads.TOPIC, partitions=partitions, **raw)

    async def fold(stream: Any) -> None:
        async for key, value in stream.items():
            try:
                await keep(state, table, codec, publisher, key, value)
            except Exception as error:  # skipping it would lose it: let a new process try again
                log.critical("table_failed", table=topic, exc_info=error)
                os._exit(FAILED)

    app.agent(source, name=f"{table.reads.TOPIC}>{topic}", isolated_partitions=True)(fold)


def faust_client(brokers: Brokers) -> dict[str, Any]:
    """The settings by which a Faust app connects."""
    urls = [f"kafka://{address}" for address in str(brokers).split(",")]
    if isinstance(brokers, str):
        return {"broker": urls}
    tls = brokers.tls()
    credentials: Any = faust.SSLCredentials(tls)
    if brokers.sasl:
        credentials = faust.SASLCredentials(
            username=brokers.user, password=brokers.password, ssl_context=tls, mechanism=brokers.mechanism
        )
    return {"broker": urls, "broker_credentials": credentials}


async def keep(
    state: Any, table: Table[Any, Any], codec: Codec, publisher: Publisher, key: bytes, value: bytes
) -> None:
    try:
        event = await codec.decode(table.reads.TOPIC, value)
    except Undecodable as error:
        reason = [("billbus_reason", str(error).encode()), ("billbus_lane", table.into.TOPIC.encode())]
        await publisher.publish_raw(f"{table.reads.TOPIC}.dlq", key, value, reason)
        return
    before = state.get(key)
    current = await codec.decode(table.into.TOPIC, before) if before is not None else None
    after = table.fold(current, event)
    if after is not None and after != current:
        state[key] = codec.encode(after)
