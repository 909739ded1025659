"""A log that is not the one that was committed: a partition stops by name, and an offset never jumps."""

from collections.abc import Callable
from pathlib import Path

import pytest

from services.bus.progress import decode_metadata, encode_metadata
from tests.fake_broker import Desk, FakeBroker, a_record, at
from tests.lane_bench import reaches

LOG = at(0)


async def worked(desk: Desk) -> None:
    """A lane did five payments and stopped as it should."""
    desk.append(*(f"A-{n}" for n in range(5)))
    async with desk.lane():
        await reaches(lambda: desk.broker.committed(LOG) == 5)
    assert decode_metadata(desk.broker.stored["", LOG][1], 5, 5).landmark == (4, 1_790_000_000_004)


def made_anew(broker: FakeBroker) -> None:
    log = broker.logs[LOG]
    log.records = [a_record(LOG, n, b"acme/A", f"A-new{n}".encode(), later_ms=9_000_000) for n in range(9)]
    log.end = 9


def cut_off(broker: FakeBroker) -> None:
    broker.logs[LOG].records = broker.logs[LOG].records[:2]
    broker.logs[LOG].end = 2


def emptied(broker: FakeBroker) -> None:
    broker.logs[LOG].records, broker.logs[LOG].end = [], 0


def forgotten_beyond(broker: FakeBroker) -> None:
    broker.logs[LOG].begin, broker.logs[LOG].end = 7, 9


def lost(broker: FakeBroker) -> None:
    del broker.stored["", LOG]


def cursor_of_another_log(broker: FakeBroker) -> None:
    text = encode_metadata(900, 900, [], until=900, generation=broker.generation)
    broker.stored["acme", LOG] = (900, text)


@pytest.mark.parametrize(
    ("happens", "says"),
    [
        (made_anew, "cut off or made anew"),
        (cut_off, "outside the log"),
        (emptied, "outside the log"),
        (forgotten_beyond, "outside the log"),
        (lost, "offset is lost"),
        (cursor_of_another_log, "beyond the log's end"),
    ],
)
async def test_a_takeover_finds_another_log_and_stops_by_name(
    tmp_path: Path, happens: Callable[[FakeBroker], None], says: str
) -> None:
    desk = Desk(tmp_path, 0, 1)
    await worked(desk)
    happens(desk.broker)
    desk.append("B-1", partition=1)
    async with desk.lane() as lane:
        await reaches(lambda: says in lane.not_ready)
        await reaches(lambda: "B-1" in desk.partner.effects)
    assert [guid for guid in desk.partner.effects if guid.startswith("A")] == [f"A-{n}" for n in range(5)]
    assert desk.broker.stored.get(("", LOG), (5,))[0] == 5


async def test_what_the_retention_took_proves_nothing_and_the_lane_goes_on(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    await worked(desk)
    desk.broker.logs[LOG].begin = 5
    desk.broker.logs[LOG].records.clear()
    desk.append("A-9")
    async with desk.lane() as lane:
        await reaches(lambda: "A-9" in desk.partner.effects)
        assert lane.not_ready == ""


async def test_records_deleted_under_a_running_lane_stop_it_by_name(tmp_path: Path) -> None:
    desk = Desk(tmp_path, 0, 1)
    async with desk.lane() as lane:
        desk.append("A-1")
        await reaches(lambda: desk.broker.committed(LOG) == 1)
        log = desk.broker.logs[LOG]
        log.begin = log.end = 50
        await reaches(lambda: "partition 0: its records are gone" in lane.not_ready)
        desk.append("B-1", partition=1)
        await reaches(lambda: desk.partner.effects == ["A-1", "B-1"])
    assert desk.broker.committed(LOG) == 1
