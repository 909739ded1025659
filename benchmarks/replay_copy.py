"""One copy of a topic in a process of its own: python -m benchmarks.replay_copy HOW BOOTSTRAP REGISTRY

HOW `ours` is what `billbus replay` emits with, without its throttle and with every record wanted; `plain` is
the loop that anybody would write with confluent-kafka: consume and produce, with the same guarantees.
Both write to `.replay`. Prints a line of JSON: records a second, CPU microseconds a record, and megabytes.
"""

import json
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition

from services.bus.clock import Clock
from services.bus.place import Place
from services.bus.replayed import Act
from services.events import PaymentReceived
from services.operations.reemitting import Reemitter
from services.operations.replay_marks import WANTED, Marks
from services.operations.replay_sending import Pace, emit_wanted
from services.operations.topic_reader import TopicReader

TOPIC = PaymentReceived.TOPIC
AT_ONCE = 500


def ours(place: Place, ends: dict[int, int]) -> None:
    """Byte for byte to the partition of the key, with where each first stood."""
    marks = Marks({partition: range(end) for partition, end in ends.items()})
    for stretch in marks.stretches.values():
        stretch.flags[:] = bytes([WANTED]) * len(stretch.flags)
    clock, counted = Clock(), Counter[str]()
    with Reemitter(place, TOPIC, "0" * 16, clock) as writer:
        emit_wanted(
            place,
            marks,
            writer,
            Act("replay"),
            Pace(0, None, clock, time.sleep),
            clock,
            counted.update,
            lambda _done, _size: None,
            lambda: False,
        )


def plain(place: Place, ends: dict[int, int]) -> None:
    """Key, value and headers as they are, to the same partition."""
    given = {"group.id": "plain-copy", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    consumer = Consumer({**place.client, **given})
    producer = Producer({**place.client, "enable.idempotence": True, "linger.ms": 5})
    consumer.assign([TopicPartition(TOPIC, partition, 0) for partition in ends])
    left = sum(ends.values())
    while left:
        for record in consumer.consume(min(AT_ONCE, left), timeout=0.2):
            while True:
                try:
                    producer.produce(
                        f"{TOPIC}.replay",
                        record.value(),
                        record.key(),
                        partition=record.partition(),
                        headers=record.headers(),
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
            left -= 1
    producer.flush()
    consumer.close()


HOW: dict[str, Callable[[Place, dict[int, int]], None]] = {"ours": ours, "plain": plain}


def main() -> None:
    how, bootstrap, registry = sys.argv[1:]
    with Place(bootstrap, registry) as place:
        with TopicReader(place, TOPIC, Clock()) as reader:
            ends = reader.ends()
        before, began = used_s(), time.monotonic()
        HOW[how](place, ends)
        took_s, cpu_s = time.monotonic() - began, used_s() - before
    count = sum(ends.values())
    found = {
        "rate": round(count / took_s),
        "cpu_us": round(cpu_s / count * 1e6, 1),
        "peak_mb": round(peak_mb()),
    }
    print(json.dumps(found))


def used_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def peak_mb() -> float:
    told = Path("/proc/self/status").read_text().partition("VmHWM:")[2]
    return int(told.split()[0]) / 1024


if __name__ == "__main__":
    main()
