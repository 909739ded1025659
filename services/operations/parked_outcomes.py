"""The outcomes that come after an act: heard from before it, waited for within a bound, told of each one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import ExitStack
from typing import Self

from services.bus.catalog import Topic
from services.bus.clock import Clock
from services.bus.codec import Codec, Undecodable
from services.bus.identity import Outcome, delivery_key
from services.bus.place import Place, Unreachable
from services.bus.registry import Registry, RegistryAway
from services.operations.parked_records import FAMILIES, Family, ParkedRecord, newness
from services.operations.parked_view import OUTCOMES
from services.operations.topic_reader import TopicReader

Newer = dict[bytes, Outcome]
"""By delivery, its newest outcome after the one that parked it."""


class OutcomeWatch:
    """Hears every outcome from when it was opened on; use it in `with`."""

    def __init__(
        self,
        place: Place,
        catalog: Mapping[str, Topic],
        registry: Registry,
        clock: Clock,
        families: Collection[Family] = FAMILIES,
    ) -> None:
        names = {family: OUTCOMES[family].TOPIC for family in families}
        self._codec = Codec({name: catalog[name].schema for name in names.values()}, registry)
        self._clock = clock
        self._open = ExitStack()
        self._readers: dict[Family, TopicReader] = {}
        with ExitStack() as opening:
            for family, name in names.items():
                reader = opening.enter_context(TopicReader(place, name, clock))
                reader.read(reader.ends())
                self._readers[family] = reader
            self._open = opening.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    async def newer(
        self,
        waited_for: Mapping[bytes, ParkedRecord],
        keys: Iterable[str],
        within_s: float,
        told: Callable[[int, int | None], None],
        *,
        until_quiet: bool = False,
    ) -> Newer:
        """What came of these deliveries, by `ParkedRecord.delivery`.

        Ends when each has an answer, after `within_s` seconds, or with `until_quiet` when nothing more comes.
        `keys` are those of the records under which their outcomes come. Raises Unreachable.
        """
        wanted, found = {key.encode() for key in keys}, Newer()
        families = {each.family for each in waited_for.values()}
        until = self._clock.monotonic() + within_s
        while len(found) < len(waited_for):
            heard = 0
            for family in families:
                records = await asyncio.to_thread(self._readers[family].fetch)
                heard += len(records)
                for record in records:
                    if record.key() in wanted:
                        outcome = await self._decode(OUTCOMES[family].TOPIC, record.value())
                        self._take(outcome, waited_for, found)
            told(len(found), len(waited_for))
            if self._clock.monotonic() >= until or (until_quiet and not heard):
                break
        return found

    def _take(self, outcome: Outcome | None, waited_for: Mapping[bytes, ParkedRecord], found: Newer) -> None:
        if outcome is None:
            return
        delivery = delivery_key(outcome)
        parked, before = waited_for.get(delivery), found.get(delivery)
        if parked is None or newness(outcome) <= (parked.attempt, False):
            return
        if before is None or newness(outcome) > newness(before):
            found[delivery] = outcome

    async def _decode(self, topic: str, value: bytes | None) -> Outcome | None:
        try:
            event = await self._codec.decode(topic, value)
        except Undecodable:
            return None
        except RegistryAway as error:
            raise Unreachable(f"The schema registry does not answer: {error}") from None
        return event if isinstance(event, Outcome) else None
