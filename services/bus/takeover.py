"""A partition comes to us: what its last commits say is read before anything of it is dispatched.

Offsets never jump: a lost one, or one outside the log, halts the partition by name until an operator acts.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping

import structlog
from aiokafka.errors import KafkaError

from services.bus.commits import Commits
from services.bus.cursors import Cursors
from services.bus.landmark import why_another_log
from services.bus.membership import NO_OFFSET, Broker
from services.bus.outcomes import OutcomeIndex
from services.bus.partition import Commit, Owned, Stretch
from services.bus.progress import Progress, Restored, decode_metadata

log = structlog.get_logger()

AGAIN_S = 0.5
INDEX_GRACE_S = 1.0


class Takeover:
    """Opens partitions for one lane; `halt` is told of one that cannot be opened, and why."""

    def __init__(
        self,
        lane: str,
        broker: Broker,
        cursors: Cursors,
        commits: Commits,
        index: OutcomeIndex | None,
        *,
        exact: bool,
        halt: Callable[[Owned, str], None],
    ) -> None:
        self._lane = lane
        self._broker = broker
        self._cursors = cursors
        self._commits = commits
        self._index = index
        self._exact = exact
        self._halt = halt

    async def open(self, taken: list[Owned]) -> None:
        """Tries until they are open, or not ours any more."""
        while live := [owned for owned in taken if owned.live]:
            try:
                await self._open(live)
                return
            except (KafkaError, TimeoutError) as error:
                log.warning("commits_not_read", lane=self._lane, error=type(error).__name__)
                await asyncio.sleep(AGAIN_S)

    async def _open(self, taken: list[Owned]) -> None:
        partitions = [owned.partition for owned in taken]
        stored = await self._broker.commits(partitions)
        edges = await self._broker.edges(partitions)
        outcome_ends = await self._index.ends() if self._index is not None else {}
        found = await asyncio.gather(
            *(
                self._place(owned, stored.get(owned.partition, (NO_OFFSET, "")), *edges[owned.partition])
                for owned in taken
            )
        )
        restored = {owned: place for owned, place in zip(taken, found, strict=True) if place is not None}
        for owned in restored:
            owned.outcome_ends = outcome_ends
        ends = {owned: edges[owned.partition][1] for owned in restored}
        await self._cursors.restore(restored, ends)
        await self._commit_anew(list(restored))
        await self._await_index(outcome_ends)
        for owned in restored:
            owned.open = owned.live
            self._say_open(owned)

    async def _place(self, owned: Owned, commit: Commit, begin: int, end: int) -> Restored | None:
        """Where the lane goes on with a partition; None where it is halted instead."""
        offset, metadata = commit
        found = decode_metadata(metadata, offset, end)
        if offset == NO_OFFSET:
            reason = "the group's offset is lost; docs/runbook/lost-offsets.md says what to do"
        elif not begin <= offset <= end:
            reason = f"offset {offset} is outside the log ({begin} to {end})"
        else:
            reason = await why_another_log(self._broker, owned.partition, found.landmark, begin, end)
        if reason:
            self._halt(owned, reason)
            return None
        owned.main = Stretch("", Progress.resume(offset, found, exact=self._exact), found)
        owned.cursors.clear()
        owned.floors.clear()
        return found

    async def _commit_anew(self, taken: list[Owned]) -> None:
        """Nothing is sent before the commit names our generation: it tells a stale cursor from a true one."""
        for owned in taken:
            owned.restored = True
        await self._commits.write(taken)
        if any(owned.main.saved is None and owned.live and not owned.halted for owned in taken):
            raise KafkaError("the broker did not take the first commit")

    async def _await_index(self, ends: Mapping[int, int]) -> None:
        """A moment only: what the index cannot prove yet is in doubt, and the partner is asked."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INDEX_GRACE_S):
                while self._index is not None and not self._index.passed(ends):  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.02)

    def _say_open(self, owned: Owned) -> None:
        progress = owned.main.progress
        log.info(
            "partition_opened",
            lane=self._lane,
            topic=owned.partition.topic,
            partition=owned.partition.partition,
            committed=progress.position,
            in_doubt=max(progress.reserved - progress.position, len(progress.named)),
            behind_cursors=len(owned.cursors),
        )
