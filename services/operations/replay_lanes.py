"""How far the lanes that read a topic have come, from their commits: main positions and open cursors."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from services.bus.connection import Brokers, aiokafka_client
from services.bus.partition import account_scope, biller_of
from services.bus.place import Unreachable
from services.bus.progress import Restored, decode_metadata
from services.bus.topics import LANES, group_of

LIMIT_S = 15.0
Commits = Mapping[int, tuple[int, Restored]]
"""By partition: the offset committed, and what its metadata says."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What one lane has taken of a topic: its own commits, and those of its cursors by scope."""

    main: Commits
    cursors: Mapping[str, Commits] = field(default_factory=dict)

    def has(self, partition: int, offset: int, key: bytes) -> bool:
        """Whether the record has ended there, as far as commits tell (an outcome tells more)."""
        position, said = self.main[partition]
        if offset >= position and offset not in said.done:
            return False
        return not any(
            scope in self.cursors and _waits(self.cursors[scope].get(partition), offset)
            for scope in (biller_of(key), account_scope(key))
        )

    def all_below(self, ends: Mapping[int, int]) -> bool:
        """Whether nothing below these offsets is left, in any cursor either."""
        return not self.left_below(ends) and not any(
            position < ends.get(partition, 0) and (said.until is None or position < said.until)
            for commits in self.cursors.values()
            for partition, (position, said) in commits.items()
        )

    @property
    def done(self) -> int:
        """A number that grows with every record that is done."""
        every = (self.main, *self.cursors.values())
        return sum(position + len(said.done) for commits in every for position, said in commits.values())

    def left_below(self, ends: Mapping[int, int]) -> int:
        """How many records below these offsets the main lane has not finished."""
        return sum(
            max(end - position - sum(offset < end for offset in said.done), 0)
            for partition, end in ends.items()
            for position, said in (self.main[partition],)
        )


class Lanes:
    """Looks at the commits of the lanes that read a topic; use it in `with`, where no event loop runs.

    Through aiokafka, as the lanes themselves: librdkafka loses where a commit's metadata ends.

    Raises Unreachable where the broker does not answer, and where a lane has never committed: its service
    then waits for an operator itself.
    """

    def __init__(self, brokers: Brokers, topic: str) -> None:
        self.names = tuple(lane for lane, reads in LANES.items() if reads == topic)
        self._brokers = brokers
        self._loop = asyncio.new_event_loop()
        self._admin: Any = None

    def __enter__(self) -> Self:
        self._admin = self._ask(self._connect())
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(Unreachable):
            self._ask(self._admin.close())
        self._loop.close()

    def taken(self, lane: str, topic: str, ends: Mapping[int, int]) -> Taken:
        """What the lane has taken of a topic that ends there."""
        # the main position first: one that passed records for a cursor comes after that cursor's commit
        main = self._main(lane, topic, ends).main
        begin = f"{group_of(lane)}."
        groups = [
            name for name, *_ in self._ask(self._admin.list_consumer_groups()) if name.startswith(begin)
        ]
        return Taken(main, {g.removeprefix(begin): self._commits(g, topic, ends) for g in groups})

    def outstanding(self, topic: str, ends: Mapping[int, int]) -> int:
        """Of the lane that has the most: records that it has still to take up in its main position."""
        return max(self._main(lane, topic, ends).left_below(ends) for lane in self.names)

    def _main(self, lane: str, topic: str, ends: Mapping[int, int]) -> Taken:
        found = self._commits(group_of(lane), topic, ends)
        if missing := sorted(set(ends) - set(found)):
            raise Unreachable(
                f"{group_of(lane)} has no offset in partition {missing[0]} of {topic}; "
                "billbus doctor says what to do"
            )
        return Taken(found)

    def _commits(self, group: str, topic: str, ends: Mapping[int, int]) -> dict[int, tuple[int, Restored]]:
        wanted = [TopicPartition(topic, partition) for partition in ends]
        found = self._ask(self._admin.list_consumer_group_offsets(group, partitions=wanted))
        return {
            place.partition: (at.offset, decode_metadata(at.metadata or "", at.offset, ends[place.partition]))
            for place, at in found.items()
            if at.offset >= 0
        }

    async def _connect(self) -> Any:
        admin = AIOKafkaAdminClient(**aiokafka_client(self._brokers), request_timeout_ms=int(LIMIT_S * 1000))
        await admin.start()
        return admin

    def _ask(self, question: Coroutine[Any, Any, Any]) -> Any:
        try:
            return self._loop.run_until_complete(asyncio.wait_for(question, LIMIT_S))
        except (KafkaError, TimeoutError) as error:
            raise Unreachable(
                f"Kafka does not say how far the services are: {type(error).__name__}"
            ) from None


def _waits(commit: tuple[int, Restored] | None, offset: int) -> bool:
    """Whether an open cursor has the record still before it."""
    if commit is None:
        return False
    position, said = commit
    return position <= offset and offset not in said.done and (said.until is None or offset < said.until)
