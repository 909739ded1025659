"""Many events in one call, for a partner that takes batches, with an answer for each of them.

`Batches` is a lane's `deliver`: it gathers the events of one biller that are delivered at the same time, and
each caller gets what the partner said of its own. While nothing of the biller is at the partner a batch goes
at once with all that is there; otherwise it waits a few milliseconds for more. A call that is refused whole
goes again in halves until the bad one stands alone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Protocol

from services.bus.clock import Clock
from services.bus.faults import NotOurs, PartnerError, Unknown, still_ours
from services.bus.identity import delivery_id
from services.bus.lane import E, Rejected, Settlement

LINGER_S = 0.005
MOST_REMEMBERED = 10_000
"""Events known to have been in doubt in a batch; beyond that the oldest is forgotten."""

Answers = Sequence[Settlement | Exception]


class RefusedWhole(Exception):
    """The partner refused a call of one or more events: no effect, and not a word on any one of them.

    Args:
        reason, said: why an event is rejected that stands alone in such a call.
        doubt: raised instead where nothing of the batch was taken, since then the partner may refuse all
            calls; None where what it said is about the event.
    """

    def __init__(self, reason: str, said: str, doubt: PartnerError | None = None) -> None:
        super().__init__(reason)
        self.rejected = Rejected(reason, said)
        self.doubt = doubt


class Later(Protocol):
    """As `call_later` of an event loop."""

    def __call__(self, delay: float, callback: Callable[[], object], /) -> asyncio.Handle: ...


@dataclass(slots=True, eq=False)
class Waiting(Generic[E]):
    """An event whose caller waits.

    Attributes:
        size: bytes that it takes in a call.
        most: events that a call with it may have.
        ours: whether it is still this process's to deliver.
        context: its caller's, with the trace.
        sent_at: monotonic instant of the newest call with it.
        refused: how a call was refused in which it stood alone.
    """

    event: E
    id: bytes
    size: int
    most: int
    ours: Callable[[], bool] | None
    context: Context
    answer: asyncio.Future[Settlement]
    sent_at: float = 0.0
    lost: bool = False
    refused: RefusedWhole | None = None

    def is_ours(self) -> bool:
        """Once it was lost, it is: another process may have begun."""
        self.lost = self.lost or (self.ours is not None and not self.ours())
        return not self.lost

    def fail(self, error: Exception) -> None:
        if not self.answer.done():
            self.answer.set_exception(error)


@dataclass(slots=True, eq=False)
class Line(Generic[E]):
    """What is gathered of one biller, and how many of its batches are at the partner."""

    gathered: list[Waiting[E]] = field(default_factory=list)
    size: int = 0
    most: int = 0
    timer: asyncio.Handle | None = None
    away: int = 0


class Batches(Generic[E]):
    """Awaited with one event; answers or raises what the partner said of it.

    Args:
        send: brings events of one biller to the partner in one call; answers a settlement or an exception
            for each, in their order. What it raises is everybody's; RefusedWhole where the call is split.
        most, most_bytes: what one call may have; an event that is larger than that goes alone.
        size: bytes that an event takes in a call.
        later: in place of the running loop's call_later.
    """

    def __init__(
        self,
        send: Callable[[Sequence[E]], Awaitable[Answers]],
        *,
        clock: Clock,
        most: int,
        most_bytes: int,
        size: Callable[[E], int],
        later: Later | None = None,
    ) -> None:
        self._send = send
        self._clock = clock
        self._most = most
        self._most_bytes = most_bytes
        self._size = size
        self._later = later
        self._lines: dict[str, Line[E]] = {}
        self._smaller: dict[bytes, int] = {}
        self._calls: set[asyncio.Task[None]] = set()

    async def __call__(self, event: E) -> Settlement:
        delivered: Any = event
        known = delivery_id(delivered).bytes
        one = Waiting(
            event,
            known,
            self._size(event),
            self._smaller.get(known, self._most),
            still_ours.get(),
            copy_context(),
            asyncio.get_running_loop().create_future(),
        )
        self._gather(self._lines.setdefault(delivered.biller, Line()), one)
        return await one.answer

    # -- gathering -------------------------------------------------------------------------------------

    def _gather(self, line: Line[E], one: Waiting[E]) -> None:
        count, size = len(line.gathered) + 1, line.size + one.size
        if line.gathered and (count > one.most or size > self._most_bytes):
            self._go(line)
        line.most = min(one.most, line.most) if line.gathered else one.most
        line.gathered.append(one)
        line.size += one.size
        if len(line.gathered) >= line.most:
            self._go(line)
        elif line.timer is None:
            later = self._later or asyncio.get_running_loop().call_later
            # 0: when everything has run that was started together with this one
            line.timer = later(LINGER_S if line.away else 0.0, partial(self._go, line))

    def _go(self, line: Line[E]) -> None:
        """Sends what is gathered; the call is its own task, so that no caller's end is another's."""
        batch, line.gathered, line.size = line.gathered, [], 0
        if line.timer is not None:
            line.timer.cancel()
            line.timer = None
        line.away += 1
        bringing = self._bring(line, batch)
        task = asyncio.get_running_loop().create_task(bringing, context=batch[0].context)
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    # -- calling ---------------------------------------------------------------------------------------

    async def _bring(self, line: Line[E], batch: list[Waiting[E]]) -> None:
        """Every caller has its answer at the end, whatever happens."""
        try:
            await self._call(batch)
            taken = any(one.answer.done() and _is_settled(one.answer) for one in batch)
            for one in batch:
                if one.refused is not None:
                    self._answer(one, _alone(one.refused, taken))
        finally:
            line.away -= 1
            for one in batch:
                one.fail(RuntimeError("a batch ended without an answer for one of its events"))

    async def _call(self, batch: Sequence[Waiting[E]]) -> None:
        """One call, without those that are no longer ours or wanted; in halves when it is refused whole."""
        for _ in range(len(batch)):
            going = [one for one in batch if not one.answer.done() and self._goes(one)]
            if not going:
                return
            still_ours.set(partial(_all_ours, going))
            for one in going:
                one.sent_at = self._clock.monotonic()
            try:
                answers = await self._send([one.event for one in going])
                for one, answer in zip(going, answers, strict=True):
                    self._answer(one, answer, len(going))
            except NotOurs:  # found out right before the first byte: the others go without that one
                continue
            except RefusedWhole as refused:
                await self._halve(going, refused)
            except Exception as error:  # each caller says what it means
                for one in going:
                    self._answer(one, error, len(going))
            return

    def _goes(self, one: Waiting[E]) -> bool:
        if one.is_ours():
            return True
        one.fail(NotOurs())
        return False

    async def _halve(self, batch: list[Waiting[E]], refused: RefusedWhole) -> None:
        if len(batch) == 1:
            batch[0].refused = refused
            return
        middle = len(batch) // 2
        await asyncio.gather(self._call(batch[:middle]), self._call(batch[middle:]))

    # -- answering -------------------------------------------------------------------------------------

    def _answer(self, one: Waiting[E], answer: Settlement | Exception, of: int = 0) -> None:
        """What may have taken effect in a call `of` so many goes in a smaller one if it goes again."""
        if not isinstance(answer, Exception):
            self._smaller.pop(one.id, None)
            if not one.answer.done():
                one.answer.set_result(answer)
            return
        if isinstance(answer, PartnerError):
            answer.sent_at = one.sent_at
        if of and (isinstance(answer, Unknown) or not isinstance(answer, PartnerError)):
            self._remember(one.id, max(1, of // 2))
        one.fail(answer)

    def _remember(self, known: bytes, most: int) -> None:
        self._smaller[known] = most
        if len(self._smaller) > MOST_REMEMBERED:
            del self._smaller[next(iter(self._smaller))]


def _all_ours(batch: Sequence[Waiting[Any]]) -> bool:
    return all(one.is_ours() for one in batch)


def _is_settled(answer: asyncio.Future[Settlement]) -> bool:
    return not answer.cancelled() and answer.exception() is None


def _alone(refused: RefusedWhole, others_taken: bool) -> Settlement | Exception:
    return refused.rejected if refused.doubt is None or others_taken else refused.doubt
