"""A service as one process: a Faust worker that hosts its HTTP intake, lanes, views and clocks."""

import asyncio
import gc
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import faust
import mode
import structlog
import uvicorn
import uvloop
from aiokafka.errors import KafkaError
from aiokafka.partitioner import DefaultPartitioner
from fastapi import APIRouter, FastAPI

from services.bus import log as logging
from services.bus.asyncapi import asyncapi_route
from services.bus.billers import Biller, Billers, load_billers
from services.bus.catalog import REPLAY, Topic, load_catalog
from services.bus.clock import Clock
from services.bus.codec import Codec
from services.bus.connection import Brokers, kafka_of
from services.bus.delivery import Delivery, Limits
from services.bus.heads import BoundedHeads
from services.bus.intake import Check, create_app
from services.bus.lane import Lane
from services.bus.loop_lag import watch_the_loop
from services.bus.membership import Membership
from services.bus.outcomes import OutcomeIndex
from services.bus.own_rights import require_rights
from services.bus.partner import PartnerHttp
from services.bus.pauses import Pauses
from services.bus.place import Place
from services.bus.publisher import NotAcknowledged, Publisher
from services.bus.readiness import Asked
from services.bus.registry import Registry, RegistryAway
from services.bus.secrets import Secrets
from services.bus.settings import Settings
from services.bus.spans import TracedIntake, TracedPartners, TracedPublisher, traced
from services.bus.support import SupportMatrix
from services.bus.table_watch import watch_tables
from services.bus.tables import Table, add_table, faust_client
from services.bus.telemetry import Telemetry, begin
from services.bus.views import View, follow

log = structlog.get_logger()
TICK_S = 1.0
OBJECTS_MADE = 5_000
"""Objects made beyond those given back, until the collector looks for circles among them."""


@dataclass(frozen=True)
class Bus:
    """What every service stands on."""

    settings: Settings
    billers: Billers
    secrets: Secrets
    support: SupportMatrix
    catalog: dict[str, Topic]
    publisher: Publisher
    partners: PartnerHttp
    clock: Clock
    codec: Codec
    telemetry: Telemetry | None = None


@dataclass(frozen=True)
class BillerClock:
    """Something that happens for each biller from time to time, in one replica: the one that owns the
    partition of the biller's key. `every` answers the seconds between two ticks; one that `calls_partner`
    stands still while an operator has paused it by its name, or all of the biller."""

    name: str
    every: Callable[[Biller], float]
    tick: Callable[[Biller], Awaitable[None]]
    calls_partner: bool = True


@dataclass(frozen=True)
class Loop:
    """Something that happens every `every_s` seconds, in every replica."""

    name: str
    every_s: float
    run: Callable[[], Awaitable[None]]


@dataclass(frozen=True, kw_only=True)
class Service:
    """What a service is made of; each `app.py` builds one."""

    name: str
    routers: Sequence[APIRouter] = ()
    lanes: Sequence[Lane[Any]] = ()
    views: Sequence[View[Any]] = ()
    tables: Sequence[Table[Any, Any]] = ()
    clocks: Sequence[BillerClock] = ()
    loops: Sequence[Loop] = ()


Build = Callable[[Bus], Service]


class Host(mode.Service):  # type: ignore[misc]  # mode ships no types
    """Runs a service's parts beside Faust's tables; the process ends with the first that fails."""

    def __init__(self, bus: Bus, service: Service) -> None:
        super().__init__()
        self.bus = bus
        self.service = service
        self.pauses = Pauses()
        self.views = [*service.views, self.pauses]
        self.lanes = [self._delivery(lane) for lane in service.lanes]
        self._due: dict[tuple[str, str], float] = {}
        self._running: list[asyncio.Task[None]] = []
        self.tables: faust.App | None = None
        self.checks = self._checks()
        self.server = self._server()

    def _delivery(self, lane: Lane[Any]) -> Delivery[Any]:
        settings, kafka = self.bus.settings, kafka_of(self.bus.settings, self.bus.secrets)
        topic = self.bus.catalog[lane.reads.TOPIC]
        session_s = settings.session_timeout_ms / 1000
        telemetry = self.bus.telemetry
        return Delivery(
            lane if telemetry is None else traced(lane, telemetry.tracer),
            broker=Membership(
                kafka,
                lane.group,
                [topic.name, topic.name + REPLAY] if topic.replay else [topic.name],
                self.bus.clock,
                session_s=session_s,
                margin_s=session_s / 6,
            ),
            codec=self.bus.codec,
            publisher=self.bus.publisher,
            clock=self.bus.clock,
            limits=Limits(settings.in_flight, settings.grace_s),
            index=self._index(lane, kafka),
            billers=self.bus.billers.keys(),
            retention_s=topic.kept_s(),
            pauses=self.pauses,
        )

    def _index(self, lane: Lane[Any], kafka: Brokers) -> OutcomeIndex | None:
        if lane.writes is None:
            return None
        topic = lane.reads.TOPIC.rsplit(".", 2)[0] + ".outcome.v1"
        path = self.bus.settings.state / self.service.name / f"{lane.name}.sqlite"
        return OutcomeIndex(path, kafka, topic, self.bus.codec).open()

    async def on_start(self) -> None:
        await self._guard(self._start_parts())

    async def _start_parts(self) -> None:
        kafka = kafka_of(self.bus.settings, self.bus.secrets)
        await self.bus.partners.__aenter__()
        await self.bus.codec.start()
        await self.bus.publisher.start()
        self.add_future(self._guard(self._serve()))
        for view in self.views:
            self.add_future(self._guard(follow(view, kafka, self.bus.codec)))
        self._running = [asyncio.ensure_future(self._guard(self._run(lane))) for lane in self.lanes]
        for clock in self.service.clocks:
            self.add_future(self._guard(self._tick(clock)))
        self.add_future(self._guard(watch_the_loop(self.bus.clock)))
        for loop in self.service.loops:
            self.add_future(self._guard(self._repeat(loop)))
        if self.tables is not None:
            topics = [table.reads.TOPIC for table in self.service.tables]
            watch = watch_tables(self.tables, topics, kafka, self.bus.clock)
            self.add_future(self._guard(watch))

    async def on_stop(self) -> None:
        self.server.should_exit = True
        for lane in self.lanes:
            lane.stop()
        if self._running:
            await asyncio.wait(self._running, timeout=self.bus.settings.grace_s + 5)
        await self.bus.publisher.stop()
        await self.bus.partners.__aexit__(None, None, None)
        self.bus.codec.close()
        if self.bus.telemetry is not None:
            await self.bus.telemetry.stop()

    async def _guard(self, work: Awaitable[None]) -> None:
        """A part that fails ends the process: half a service would look alive."""
        try:
            await work
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            log.critical("part_failed", exc_info=error)
            os._exit(70)

    # -- parts -----------------------------------------------------------------------------------------

    def _server(self) -> uvicorn.Server:
        app = http_side(self.bus, self.service, self.checks)
        return uvicorn.Server(
            uvicorn.Config(
                app,
                host=self.bus.settings.host,
                port=self.bus.settings.listen_port,
                log_config=None,
                access_log=False,
                http=BoundedHeads,
                lifespan="off",
                timeout_keep_alive=30,
            )
        )

    async def _serve(self) -> None:
        await self.server._serve()  # serve() would take SIGTERM away from the worker

    async def _run(self, lane: Delivery[Any]) -> None:
        await self._views_ready()
        await lane.run()

    async def _views_ready(self) -> None:
        while not all(view.ready for view in self.views):  # noqa: ASYNC110 - views have no event
            await asyncio.sleep(0.05)

    async def _tick(self, clock: BillerClock) -> None:
        await self._views_ready()
        while True:
            now = self.bus.clock.monotonic()
            for biller in self.bus.billers.values():
                due = self._due.get((clock.name, biller.slug), 0.0)
                if now >= due and self.owns(biller.slug) and not self._stands_still(clock, biller.slug):
                    self._due[clock.name, biller.slug] = now + clock.every(biller)
                    await self._meets(clock.tick(biller), clock.name)
            await asyncio.sleep(TICK_S / 4)

    def _stands_still(self, clock: BillerClock, biller: str) -> bool:
        return clock.calls_partner and self.pauses.why(biller, clock.name) is not None

    async def _repeat(self, loop: Loop) -> None:
        while True:
            await self._meets(loop.run(), loop.name)
            await asyncio.sleep(loop.every_s)

    async def _meets(self, work: Awaitable[None], name: str) -> None:
        """One tick; a broker that is away is waited for until the next one, the intake goes on answering."""
        try:
            await work
        except (KafkaError, NotAcknowledged, LookupError, RegistryAway) as error:
            log.warning("tick_put_off", name=name, error=type(error).__name__)

    # -- readiness -------------------------------------------------------------------------------------

    def owns(self, key: str) -> bool:
        """Whether this replica owns the partition of a key, by its first lane's assignment."""
        numbers = list(range(self.bus.catalog[self.lanes[0].lane.reads.TOPIC].partitions))
        return self.lanes[0].owns(DefaultPartitioner()(key.encode(), numbers, numbers))

    def _checks(self) -> dict[str, Check]:
        checks: dict[str, Check] = {
            "broker": Asked(self.bus.publisher.answers, self.bus.clock),
            "registry": Asked(self.bus.codec.answers, self.bus.clock),
        }
        for view in self.views:
            checks[f"view {view.reads.TOPIC}"] = lambda view=view: view.ready  # type: ignore[misc]  # bound now
        for lane in self.lanes:
            checks[f"lane {lane.lane.name}"] = lambda lane=lane: not lane.not_ready  # type: ignore[misc]  # bound now
        return checks


def http_side(bus: Bus, service: Service, ready: Mapping[str, Check] | None = None) -> FastAPI:
    """The service's HTTP application; `ready` is what /readyz asks, by name."""
    asyncapi = asyncapi_route(service.name, bus.catalog, bus.settings.schemas)
    app = create_app(service.name, bus, [*service.routers, asyncapi], ready)
    if bus.telemetry is not None:
        app.add_middleware(TracedIntake, tracer=bus.telemetry.tracer)
    return app


class TablesWorker(faust.Worker):  # type: ignore[misc]  # faust ships no types
    """Faust's worker, with the logs as we have configured them."""

    def _setup_logging(self) -> None:
        self.spinner = None  # it writes terminal escapes into the log


class PlainWorker(mode.Worker):  # type: ignore[misc]  # mode ships no types
    """The same life cycle without tables: a Faust app that subscribes to nothing does not start."""

    def _setup_logging(self) -> None:
        return


def open_bus(settings: Settings) -> Bus:
    """Reads all configuration; raises ConfigurationError with everything that is wrong in it."""
    clock = Clock()
    secrets = Secrets(settings.secrets, clock)
    support = SupportMatrix.load(settings.partners / "support.yaml")
    billers = load_billers(settings.billers, secrets, support)
    catalog = load_catalog(settings.schemas)
    codec = Codec({name: topic.schema for name, topic in catalog.items()}, Registry(settings.registry))
    plain_http = [biller.slug for biller in billers.values() if biller.plain_http]
    kafka, limit = kafka_of(settings, secrets), settings.partner_connections
    source = f"billbus/{settings.service}"
    telemetry = begin(settings.service)
    if telemetry is None:
        publisher = Publisher(kafka, source, codec, clock)
        partners = PartnerHttp(limit=limit, plain_http=plain_http)
    else:
        publisher = TracedPublisher(telemetry.tracer, kafka, source, codec, clock)
        partners = TracedPartners(telemetry.tracer, limit=limit, plain_http=plain_http)
    return Bus(settings, billers, secrets, support, catalog, publisher, partners, clock, codec, telemetry)


def require_answers(settings: Settings) -> None:
    """Returns when broker and registry answer; raises Unreachable, one sentence that says which does not."""
    with Place(kafka_of(settings), settings.registry) as place:
        place.topics()
        place.ask_registry(place.registry.get_subjects)


def run(build: Build, settings: Settings) -> None:
    """Runs the service until SIGTERM or SIGINT.

    Raises, before anything starts, ConfigurationError, also for a right that is missing on the broker, and
    Unreachable where broker or registry is away.
    """
    bus = open_bus(settings)
    require_answers(settings)
    require_rights(settings, bus.catalog)
    logging.configure(settings.service, settings.log_level)
    uvloop.install()  # Faust makes its loops by the policy
    service = build(bus)
    host = Host(bus, service)
    quieten_the_collector()
    quiet = {"redirect_stdouts": False, "quiet": True}
    if not service.tables:
        PlainWorker(host, **quiet).execute_from_commandline()
    app = faust_app(settings)
    for table in service.tables:
        add_table(app, table, bus.catalog[table.into.TOPIC].partitions, bus.codec, bus.publisher)
    host.checks["tables"] = lambda: recovered(app)
    host.tables = app
    TablesWorker(app, host, **quiet).execute_from_commandline()


def quieten_the_collector() -> None:
    """Looks for circular garbage rarely, and never in what is there from the start.

    Events, requests and records make next to none, and 700 objects, Python's own threshold, are one batch of
    a few hundred: looking so often took a sixth of the CPU.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS_MADE, 20, 20)


def recovered(app: faust.App) -> bool:
    """Whether the tables have been read back from their topics."""
    return bool(app.started and not app.rebalancing and app.tables.recovery.completed.is_set())


def faust_app(settings: Settings) -> faust.App:
    """The Faust app of a service: life cycle and tables; the settings that held are in parts of the docs."""
    folder = settings.state / settings.service / "faust"
    folder.mkdir(parents=True, exist_ok=True)
    return faust.App(
        f"billbus.{settings.service}.tables",
        **faust_client(kafka_of(settings)),
        datadir=folder,
        store="memory://",
        web_enabled=False,
        topic_disable_leader=True,
        topic_allow_declare=False,
        broker_commit_interval=0.5,
        broker_session_timeout=settings.session_timeout_ms / 1000,
        broker_heartbeat_interval=settings.session_timeout_ms / 4000,
        broker_request_timeout=40,
        stream_buffer_maxsize=256,
        stream_wait_empty=True,
        producer_linger=0.005,
        autodiscover=False,
    )
