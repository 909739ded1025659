"""Records onto `.replay` on the real broker: byte for byte, to the partition of their key, in order."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from confluent_kafka.admin import NewTopic

from services.bus.clock import Clock
from services.bus.partitioning import place_of
from services.bus.place import Place, Unreachable
from services.bus.replayed import Act, Origin, act_of, origin_of
from services.operations.reemitting import Coordinates, Reemitter, coordinates_of
from services.operations.topic_reader import TopicReader
from tests.deadline import until
from tests.stacks import Addresses
from tests.unit.parts import NOON

TOPIC = f"reemitted-{uuid.uuid4().hex}"
"""No lane reads it: these values are no events."""
STAMPED = round(NOON.timestamp() * 1000)


@pytest.fixture(scope="module")
def place(stack: Addresses) -> Iterator[Place]:
    with Place(stack.bootstrap, stack.registry) as opened:
        stamped = {"message.timestamp.type": "LogAppendTime"}
        new = NewTopic(TOPIC + ".replay", 12, 1, config=stamped)
        opened.admin.create_topics([new], operation_timeout=30)[new.topic].result()
        until(lambda: new.topic in opened.topics(), what="the topic")
        yield opened


def test_a_record_is_the_same_again_with_where_it_first_stood(place: Place) -> None:
    run = uuid.uuid4().hex
    with Reemitter(place, TOPIC, run, Clock()) as writer:
        for offset in range(40):
            key = b"acme/%d" % (offset % 7)
            headers = [("ce_id", b"id-%d" % offset), ("traceparent", b"00-1-2-01")]
            writer.emit(key, b"\x00%d" % offset, headers, Coordinates(5, offset, STAMPED), Act("recheck"))
        writer.flush()
        assert writer.unacknowledged == 0
    found = of_run(place, run)
    assert len(found) == 40
    for record in found:
        origin = coordinates_of(record)
        assert (origin.partition, origin.timestamp) == (5, STAMPED)
        assert (record.key(), record.value()) == (b"acme/%d" % (origin.offset % 7), b"\x00%d" % origin.offset)
        assert dict(record.headers())["ce_id"] == b"id-%d" % origin.offset
        assert record.partition() == place_of(record.key(), 12)
    for number in {record.partition() for record in found}:
        offsets = [coordinates_of(record).offset for record in found if record.partition() == number]
        assert offsets == sorted(offsets)


def test_a_record_of_replay_keeps_its_first_origin_and_takes_the_new_wish(place: Place) -> None:
    first, second = uuid.uuid4().hex, uuid.uuid4().hex
    with Reemitter(place, TOPIC, first, Clock()) as writer:
        writer.emit(b"acme/1", b"v", [("ce_id", b"i")], Coordinates(2, 77, STAMPED), Act("replay"))
        writer.flush()
    (record,) = of_run(place, first)
    with Reemitter(place, TOPIC, second, Clock()) as writer:
        dismissal = Act("dismiss", attempt=3, reason="posted by hand – yes")
        writer.emit(record.key(), record.value(), record.headers(), coordinates_of(record), dismissal)
        writer.flush()
    (again,) = of_run(place, second)
    assert [name for name, _ in again.headers()].count("billbus_run") == 1
    as_the_lane_has_it = Fetched(again)
    assert origin_of(as_the_lane_has_it) == Origin(TOPIC, 2, 77, NOON)
    assert act_of(as_the_lane_has_it) == dismissal


def test_a_broker_that_takes_nothing_is_said_so(place: Place) -> None:
    with Reemitter(place, TOPIC, "x", Clock()) as writer:
        writer.emit(b"acme/1", b"v" * 1_300_000, [], Coordinates(0, 0, 0), Act("replay"))
        with pytest.raises(Unreachable, match=r"reemitted-\w+\.replay"):
            writer.flush()


class Fetched:
    """A record as a lane's client gives it."""

    def __init__(self, record: Any) -> None:
        self.topic, self.partition = record.topic(), record.partition()
        self.offset, self.headers = record.offset(), record.headers()


def of_run(place: Place, run: str) -> list[Any]:
    """The records of a run on `.replay`, each partition's in order."""
    found: list[Any] = []
    with TopicReader(place, TOPIC + ".replay", Clock()) as reader:
        ends = reader.ends()
        reader.read(dict.fromkeys(ends, 0), ends)
        while not reader.finished:
            found += reader.fetch()
    return [record for record in found if dict(record.headers())["billbus_run"] == run.encode()]
