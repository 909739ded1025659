"""The partner: a ledger that does not deduplicate, and every way of not answering."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from services.bus.faults import require_ours
from services.bus.lane import Answer, CannotSay, Found, NotFound, Posted, Rejected, Settlement
from services.bus.partner import Outage, Retryable, Unknown
from services.events import PaymentReceived
from tests.simulation.loop import PROCESS
from tests.simulation.world import World

DEADLINE_S, POOL_S, ACTS_WITHIN_S = 2.5, 0.5, 0.9
"""Ours for one request, ours for a place in the pool, the partner's own after it has the request."""
PATIENCE_S = DEADLINE_S + ACTS_WITHIN_S + 0.1
SERVICE = "imt.datapump"
Call = tuple[str, str]


@dataclass(frozen=True)
class Effect:
    """One posting in the partner's books."""

    at: float
    biller: str
    account: str
    guid: str
    content: str


@dataclass(eq=False)
class Request:
    """One request that left.

    Attributes:
        until: until when it may still take effect.
        harmless: the sender was told that it had no effect.
    """

    payment: PaymentReceived
    until: float
    harmless: bool = False


@dataclass
class Temper:
    """What is planted in the partner."""

    refuses: set[str] = field(default_factory=set)
    failing: set[str] = field(default_factory=set)
    ever_failed: set[str] = field(default_factory=set)
    away: set[str] = field(default_factory=set)
    slow: set[str] = field(default_factory=set)


class Partner:
    """Every biller's partner; judges each request as it arrives."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.temper = Temper()
        self.effects: list[Effect] = []
        self.ledger: dict[tuple[str, str], list[Effect]] = defaultdict(list)
        self.requests: dict[tuple[str, str], list[Request]] = defaultdict(list)
        self._running: Counter[tuple[str, str, str]] = Counter()

    # -- what the lane calls ---------------------------------------------------------------------------

    async def deliver(self, payment: PaymentReceived) -> Settlement:
        with self._alone(payment):
            return await self._within_deadline(payment)

    async def ask(self, payment: PaymentReceived) -> Answer:
        with self._alone(payment):
            return await self._asked(payment)

    @contextmanager
    def _alone(self, payment: PaymentReceived) -> Iterator[None]:
        """One process makes one call of an account at a time."""
        process = PROCESS.get()
        running = (process.name if process else "", payment.biller, payment.account)
        self._running[running] += 1
        if self._running[running] > 1:
            self._world.broken(f"two calls of {payment.account} at a time in one process")
        try:
            yield
        finally:
            self._running[running] -= 1

    async def _asked(self, payment: PaymentReceived) -> Answer:
        world = self._world
        await asyncio.sleep(world.a_moment())
        if payment.biller in self.temper.away:
            raise Outage(payment.biller, SERVICE, "away")
        if world.strikes(0.3):
            raise Retryable(payment.biller, SERVICE, "the look-up broke off")
        if world.strikes(0.2):
            return CannotSay("not now")
        answer = self._look_up(payment)
        await asyncio.sleep(world.a_moment() * (1 if world.calm else world.random.choice((1, 1, 1, 60))))
        return answer

    def _look_up(self, payment: PaymentReceived) -> Answer:
        posted = self.ledger[payment.biller, payment.payment_guid]
        self._world.note(f"asked for {payment.payment_guid}: {len(posted)}")
        if not posted:
            for request in self.requests[payment.biller, payment.payment_guid]:
                request.harmless = request.harmless or request.until <= self._world.loop.time()
            return NotFound()
        if posted[0].content != payment.content:
            return CannotSay("it has this id with other content", ever=False)
        return Found(f"R-{payment.payment_guid}")

    # -- one request -----------------------------------------------------------------------------------

    async def _within_deadline(self, payment: PaymentReceived) -> Settlement:
        world, sent = self._world, False
        if world.strikes(0.3):
            await asyncio.sleep(world.random.uniform(0, POOL_S))
        try:
            async with asyncio.timeout(DEADLINE_S):
                await asyncio.sleep(
                    world.a_moment() if not world.strikes(0.3) else world.random.uniform(0, 0.5)
                )
                require_ours()
                sent = True
                return await self._answered(payment)
        except TimeoutError:
            if not sent:
                raise Outage(payment.biller, SERVICE, "no connection", never_sent=True) from None
            raise Unknown(payment.biller, SERVICE, "no answer") from None

    async def _answered(self, payment: PaymentReceived) -> Settlement:
        """Raises what the client would make of this partner's way of answering."""
        request = self._arrived(payment)
        refusal = self._refusal(payment)
        if refusal is not None:
            await asyncio.sleep(self._world.a_moment())
            request.harmless = True
            if isinstance(refusal, Exception):
                raise refusal
            return refusal
        way = self._way(payment)
        return await way(request)

    def _arrived(self, payment: PaymentReceived) -> Request:
        world, at = self._world, self._world.loop.time()
        earlier = self.requests[payment.biller, payment.payment_guid]
        world.note(f"request {payment.payment_guid} {payment.content} of {payment.account}")
        if any(not request.harmless for request in earlier):
            world.broken(f"{payment.payment_guid} was sent again although an earlier request may have acted")
        request = Request(payment, at + ACTS_WITHIN_S)
        earlier.append(request)
        return request

    def _refusal(self, payment: PaymentReceived) -> Settlement | Exception | None:
        world = self._world
        if payment.biller in self.temper.away:
            return Outage(payment.biller, SERVICE, "away")
        if f"{payment.biller}/{payment.account}" in self.temper.failing:
            return Retryable(payment.biller, SERVICE, "this account fails")
        if payment.payment_guid in self.temper.refuses:
            return Rejected("closed_account")
        if world.strikes(0.5):
            return Outage(payment.biller, SERVICE, "answered 503")
        if world.strikes(0.5):
            return Retryable(payment.biller, SERVICE, "answered 429")
        return None

    def _way(self, payment: PaymentReceived) -> Callable[[Request], Awaitable[Settlement]]:
        if payment.biller in self.temper.slow and self._world.random.random() < 0.8:
            return self._slow
        if self._world.strikes(2.0):
            return self._world.random.choice(
                (self._slow, self._silent_after_it, self._late, self._lost, self._reset, self._reset_after_it)
            )
        return self._quick

    async def _quick(self, request: Request) -> Settlement:
        await asyncio.sleep(self._world.a_moment())
        self._act(request)
        await asyncio.sleep(self._world.a_moment())
        return self._yes(request)

    async def _slow(self, request: Request) -> Settlement:
        acts, answers = sorted(self._world.random.uniform(0.1, ACTS_WITHIN_S) for _ in range(2))
        answers *= self._world.random.choice((1.0, 1.0, 2.0))
        self._act_in(acts, request)
        await asyncio.sleep(answers)
        return self._yes(request)

    async def _silent_after_it(self, request: Request) -> Settlement:
        self._act_in(self._world.a_moment(), request)
        await asyncio.sleep(2 * DEADLINE_S)
        raise AssertionError("the deadline comes first")

    async def _late(self, request: Request) -> Settlement:
        self._act_in(self._world.random.uniform(0.5, ACTS_WITHIN_S), request)
        if self._world.random.random() < 0.5:
            await asyncio.sleep(self._world.a_moment())
            raise Unknown(request.payment.biller, SERVICE, "answered 500")
        await asyncio.sleep(2 * DEADLINE_S)
        raise AssertionError("the deadline comes first")

    async def _lost(self, request: Request) -> Settlement:
        del request
        await asyncio.sleep(2 * DEADLINE_S)
        raise AssertionError("the deadline comes first")

    async def _reset(self, request: Request) -> Settlement:
        await asyncio.sleep(self._world.a_moment())
        raise Unknown(request.payment.biller, SERVICE, "reset")

    async def _reset_after_it(self, request: Request) -> Settlement:
        self._act_in(self._world.a_moment(), request)
        await asyncio.sleep(self._world.a_moment() + 0.01)
        raise Unknown(request.payment.biller, SERVICE, "reset")

    def forget(self, payment: PaymentReceived) -> None:
        """The partner has restored a backup from before this payment."""
        self._world.note(f"{payment.payment_guid} is forgotten")
        self.ledger.pop((payment.biller, payment.payment_guid), None)

    # -- the books -------------------------------------------------------------------------------------

    def _act_in(self, seconds: float, request: Request) -> None:
        """The partner goes on whatever becomes of who asked."""
        self._world.loop.later(seconds, self._act, request)

    def _act(self, request: Request) -> None:
        payment = request.payment
        self._world.note(f"effect {payment.payment_guid} {payment.content}")
        effect = Effect(
            self._world.loop.time(), payment.biller, payment.account, payment.payment_guid, payment.content
        )
        self.effects.append(effect)
        books = self.ledger[payment.biller, payment.payment_guid]
        books.append(effect)
        if len(books) > 1:
            self._world.broken(f"{payment.payment_guid} took effect {len(books)} times")

    def _yes(self, request: Request) -> Settlement:
        request.harmless = True
        return Posted(f"R-{request.payment.payment_guid}")
