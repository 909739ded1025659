"""What a status is put together from, what of it needs a person, and how it reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from io import StringIO
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from aiokafka import TopicPartition
from rich.console import Console

from services.bus.catalog import load_catalog
from services.bus.pauses import ALL, Pauses
from services.bus.progress import fresh_metadata
from services.bus.settings import ROOT, load_settings, parse_addresses
from services.cli.status_screen import as_object, screen
from services.events import BatchClosed, PauseCurrent, PausedLane
from services.operations.status import NOTHING, Status, assemble, seconds_behind
from services.operations.status_broker import BrokerState, Connected, DeadLetters, Head, LaneLag
from services.operations.status_facts import Facts
from services.operations.status_needs import needs_of, span
from services.operations.status_services import Replica, ask_services, measured_of, samples_of
from tests.unit.parts import NOON, a_biller

CATALOG = load_catalog(ROOT / "schemas")
BILLERS = [a_biller("acme"), a_biller("birch")]
POST, RECEIVED = "payments.post", "billing.payment.received.v1"
METRICS = """# HELP billbus_breaker_open 1 while away
# TYPE billbus_breaker_open gauge
billbus_breaker_open{biller="acme",lane="payments.post"} 1.0
billbus_breaker_open{biller="birch",lane="payments.post"} 0.0
# TYPE billbus_lane_halted gauge
billbus_lane_halted{lane="payments.post"} 2.0
# TYPE billbus_lane_settled_total counter
billbus_lane_settled_total{biller="acme",lane="payments.post",state="parked"} 3.0
billbus_lane_settled_total{biller="acme",lane="payments.post",state="posted"} 90.0
# TYPE billbus_poll_ended_time_seconds gauge
billbus_poll_ended_time_seconds{biller="acme",result="whole"} 1.7e9
billbus_poll_ended_time_seconds{biller="acme",result="failed"} 1.8e9
"""


def replica(service: str = "payments", text: str = METRICS, **told: Any) -> Replica:
    measured = measured_of(samples_of(text))
    made: dict[str, Any] = {"address": "h:1", "state": "ready", "measured": measured} | told
    return Replica(service=service, **made)


def lag(*heads: Head, **told: Any) -> LaneLag:
    made: dict[str, Any] = {"live": len(heads), "replay": 0, "cursors": 0, "behind_cursors": 0} | told
    return LaneLag(lane=POST, heads=heads, **made)


def head(minutes: float, biller: str = "acme") -> Head:
    at = NOON - timedelta(minutes=minutes)
    return Head(topic=RECEIVED, partition=3, offset=7, at=at, biller=biller)


def paused(lane: str = ALL, hours: float = 1, biller: str = "acme") -> PauseCurrent:
    since = NOON - timedelta(hours=hours)
    pause = PausedLane(lane=lane, operator="jdoe", reason="IMT's\x1b[31m maintenance", since=since)
    return PauseCurrent(biller=biller, paused=(pause,), updated_at=since)


def batch(day: date, biller: str = "acme") -> BatchClosed:
    return BatchClosed(
        biller=biller,
        batch_day=day,
        opened_at=NOON,
        closed_at=NOON,
        count=12,
        amount=Decimal("1234.00"),
        convenience_fee=Decimal("0.00"),
        totals=(),
        agents=(),
        declined=0,
        repeats=0,
        ranges=(),
        rule="received_by_cut_off",
    )


def status(
    *replicas: Replica,
    lanes: Sequence[LaneLag] = (),
    dead: Sequence[DeadLetters] = (),
    pauses: Sequence[PauseCurrent] = (),
    batches: Mapping[str, BatchClosed] | None = None,
    parked: Mapping[str, int] | None = None,
    away: str = "",
    now: datetime = NOON,
) -> Status:
    kept = Pauses()
    for current in pauses:
        kept.take(current)
    state = BrokerState(lanes=tuple(lanes), dead=tuple(dead), missing=()) if not away else NOTHING
    facts = Facts(pauses=kept, batches=batches or {})
    return assemble(now, BILLERS, replicas, state, facts, parked or {}, away, [])


def said(found: Status) -> list[str]:
    return [need.what for need in needs_of(found)]


# -- the services --------------------------------------------------------------------------------------


def test_metrics_say_breakers_halted_partitions_what_is_parked_and_the_last_good_poll() -> None:
    found = measured_of(samples_of(METRICS))
    assert found.breakers == {("payments.post", "acme")}
    assert (found.halted, found.parked) == ({"payments.post": 2}, {"acme": 3})
    assert found.polled["acme"].timestamp() == 1.7e9


def test_replicas_add_up_and_a_breaker_of_one_counts() -> None:
    found = status(replica(), replica("payments", METRICS.replace("acme", "birch"))).measured
    assert found.breakers == {(POST, "acme"), (POST, "birch")}
    assert (found.halted, found.parked) == ({POST: 4}, {"acme": 3, "birch": 3})


def answer(request: httpx.Request) -> httpx.Response:
    """A replica by its port: 1 is well, 2 lacks something, nobody listens at 3, 4 is a proxy."""
    port, path = request.url.port, request.url.path
    if port == 3:
        raise httpx.ConnectError("refused")
    if path == "/metrics":
        return httpx.Response(200, text=METRICS if port == 1 else "billbus_lane_halted{ at all")
    if port == 2:
        return httpx.Response(503, json={"missing": ["broker", "lane payments.post"]})
    return httpx.Response(200 if port == 1 else 502, text="<html>")


async def test_each_address_is_asked_and_one_that_fails_is_said_and_never_raised() -> None:
    addresses = {"payments": [f"http://127.0.0.1:{port}" for port in (1, 2, 3, 4)]}
    found = await ask_services(addresses, httpx.MockTransport(answer))
    unread = "its metrics cannot be read"
    assert [(each.state, each.why) for each in found] == [
        ("ready", ""),
        ("not ready", f"broker, lane payments.post; {unread}"),
        ("no answer", "nobody listens there"),
        ("not ready", f"/readyz answers 502; {unread}"),
    ]
    assert found[0].measured.parked == {"acme": 3}


def test_addresses_are_by_service_several_of_one_are_replicas_and_the_rest_have_their_ports() -> None:
    assert parse_addresses("payments=http://a:1, payments=https://b/x") == {
        "payments": ("http://a:1", "https://b/x")
    }
    found = load_settings(services="bills=http://bills:8080").service_addresses
    assert found["bills"] == ("http://bills:8080",)
    assert found["payments"] == ("http://127.0.0.1:18103",)
    for wrong in ("bill=http://x", "bills", "bills=x:1", "sandbox=http://x"):
        with pytest.raises(ValueError, match="write "):
            parse_addresses(wrong)


# -- the broker ----------------------------------------------------------------------------------------


class FakeBroker:
    """Consumer and admin client at once: every topic has one partition, from 0 to its end."""

    def __init__(self, ends: Mapping[str, int], groups: Mapping[str, Mapping[str, tuple[int, str]]]) -> None:
        self.ends = ends
        self.groups = groups
        self._client = self
        self._at: dict[TopicPartition, int] = {}

    async def set_topics(self, _: object) -> None: ...

    def partitions_for_topic(self, name: str) -> set[int] | None:
        return {0} if name in self.ends else None

    async def end_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return {p: self.ends[p.topic] for p in partitions}

    async def beginning_offsets(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(partitions, 0)

    async def list_consumer_groups(self) -> list[tuple[str, str]]:
        return [(name, "consumer") for name in self.groups]

    async def list_consumer_group_offsets(
        self, group: str, partitions: list[TopicPartition] | None = None
    ) -> dict[TopicPartition, Any]:
        stored = self.groups.get(group, {})
        asked = [TopicPartition(name, 0) for name in stored] if partitions is None else partitions
        found = {p: stored.get(p.topic, (-1, "")) for p in asked}
        return {p: SimpleNamespace(offset=offset, metadata=text) for p, (offset, text) in found.items()}

    def assign(self, partitions: Sequence[TopicPartition]) -> None:
        self._at = dict.fromkeys(partitions, 0)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._at[partition] = offset

    def pause(self, _: TopicPartition) -> None: ...

    async def getmany(self, *partitions: TopicPartition, **_: Any) -> dict[TopicPartition, Any]:
        """The record at offset n was taken n minutes after noon."""
        return {p: [self._record(self._at[p])] for p in partitions}

    def _record(self, offset: int) -> Any:
        at = (NOON + timedelta(minutes=offset)).timestamp() * 1000
        return SimpleNamespace(timestamp=at, key=b"birch/0001")


async def test_a_lane_is_behind_by_its_commits_its_replay_and_its_open_cursors() -> None:
    every = [*CATALOG, *(f"{name}{suffix}" for name in CATALOG for suffix in (".replay", ".dlq"))]
    ends = dict.fromkeys(every, 0) | {RECEIVED: 100, f"{RECEIVED}.replay": 10, f"{RECEIVED}.dlq": 3}
    main = {RECEIVED: (90, fresh_metadata()), f"{RECEIVED}.replay": (6, fresh_metadata())}
    groups = {"billbus.payments.post": main, "billbus.payments.post.birch": {RECEIVED: (20, "")}}
    fake: Any = FakeBroker(ends, groups)
    found = await Connected(fake, fake).look(CATALOG)
    post = next(each for each in found.lanes if each.lane == POST)
    assert (post.live, post.replay, post.cursors, post.behind_cursors) == (10, 4, 1, 70)
    assert seconds_behind(post, NOON + timedelta(minutes=26)) == 20 * 60  # the head of .replay is the oldest
    assert {(each.offset, each.biller) for each in post.heads} == {(90, "birch"), (6, "birch"), (20, "birch")}
    assert [(dead.topic, dead.records) for dead in found.dead if dead.records] == [(f"{RECEIVED}.dlq", 3)]
    lost = next(each for each in found.lanes if each.lane == "settings.apply").lost
    assert lost[0] == "billing.setting.changed.v1 0"


# -- what needs a person -------------------------------------------------------------------------------


def test_where_all_is_well_nothing_is_asked_of_anybody() -> None:
    fine = status(replica(text=""), lanes=[lag(head(1))], batches={"acme": batch(date(2026, 11, 22))})
    assert needs_of(fine) == []


def test_a_broker_that_is_away_comes_first_and_a_service_that_is_gone_next() -> None:
    gone = replica(text="", state="no answer", why="nobody listens there")
    assert said(status(gone, away="Kafka does not answer")) == [
        "Kafka does not answer.",
        "payments does not answer at h:1: nobody listens there.",
    ]


def test_breakers_halts_and_parked_deliveries_are_named() -> None:
    found = status(replica(), parked={"acme": 1})
    assert said(found)[:3] == [
        "2 partitions of payments.post stopped for a fault that only a person can judge.",
        "A partner of acme is taken to be away, so this waits: payments.post.",
        "IMT was last polled for acme " + span((NOON.timestamp()) - 1.7e9) + " ago.",
    ]
    assert needs_of(found)[-1].run == "billbus parked list --biller acme"


def test_a_lane_behind_is_named_unless_it_is_known_why() -> None:
    behind = lag(head(20), head(2, "birch"))
    assert said(status(lanes=[behind])) == ["payments.post is 20 min behind, by 2 records at most."]
    assert said(status(lanes=[behind], pauses=[paused()])) == []
    assert said(status(lanes=[behind], pauses=[paused("poll")])) != []
    assert said(status(lanes=[behind], pauses=[paused(biller=ALL)])) == []


def test_a_pause_that_is_forgotten_is_asked_about() -> None:
    assert said(status(pauses=[paused(hours=11)])) == []
    (need,) = needs_of(status(pauses=[paused(POST, hours=13)]))
    assert (need.what, need.run) == (
        "Of acme is still paused: payments.post for 13 h.",
        "billbus resume acme",
    )


def test_a_batch_that_is_not_closed_in_time_is_named() -> None:
    # acme's day of the 22nd ended at 23:00 UTC
    late = status(batches={"acme": batch(date(2026, 11, 21))})
    assert said(late) == ["The business day of acme ended 13 h ago and is not closed."]


def test_dead_letters_are_named_until_the_newest_is_a_week_old() -> None:
    fresh = DeadLetters(topic=f"{RECEIVED}.dlq", records=2, newest=NOON - timedelta(hours=2))
    old = DeadLetters(topic=f"{RECEIVED}.dlq", records=2, newest=NOON - timedelta(days=8))
    assert said(status(dead=[fresh])) == [
        f"2 records could not be decoded, on {RECEIVED}.dlq, the newest 2 h old."
    ]
    (need,) = needs_of(status(dead=[fresh]))
    assert need.run == "billbus tail payment.received.dlq --since 2026-11-23"
    assert said(status(dead=[old])) == []


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (86_400, "1 d"), (90_000, "1 d 1 h")]
)
def test_a_span_is_said_in_two_units(seconds: float, said: str) -> None:
    assert span(seconds) == said


# -- the screen ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 160])
def test_the_screen_fits_and_shows_everything(width: int) -> None:
    found = status(
        replica(),
        replica("bills", "", state="no answer", why="nobody listens there"),
        lanes=[lag(head(20), cursors=2, behind_cursors=1200)],
        dead=[DeadLetters(topic=f"{RECEIVED}.dlq", records=2, newest=NOON)],
        pauses=[paused()],
        batches={"acme": batch(date(2026, 11, 22))},
        parked={"birch": 1},
    )
    console = Console(width=width, record=True, file=StringIO())
    console.print(screen(found, needs_of(found), width))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    for word in (
        "things need a person",
        "bills",
        "20 min",
        "2026-11-22: 12",
        "17:00 CST",
        "everything",
        "jdoe",
    ):
        assert word in text
    assert "\x1b[31m maintenance" not in text


def test_json_has_the_documented_fields() -> None:
    told = as_object(found := status(replica(), lanes=[lag(head(20))], pauses=[paused()]), needs_of(found))
    page = (ROOT / "docs" / "operators" / "status.md").read_text()
    assert [name for name in told if f"`{name}`" not in page] == []
    for part in ("services", "lanes", "pauses", "billers", "needs"):
        assert [name for name in told[part][0] if f"`{name}`" not in page] == []
