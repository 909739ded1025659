"""One replay of a topic at a time: whoever is alone in the topic's group, by the broker's word."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from services.bus.catalog import REPLAY
from services.bus.clock import Clock
from services.bus.groups import has_members
from services.bus.place import Place, Unreachable
from services.bus.rights import REPLAY_GROUPS
from services.operations.replay_outcomes import Interrupted

SESSION_S = 10
"""For so long the broker takes a process that was killed for one that is there."""
WAIT_S = SESSION_S + 3
JOIN_LIMIT_S = 30.0
POLL_S = 0.2
ALONE_AGAIN_S = 0.5
SETTLES_S = 1.0
"""Whoever looked just before this one joined has joined as well by then."""


class Busy(Exception):
    """Somebody else replays the topic."""


class OneAtATime:
    """Membership of a group that only replays of this topic join; use it in `with`.

    Its members share the partitions of `.replay`, of which none reads anything. Whoever has all of them is
    alone, and only then emits. Whoever finds a member does not join. Of two that join in the same moment
    neither has all, so both leave and try once more. A member that does not poll for SESSION_S loses its
    partitions before another one gets them, and learns so at its next `held`.

    Raises Busy, Unreachable, and Interrupted where `stopped` says so before it is in.
    """

    def __init__(self, place: Place, topic: str, clock: Clock, stopped: Callable[[], bool]) -> None:
        self._place = place
        self._topic = topic + REPLAY
        self._group = REPLAY_GROUPS + topic
        self._clock = clock
        self._stopped = stopped
        self._partitions = place.topics()[self._topic]
        self._held: set[int] = set()
        self._polled = 0.0
        self._member: Consumer | None = None

    def __enter__(self) -> Self:
        self._wait_for_who_was_killed()
        try:
            self._join_alone()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()

    def require(self, wait_s: float = 0.0) -> None:
        """Returns, after as long, if this process is the one that may emit; raises Unreachable if not."""
        before = self._polled
        self._poll(wait_s)
        if len(self._held) < self._partitions or self._polled - before > SESSION_S:
            raise Unreachable(
                f"This process was taken for gone in the group {self._group}; the same command goes on"
            )

    def _wait_for_who_was_killed(self) -> None:
        until = self._clock.monotonic() + WAIT_S
        while has_members(self._place.admin, self._group):
            if self._clock.monotonic() > until:
                raise Busy(self._topic)
            self._pause(ALONE_AGAIN_S)

    def _join_alone(self) -> None:
        deadline = self._clock.monotonic() + JOIN_LIMIT_S
        while not self._joined(deadline):
            self._leave()
            if self._clock.monotonic() > deadline:
                raise Unreachable(f"Kafka let nobody into the group {self._group} for {JOIN_LIMIT_S:g} s")
            self._pause(random.uniform(0, 2))  # noqa: S311 - jitter
            if has_members(self._place.admin, self._group):
                raise Busy(self._topic)

    def _joined(self, deadline: float) -> bool:
        """Whether it is in the group, alone."""
        self._member = Consumer(
            {
                **self._place.client,
                "group.id": self._group,
                "client.id": "billbus/replay",
                "enable.auto.commit": False,
                "auto.offset.reset": "latest",
                "session.timeout.ms": SESSION_S * 1000,
                "max.poll.interval.ms": SESSION_S * 1000,
                "heartbeat.interval.ms": 1000,
            }
        )
        self._member.subscribe(
            [self._topic], on_assign=self._assigned, on_revoke=self._gone, on_lost=self._gone
        )
        self._polled = self._clock.monotonic()
        while not self._held and self._clock.monotonic() < deadline:
            if self._stopped():
                raise Interrupted
            self._poll(POLL_S)
        settled = self._clock.monotonic() + SETTLES_S
        while len(self._held) == self._partitions and self._clock.monotonic() < settled:
            self._poll(POLL_S)
        return len(self._held) == self._partitions

    def _assigned(self, member: Any, partitions: list[TopicPartition]) -> None:
        self._held = {each.partition for each in partitions}
        member.assign(partitions)
        member.pause(partitions)  # being in the group is all that it is for

    def _gone(self, _member: Any, _partitions: list[TopicPartition]) -> None:
        self._held = set()

    def _poll(self, wait_s: float) -> None:
        record = self._member.poll(wait_s) if self._member is not None else None
        self._polled = self._clock.monotonic()
        error = record.error() if record is not None else None
        if error is not None and error.code() == KafkaError._MAX_POLL_EXCEEDED:
            self._held = set()
        elif error is not None:
            raise KafkaException(error)

    def _pause(self, seconds: float) -> None:
        if self._stopped():
            raise Interrupted
        self._place.admin.poll(seconds)

    def _leave(self) -> None:
        if self._member is not None:
            self._member.close()
        self._member, self._held = None, set()
