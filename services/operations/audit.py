"""What an operator does, on the audit topic: who, what, to what, why, and what came of it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from services.bus.catalog import Topic
from services.bus.clock import Clock
from services.bus.codec import Codec
from services.bus.connection import kafka_of
from services.bus.place import Unreachable
from services.bus.publisher import NotAcknowledged, Publisher
from services.bus.registry import Registry, RegistryAway
from services.bus.settings import Settings
from services.events import OperationAudited

SOURCE = "billbus/operations"


@dataclass(frozen=True, kw_only=True)
class Act:
    """What is done: `action` a verb, `target` what it is done to, never personal data; `biller` None where
    it concerns no single one."""

    operator: str
    action: str
    target: str
    reason: str
    biller: str | None = None


class Audit:
    """`told` before the act and after it: one that never ended is seen by its missing end."""

    def __init__(self, publisher: Publisher, clock: Clock) -> None:
        self._publisher = publisher
        self._clock = clock

    async def told(self, act: Act, result: str) -> None:
        """Returns once the bus has acknowledged it; raises Unreachable."""
        try:
            await self._publisher.publish(self._event(act, result))
        except NotAcknowledged as error:
            raise Unreachable(f"Kafka did not take the audit record: {error}") from None

    async def stamped(self, act: Act, result: str) -> datetime:
        """As `told`; answers when the broker took it, by the broker's clock, to the millisecond."""
        handed = await self._publisher.hand_over([self._event(act, result)])
        (failure,) = await self._publisher.acknowledged(handed)
        if failure is not None:
            raise Unreachable(f"Kafka did not take the audit record: {failure}")
        ((_, future),) = handed.waiting
        stored: Any = future.result()
        return datetime.fromtimestamp(stored.timestamp / 1000, UTC)

    def _event(self, act: Act, result: str) -> OperationAudited:
        return OperationAudited(
            biller=act.biller,
            operator=act.operator,
            action=act.action,
            target=act.target,
            reason=act.reason,
            result=result,
            at=self._clock.now(),
        )


@asynccontextmanager
async def publishing(
    settings: Settings, topics: Mapping[str, Topic], clock: Clock
) -> AsyncIterator[Publisher]:
    """A publisher for events of these topics; raises Unreachable."""
    registry = Registry(settings.registry)
    codec = Codec({name: topic.schema for name, topic in topics.items()}, registry)
    publisher = Publisher(kafka_of(settings), SOURCE, codec, clock)
    try:
        await codec.start()
        await publisher.start()
        yield publisher
    except RegistryAway as error:
        raise Unreachable(f"The schema registry does not answer: {error}") from None
    finally:
        await publisher.stop()
        codec.close()


@asynccontextmanager
async def auditing(settings: Settings, catalog: Mapping[str, Topic], clock: Clock) -> AsyncIterator[Audit]:
    """What writes audit records; raises Unreachable."""
    audited = {OperationAudited.TOPIC: catalog[OperationAudited.TOPIC]}
    async with publishing(settings, audited, clock) as publisher:
        yield Audit(publisher, clock)
