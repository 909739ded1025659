"""How billbus is now: services, lanes, billers, pauses, dead letters, and what of it needs a person."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from confluent_kafka import KafkaException

from services.bus.biller import Biller
from services.bus.billers import read_biller
from services.bus.business_day import business_day, cut_off
from services.bus.catalog import Topic
from services.bus.clock import Clock
from services.bus.connection import kafka_of
from services.bus.pauses import ALL, Pauses
from services.bus.place import Unreachable
from services.bus.secrets import Secrets
from services.bus.settings import ConfigurationError, Settings
from services.bus.support import SupportMatrix
from services.events import BatchClosed, PausedLane
from services.operations.status_broker import BrokerState, DeadLetters, LaneLag, connected
from services.operations.status_facts import Facts, read_facts
from services.operations.status_parked import Unread
from services.operations.status_services import Measured, Replica, ask_services, together

NOTHING = BrokerState(lanes=(), dead=(), missing=())
CountParked = Callable[[], Awaitable[Mapping[str, int]]]
"""How many deliveries are parked now, by biller."""


@dataclass(frozen=True, kw_only=True)
class BillerNow:
    """One biller. What is None is not known: `parked` where nobody counted, `polled` where no service said,
    `batch` where none was closed in the last days; `away` are lanes whose partner is taken to be away."""

    biller: Biller
    next_cut_off: datetime
    batch: BatchClosed | None
    polled: datetime | None
    parked: int | None
    away: tuple[str, ...]
    paused: tuple[PausedLane, ...]


@dataclass(frozen=True, kw_only=True)
class Status:
    """One look at everything.

    `at` is its instant (UTC). `away` says why the broker, or the registry, did not answer ('' where they
    did): then `lanes`, `dead` or `paused` are empty. `parked_since_start` is True where what is parked was
    counted by the services since they began, not read from the outcomes.
    """

    at: datetime
    replicas: tuple[Replica, ...]
    measured: Measured
    lanes: tuple[LaneLag, ...]
    dead: tuple[DeadLetters, ...]
    missing: tuple[str, ...]
    billers: tuple[BillerNow, ...]
    paused: tuple[tuple[str, PausedLane], ...]
    away: str
    problems: tuple[str, ...]
    parked_since_start: bool


@dataclass(frozen=True, kw_only=True)
class _Bus:
    """What broker and registry said, or why they did not."""

    state: BrokerState = NOTHING
    facts: Facts | None = None
    parked: Mapping[str, int] | None = None
    away: str = ""


async def look(
    settings: Settings, catalog: Mapping[str, Topic], clock: Clock, count_parked: CountParked | None = None
) -> Status:
    """Asks services, broker and bus side by side; what does not answer is said in it, never raised.

    Without `count_parked` the services' own counts stand in for it.
    """
    billers, problems = read_billers(settings)
    # in a loop of its own: what blocks this one for a moment must not pass for a service that does not answer
    asked = asyncio.to_thread(asyncio.run, ask_services(settings.service_addresses))
    replicas, bus = await asyncio.gather(asked, _ask_bus(settings, catalog, clock, count_parked))
    return assemble(clock.now(), billers, replicas, bus.state, bus.facts, bus.parked, bus.away, problems)


def read_billers(settings: Settings) -> tuple[list[Biller], list[str]]:
    """The billers by their files alone, and what is wrong with the others; secrets are doctor's."""
    support, billers, problems = SupportMatrix.load(settings.partners / "support.yaml"), [], []
    for path in sorted(settings.billers.glob("*.yaml")):
        biller, wrong = read_biller(path, Secrets(), support)
        if biller is not None:
            billers.append(biller)
        else:
            problems.append(f"the file of {path.stem} cannot be read: {wrong[0] if wrong else 'empty'}")
    return billers, problems


async def _ask_bus(
    settings: Settings, catalog: Mapping[str, Topic], clock: Clock, count_parked: CountParked | None
) -> _Bus:
    try:
        async with connected(kafka_of(settings)) as broker:
            state, facts, parked = await asyncio.gather(
                broker.look(catalog), _facts(settings, catalog, clock), _parked(count_parked)
            )
    except Unreachable as error:
        return _Bus(away=str(error))
    if isinstance(facts, Facts):
        return _Bus(state=state, facts=facts, parked=parked)
    return _Bus(state=state, parked=parked, away=facts)


async def _facts(settings: Settings, catalog: Mapping[str, Topic], clock: Clock) -> Facts | str:
    """Pauses and batches, or why they could not be read."""
    try:
        return await read_facts(settings, catalog, clock)
    except (Unreachable, ConfigurationError) as error:
        return str(error)
    except KafkaException as error:
        return f"Kafka said no: {error.args[0].str()}"


async def _parked(count: CountParked | None) -> Mapping[str, int] | None:
    try:
        return await count() if count is not None else None
    except (Unread, Unreachable, ConfigurationError, KafkaException):
        return None


def assemble(
    now: datetime,
    billers: Sequence[Biller],
    replicas: Sequence[Replica],
    state: BrokerState,
    facts: Facts | None,
    parked: Mapping[str, int] | None,
    away: str,
    problems: Sequence[str],
) -> Status:
    """Puts together what was learned; pure."""
    measured = together(replicas)
    pauses = facts.pauses if facts is not None else Pauses()
    batches = facts.batches if facts is not None else {}
    answered = any(replica.state != "no answer" for replica in replicas)
    counted = measured.parked if parked is None and answered else parked
    return Status(
        at=now,
        replicas=tuple(replicas),
        measured=measured,
        lanes=state.lanes,
        dead=state.dead,
        missing=state.missing,
        billers=tuple(
            BillerNow(
                biller=biller,
                next_cut_off=cut_off(biller, business_day(biller, now)),
                batch=batches.get(biller.slug),
                polled=measured.polled.get(biller.slug),
                parked=None if counted is None else counted.get(biller.slug, 0),
                away=tuple(sorted(lane for lane, slug in measured.breakers if slug == biller.slug)),
                paused=pauses.of(biller.slug),
            )
            for biller in billers
        ),
        paused=tuple(
            (slug, pause) for slug in (ALL, *(b.slug for b in billers)) for pause in pauses.of(slug)
        ),
        away=away,
        problems=tuple(problems),
        parked_since_start=parked is None,
    )


def seconds_behind(lag: LaneLag, now: datetime) -> float | None:
    """The age of the lane's oldest unsettled record; 0 where it has none, None where it is not known."""
    if not lag.heads:
        return 0.0
    known = [head.at for head in lag.heads if head.at is not None]
    return max(0.0, (now - min(known)).total_seconds()) if known else None


def due_batch(now: BillerNow, at: datetime) -> datetime | None:
    """The cut-off whose batch should have been closed by now and was not; None where none is due."""
    if now.batch is None:
        return None
    ended = cut_off(now.biller, now.batch.batch_day + timedelta(days=1))
    return ended if ended <= at else None
