"""Lanes broken on purpose, each in one way that once cost somebody money; the simulation has to notice."""

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from aiokafka import TopicPartition

from services.bus.cursors import Cursors
from services.bus.delivery import Delivery
from services.bus.doubt import Attempts, Item
from services.bus.partition import Commit, Owned, Ticket
from services.bus.progress import Progress, Restored
from services.events import PaymentReceived
from tests.simulation.bus import Index
from tests.simulation.node import Make


class DoneBeforeItsOutcome(Delivery[PaymentReceived]):
    """Commits what was handed over, not what ended."""

    def _begin(self, owned: Owned, item: Item) -> None:
        super()._begin(owned, item)
        item.stretch.progress.finish(item.at)


class TrustsItsLease(Delivery[PaymentReceived]):
    """Sends as long as nobody has told it to stop."""

    def _ours(self, owned: Owned) -> bool:
        return owned.live


class ForgetsOldCalls(Delivery[PaymentReceived]):
    """A partition that comes back starts afresh, whatever still runs."""

    def assigned(self, partitions: Collection[TopicPartition], ticket: Ticket) -> None:
        self._busy = Emptied()
        super().assigned(partitions, ticket)


class Emptied(dict[tuple[int, bytes], list[tuple[Owned, bytes]]]):
    def pop(self, key: tuple[int, bytes], *default: Any) -> list[tuple[Owned, bytes]]:
        return super().pop(key, *default or ([],))


class TakenForWhole(Index):
    """What it does not have is taken for never tried, however far it has read."""

    def passed(self, ends: Any) -> bool:
        del ends
        return True


async def _nothing_to_ask(self: Attempts[PaymentReceived], item: Item) -> None:
    del self, item


async def _believed(self: Cursors, owned: Owned, scope: str, commit: Commit) -> bool:
    """The commit goes out, and nobody waits for its answer."""
    self._start(_ignoring(self, owned, scope, commit))
    return True


_committed = Cursors.committed
_restore = Cursors.restore


async def _ignoring(self: Cursors, owned: Owned, scope: str, commit: Commit) -> None:
    await _committed(self, owned, scope, commit)


async def _of_any_age(self: Cursors, main: Mapping[Owned, Restored], ends: Mapping[Owned, int]) -> None:
    ageless = {owned: replace(restored, generation=0) for owned, restored in main.items()}
    await _restore(self, ageless, ends)


MADE: dict[str, Make] = {
    "commit before outcome": Make(delivery=DoneBeforeItsOutcome),
    "lease not checked": Make(delivery=TrustsItsLease),
    "key lock not held across a hand-over": Make(delivery=ForgetsOldCalls),
    "index taken as proof before it caught up": Make(index=TakenForWhole),
    "not found believed at once": Make(patience_s=0.0),
    "commits not pinned to a generation": Make(pinned=False),
}
PATCHED: dict[str, AbstractContextManager[Any]] = {
    "doubt not looked up": patch.object(Attempts, "_ask", _nothing_to_ask),
    "no reservation": patch.object(Progress, "may_send", lambda *_: True),
    "cursor opened without its acknowledgement": patch.object(Cursors, "committed", _believed),
    "stale cursor believed": patch.object(Cursors, "restore", _of_any_age),
}
