"""Many events in one call: who goes together, and what each caller is told."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from services.bus import trace
from services.bus.batching import LINGER_S, Answers, Batches, RefusedWhole
from services.bus.faults import NotOurs, Outage, PartnerError, Retryable, Unknown, require_ours, still_ours
from services.bus.lane import Posted, Rejected, Settlement
from services.events import InvoiceIssued
from tests.unit.parts import FakeClock
from tests.unit.test_invoicecloud import invoice

Said = Settlement | Exception


@dataclass
class Partner:
    """Remembers each call by its invoice numbers; answers what it is told, else that it took each."""

    calls: list[list[str]] = field(default_factory=list)
    says: dict[str, Said] = field(default_factory=dict)
    fails: Callable[[list[str]], Exception | None] = lambda _: None
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    async def send(self, events: Sequence[InvoiceIssued]) -> Answers:
        require_ours()
        numbers = [event.invoice_number for event in events]
        self.calls.append(numbers)
        await self.gate.wait()
        if (error := self.fails(numbers)) is not None:
            raise error
        return [self.says.get(number, Posted(number)) for number in numbers]


@dataclass
class Timers:
    """In place of the loop's call_later: nothing is late until the test says so."""

    started: list[tuple[float, asyncio.Handle]] = field(default_factory=list)

    def __call__(self, delay: float, callback: Callable[[], object], /) -> asyncio.Handle:
        handle = asyncio.Handle(callback, (), asyncio.get_running_loop())
        self.started.append((delay, handle))
        return handle

    def fire(self) -> None:
        due, self.started = self.started, []
        for _, handle in due:
            if not handle.cancelled():
                handle._run()


class Post:
    """A lane's callers before a partner."""

    def __init__(self, most: int = 100, most_bytes: int = 10_000, size: int = 1) -> None:
        self.partner, self.timers, self.clock = Partner(), Timers(), FakeClock()
        self.sizes: dict[str, int] = {}
        self.batches: Batches[InvoiceIssued] = Batches(
            self.partner.send,
            clock=self.clock,
            most=most,
            most_bytes=most_bytes,
            size=lambda event: self.sizes.get(event.invoice_number, size),
            later=self.timers,
        )

    async def deliver(self, *numbers: str, **more: Any) -> list[asyncio.Task[Settlement]]:
        """Callers who have all come to the point where they wait."""
        tasks = [
            asyncio.create_task(self.one(replace(invoice(), invoice_number=number), **more))
            for number in numbers
        ]
        await passes()
        return tasks

    def one(
        self, event: InvoiceIssued, *, biller: str = "acme", ours: Callable[[], bool] | None = None
    ) -> Coroutine[Any, Any, Settlement]:
        async def called() -> Settlement:
            still_ours.set(ours)
            return await self.batches(replace(event, biller=biller))

        return called()

    async def told(self, tasks: Sequence[asyncio.Task[Settlement]]) -> list[Said]:
        """What each caller got, once everything that is gathered has gone."""
        for _ in range(20):
            self.timers.fire()
            await passes()
        answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 1)
        assert all(isinstance(answer, Settlement | Exception) for answer in answers)
        return [answer for answer in answers if isinstance(answer, Settlement | Exception)]

    async def settle(self, *numbers: str, **more: Any) -> list[Said]:
        return await self.told(await self.deliver(*numbers, **more))


async def passes() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def numbered(count: int) -> list[str]:
    return [f"N{number}" for number in range(count)]


def unknown() -> Unknown:
    return Unknown("acme", "ic.invoices", "no answer")


async def test_what_comes_together_goes_in_one_call_and_each_has_its_own_answer() -> None:
    post = Post()
    post.partner.says = {"N1": Rejected("refused", "closed"), "N2": unknown()}
    told = await post.settle(*numbered(4))
    assert post.partner.calls == [numbered(4)]
    assert told == [Posted("N0"), Rejected("refused", "closed"), post.partner.says["N2"], Posted("N3")]


async def test_with_nothing_at_the_partner_nobody_waits_for_more() -> None:
    post = Post()
    tasks = await post.deliver("N0")
    assert [delay for delay, _ in post.timers.started] == [0.0]
    assert await post.told(tasks) == [Posted("N0")]


async def test_while_a_batch_is_at_the_partner_the_next_one_waits_a_little() -> None:
    post = Post()
    post.partner.gate.clear()
    first = await post.deliver("N0")
    post.timers.fire()
    await passes()
    second = await post.deliver("N1", "N2")
    assert [delay for delay, _ in post.timers.started] == [LINGER_S]
    assert post.partner.calls == [["N0"]]
    post.timers.fire()
    await passes()
    assert post.partner.calls == [["N0"], ["N1", "N2"]]
    post.partner.gate.set()
    assert await post.told([*first, *second]) == [Posted("N0"), Posted("N1"), Posted("N2")]


async def test_a_full_batch_waits_for_nothing_and_no_call_has_more() -> None:
    post = Post(most=3)
    tasks = await post.deliver(*numbered(7))
    assert post.partner.calls == [["N0", "N1", "N2"], ["N3", "N4", "N5"]]
    assert len(await post.told(tasks)) == 7
    assert post.partner.calls[2:] == [["N6"]]


async def test_no_call_has_more_bytes_than_the_partner_takes() -> None:
    post = Post(most_bytes=100, size=40)
    post.sizes = {"N3": 150}
    await post.settle(*numbered(6))
    assert post.partner.calls == [["N0", "N1"], ["N2"], ["N3"], ["N4", "N5"]]


async def test_no_call_is_of_two_billers() -> None:
    post = Post()
    ours, theirs = await post.deliver("N0", "N1"), await post.deliver("N2", "N3", biller="birch")
    await post.told([*ours, *theirs])
    assert post.partner.calls == [["N0", "N1"], ["N2", "N3"]]


@pytest.mark.parametrize("kind", [Retryable, Unknown, Outage])
async def test_a_fault_of_the_whole_call_is_told_to_each(kind: type[PartnerError]) -> None:
    post = Post()
    post.partner.fails = lambda _: kind("acme", "ic.invoices", "for the test", retry_after=7)
    tasks = await post.deliver(*numbered(3))
    post.clock.move(seconds=2)
    for told in await post.told(tasks):
        assert isinstance(told, kind)
        assert (told.retry_after, told.sent_at) == (7, 2.0)


@pytest.mark.parametrize("bad", [{"N0"}, {"N99"}, {"N37"}, {"N12", "N13"}])
async def test_a_call_refused_whole_is_split_until_the_bad_one_stands_alone(bad: set[str]) -> None:
    post = Post()
    refused = RefusedWhole("refused", "column 7", unknown())
    post.partner.fails = lambda numbers: refused if bad & set(numbers) else None
    told = await post.settle(*numbered(100))
    expected = [
        Rejected("refused", "column 7") if number in bad else Posted(number) for number in numbered(100)
    ]
    assert told == expected
    assert len(post.partner.calls) <= 1 + 2 * 7 * len(bad)


async def test_where_every_call_is_refused_no_event_is_the_bad_one() -> None:
    post = Post()
    post.partner.fails = lambda _: RefusedWhole("refused", "closed today", unknown())
    assert all(isinstance(told, Unknown) for told in await post.settle(*numbered(8)))
    assert len(post.partner.calls) == 15
    post.partner.fails = lambda numbers: (
        RefusedWhole("refused", "column 7", unknown()) if "N3" in numbers else None
    )
    told = await post.settle(*numbered(8))
    assert post.partner.calls[15] == numbered(8)  # none was taken for one that has to go alone
    assert told[3] == Rejected("refused", "column 7")


async def test_words_that_are_about_the_event_reject_it_also_when_all_are_refused() -> None:
    post = Post()
    post.partner.fails = lambda _: RefusedWhole("refused", "locked")
    assert await post.settle("N0", "N1") == [Rejected("refused", "locked")] * 2


async def test_a_fault_of_one_half_is_told_to_that_half() -> None:
    post = Post()
    lost = unknown()
    post.partner.fails = lambda numbers: (
        RefusedWhole("refused", "no") if len(numbers) == 4 else lost if "N0" in numbers else None
    )
    assert await post.settle(*numbered(4)) == [lost, lost, Posted("N2"), Posted("N3")]


async def test_what_is_no_longer_ours_is_left_out() -> None:
    post = Post()
    lost = await post.deliver("N0", ours=lambda: False)
    kept = await post.deliver("N1", ours=lambda: True)
    told = await post.told([*lost, *kept])
    assert isinstance(told[0], NotOurs)
    assert (told[1], post.partner.calls) == (Posted("N1"), [["N1"]])


async def test_one_that_is_lost_right_before_the_first_byte_is_left_out_too() -> None:
    post = Post()
    asked = iter([True, False, True])  # once lost it stays out, whatever is said later
    lost = await post.deliver("N0", ours=lambda: next(asked))
    kept = await post.deliver("N1", "N2", ours=lambda: True)
    told = await post.told([*lost, *kept])
    assert isinstance(told[0], NotOurs)
    assert (told[1:], post.partner.calls) == ([Posted("N1"), Posted("N2")], [["N1", "N2"]])


async def test_a_caller_who_gives_up_breaks_nobody_elses_delivery() -> None:
    post = Post()
    post.partner.gate.clear()
    gathered = await post.deliver(*numbered(3))
    gathered[0].cancel()  # its batch has not gone: nothing of it is sent
    await passes()
    post.timers.fire()
    await passes()
    gathered[1].cancel()  # its batch is at the partner
    post.partner.gate.set()
    assert await post.told(gathered[2:]) == [Posted("N2")]
    assert post.partner.calls == [["N1", "N2"]]
    assert gathered[0].cancelled()
    assert gathered[1].cancelled()


async def test_one_that_breaks_every_call_it_is_in_ends_up_alone() -> None:
    """Nobody knows which one it is: each was looked up, was not there, and goes again."""
    post = Post()
    post.partner.fails = lambda numbers: unknown() if "N5" in numbers else None
    left, rounds = numbered(100), 0
    while len(left) > 1:
        told = dict(zip(left, await post.settle(*left), strict=True))
        left, rounds = [number for number in left if isinstance(told[number], Unknown)], rounds + 1
        assert rounds <= 7
    assert left == ["N5"]
    await post.settle("N5", "N200")
    assert post.partner.calls[-2:] == [["N5"], ["N200"]]


async def test_how_small_a_batch_has_to_be_is_forgotten_with_the_answer() -> None:
    post = Post()
    post.partner.fails = lambda _: unknown()
    await post.settle("N0", "N1")
    post.partner.fails = lambda _: None
    await post.settle("N0", "N1")
    await post.settle("N0", "N1")
    assert post.partner.calls == [["N0", "N1"], ["N0"], ["N1"], ["N0", "N1"]]


async def test_a_fault_of_ours_is_told_to_each() -> None:
    post = Post()
    post.partner.fails = lambda _: KeyError("Success")
    assert all(isinstance(told, KeyError) for told in await post.settle("N0", "N1"))

    async def forgets(events: Sequence[InvoiceIssued]) -> Answers:
        return [Posted(event.invoice_number) for event in events[:-1]]

    short = Batches(forgets, clock=FakeClock(), most=9, most_bytes=9, size=lambda _: 1)
    told = await asyncio.gather(short(invoice()), short(invoice(content="x")), return_exceptions=True)
    assert told[0] == Posted("INV-4711")
    assert isinstance(told[1], ValueError)


async def test_a_call_goes_on_with_the_trace_of_its_first_event() -> None:
    seen = []

    async def send(events: Sequence[InvoiceIssued]) -> Answers:
        seen.append(trace.current.get())
        return [Posted()] * len(events)

    batches = Batches(send, clock=FakeClock(), most=9, most_bytes=9, size=lambda _: 1)
    traces = [trace.new(), trace.new()]

    async def caller(of: trace.Trace) -> None:
        trace.current.set(of)
        await batches(invoice(content=of.span_id))

    await asyncio.gather(*(caller(of) for of in traces))
    assert seen == traces[:1]
