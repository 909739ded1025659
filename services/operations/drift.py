"""Where an account's enrolment differs: InvoiceCloud's, IMT's, and what we applied last.

The accounts and what we hold come from the compacted topics, read once. Both partners are then asked about
each account: a few at a time, and no more often than the operator allows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeVar

from services.bus.biller import Biller
from services.bus.billers import Billers
from services.bus.catalog import load_catalog
from services.bus.clock import Clock
from services.bus.codec import Codec
from services.bus.connection import kafka_of
from services.bus.partitioning import place_of
from services.bus.partner import PartnerError, PartnerHttp, Retryable
from services.bus.place import Place, Unreachable
from services.bus.registry import Registry, RegistryAway
from services.bus.secrets import Secrets
from services.bus.settings import Settings
from services.bus.wire import load_wire
from services.events import AccountCurrent, EnrollmentCurrent, Event
from services.invoices.invoicecloud import InvoiceCloud, Viewed, load_contract
from services.operations.drift_book import Drift, DriftBook, Enrolled
from services.operations.events_of import events_of
from services.operations.topic_reader import TopicReader
from services.settings.imt import ImtSettings, Standing

T = TypeVar("T")
Told = Callable[[int, int | None], None]
"""Told how many accounts are compared, of how many in all."""
INDICATORS = ("autopay", "paperless")
ACCOUNTS_AT_ONCE = 4
TRIES, PAUSE_S = 3, 0.5
MOST_FAILURES = 5
"""So many accounts in a row for which a partner gives no answer mean that it is away."""
BEGINNING = datetime.fromtimestamp(0, UTC)


class AtImt(Protocol):
    async def read_all(self, biller: str, number: str) -> dict[str, Standing]: ...


class AtIc(Protocol):
    async def view(self, biller_slug: str, invoice_number: str) -> Viewed | None: ...


class Rate:
    """At most so many calls a second, evenly."""

    def __init__(self, per_second: float, clock: Clock) -> None:
        self._step = 1 / per_second
        self._clock = clock
        self._next = 0.0

    async def turn(self) -> None:
        """Returns when the next call may be made."""
        now = self._clock.monotonic()
        self._next = max(self._next, now) + self._step
        await asyncio.sleep(self._next - self._step - now)


@dataclass(frozen=True)
class Sides:
    """All that is needed to compare a biller's accounts."""

    settings: Settings
    biller: Biller
    place: Place
    codec: Codec
    clock: Clock
    imt: AtImt
    ic: AtIc
    book: DriftBook
    rate: Rate

    def ours(self, key: bytes) -> bool:
        """Whether a record's key is of the biller."""
        return key.startswith(f"{self.biller.slug}/".encode())


@dataclass(frozen=True, slots=True)
class Compared:
    """How far it came: accounts compared, those for which a partner gave no answer, and why not."""

    accounts: int
    unasked: int = 0
    reason: str | None = None


@asynccontextmanager
async def comparing(
    settings: Settings, biller: Biller, clock: Clock, *, per_second: float
) -> AsyncIterator[Sides]:
    """Opens both partners, the bus and a book; raises Unreachable, and ConfigurationError without secrets."""
    catalog, secrets = load_catalog(settings.schemas), Secrets(settings.secrets)
    for name in (biller.imt.token, biller.invoice_cloud.web_service_key):
        secrets.get(name)  # said at once, and not by each of the questions that run side by side
    codec = Codec({name: topic.schema for name, topic in catalog.items()}, Registry(settings.registry))
    billers, plain = Billers({biller.slug: biller}), [biller.slug] if biller.plain_http else []
    with TemporaryDirectory(prefix="billbus-drift-") as folder:
        try:
            async with PartnerHttp(limit=ACCOUNTS_AT_ONCE, plain_http=plain) as http:
                with (
                    Place(kafka_of(settings), settings.registry) as place,
                    DriftBook(Path(folder) / "book") as book,
                ):
                    yield Sides(
                        settings=settings,
                        biller=biller,
                        place=place,
                        codec=codec,
                        clock=clock,
                        imt=ImtSettings(http, billers, secrets, load_wire(settings.schemas).imt),
                        ic=InvoiceCloud(http, billers, secrets, *load_contract(settings.partners)),
                        book=book,
                        rate=Rate(per_second, clock),
                    )
        except RegistryAway as error:
            raise Unreachable(f"The schema registry does not answer: {error}") from None
        finally:
            codec.close()


async def compare(sides: Sides, account: str, told: Told) -> Compared:
    """Enters every drift of the biller's accounts, or of one, into the book."""
    await _read_ours(sides, AccountCurrent.TOPIC, account)
    await _read_ours(sides, EnrollmentCurrent.TOPIC, account)
    work, total = sides.book.accounts(), sides.book.count()
    done = unasked = in_a_row = 0
    reason: str | None = None

    async def next_ones() -> None:
        nonlocal done, unasked, in_a_row, reason
        for each in work:
            try:
                await compare_one(sides, each)
                in_a_row = 0
            except PartnerError as error:
                unasked, in_a_row, reason = unasked + 1, in_a_row + 1, f"{error.service}: {error.reason}"
            done += 1
            told(done, total)
            if in_a_row >= MOST_FAILURES:
                return

    async with asyncio.TaskGroup() as group:
        for _ in range(ACCOUNTS_AT_ONCE):
            group.create_task(next_ones())
    return Compared(done - unasked, unasked + total - done, reason)


async def _read_ours(sides: Sides, topic: str, account: str) -> None:
    """One of the compacted topics into the book; of a single account only its own partition."""
    with TopicReader(sides.place, topic, sides.clock) as reader:
        ends = reader.ends()
        begins = reader.offsets_at(BEGINNING, ends)
        key = f"{sides.biller.slug}/{account}".encode()
        if account:
            begins = {number: begins[number] for number in [place_of(key, len(ends))]}
        reader.read(begins, ends)
        wanted = (lambda other: other == key) if account else sides.ours
        async for record, event in events_of(reader, sides.codec, wanted):
            _enter(sides.book, record.key().decode(errors="replace").partition("/")[2], event, topic)


def _enter(book: DriftBook, account: str, event: Event | None, topic: str) -> None:
    if topic == AccountCurrent.TOPIC:
        book.account(account, event if isinstance(event, AccountCurrent) else None)
    else:
        book.enrolment(account, event if isinstance(event, EnrollmentCurrent) else None)


async def compare_one(sides: Sides, account: Enrolled) -> None:
    """Asks both partners about one account; raises PartnerError after TRIES."""
    imt: dict[str, Mapping[str, Standing]] = {}
    for number in account.numbers:
        imt[number] = await patiently(sides, partial(sides.imt.read_all, sides.biller.slug, number))
    viewed = None
    if account.invoice is not None:
        viewed = await patiently(sides, partial(sides.ic.view, sides.biller.slug, account.invoice))
    ic = {"autopay": viewed.autopay, "paperless": viewed.paperless} if viewed else {}
    for drift, rank in drifts_of(account, imt, ic):
        sides.book.found(drift, rank)


def drifts_of(
    account: Enrolled, imt: Mapping[str, Mapping[str, Standing]], ic: Mapping[str, bool | None]
) -> Iterator[tuple[Drift, str]]:
    """Where the three differ, with the rank of what we applied. What IMT never got counts as off there."""
    for indicator in INDICATORS:
        at_ic, ours = ic.get(indicator), account.ours(indicator)
        at_imt = {number: standing.get(indicator) for number, standing in imt.items()}
        stale = False
        for applied in account.applied:
            there = at_imt.get(applied.number)
            value = there.value if there else False
            if applied.indicator != indicator or value == applied.value:
                continue
            against_us = at_ic is not None and at_ic != ours and at_ic == value
            stale = stale or against_us
            drift = Drift(
                kind="ours" if against_us else "imt",
                account=account.account,
                number=applied.number,
                indicator=indicator,
                ours=applied.value,
                imt=value,
                ic=at_ic,
                ours_since=since(applied.rank),
                imt_since=there.applied_at if there else None,
            )
            yield drift, applied.rank
        on_at_imt = any(each.value for each in at_imt.values() if each)
        if at_ic is None or stale or at_ic == (on_at_imt if ours is None else ours):
            continue
        ranks = [each.rank for each in account.applied if each.indicator == indicator]
        yield (
            Drift(
                kind="never told" if ours is None else "ic",
                account=account.account,
                number=account.account,
                indicator=indicator,
                ours=ours,
                imt=on_at_imt,
                ic=at_ic,
                ours_since=since(max(ranks)) if ranks else None,
            ),
            "",
        )


def since(rank: str) -> datetime | None:
    """The instant of a change in its rank."""
    millis = rank.partition("/")[0]
    return datetime.fromtimestamp(int(millis) / 1000, UTC) if millis.isdecimal() else None


async def patiently(sides: Sides, ask: Callable[[], Awaitable[T]]) -> T:
    """The answer to a question that may be put again; raises PartnerError after TRIES."""
    for attempt in range(1, TRIES):
        await sides.rate.turn()
        try:
            return await ask()
        except Retryable:
            await asyncio.sleep(PAUSE_S * attempt)
    await sides.rate.turn()
    return await ask()
