"""Who is sent next: keys that are ready, biller by biller, none beyond its share of what is in flight."""

from collections import Counter, deque
from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import count

from services.bus.partition import Owned

Ready = tuple[Owned, bytes]


class Shares:
    """Hands out ready keys, billers in turn, of one biller what has waited longest.

    Longest first, not round after round: an account with ten records among those of accounts with two would
    hold the commit back for ten rounds, until the lane took it to be in the way.

    A biller alone may have everything that is in flight; with others at work or waiting, an even part. One
    that just came does not wait for a slow one to give its places back, so that for a moment there may be
    up to twice as many.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.in_flight = 0
        self._ready: dict[str, list[tuple[float, int, Ready]]] = {}
        self._numbers = count()
        self._turn: deque[str] = deque()
        self._mine: Counter[str] = Counter()

    def add(self, biller: str, ready: Ready, since: float) -> None:
        """A key whose first record may be tried; it is here since that monotonic instant."""
        queue = self._ready.get(biller)
        if queue is None:
            queue = self._ready[biller] = []
            self._turn.append(biller)
        heappush(queue, (since, next(self._numbers), ready))

    def take(self) -> Iterator[Ready]:
        """Each key that may be sent now, until the shares are used up; it counts as in flight."""
        skipped = 0
        while self._turn and skipped < len(self._turn) and self.in_flight < 2 * self.most:
            biller = self._turn[0]
            if self._mine[biller] >= self._share():
                self._turn.rotate(-1)
                skipped += 1
                continue
            queue = self._ready[biller]
            _, _, ready = heappop(queue)
            if queue:
                self._turn.rotate(-1)
            else:
                self._turn.popleft()
                del self._ready[biller]
            skipped = 0
            self._mine[biller] += 1
            self.in_flight += 1
            yield ready

    def free(self, biller: str) -> None:
        """A place that was taken is free again."""
        self.in_flight -= 1
        self._mine[biller] -= 1
        if not self._mine[biller]:
            del self._mine[biller]

    def _share(self) -> int:
        active = len(self._mine) + sum(biller not in self._mine for biller in self._ready)
        return max(1, self.most // max(active, 1))
