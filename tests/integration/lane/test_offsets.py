"""Offsets under a lane: records and groups deleted, a topic made anew, markers, odd records."""

import asyncio

from confluent_kafka import ConsumerGroupTopicPartitions, Producer, TopicPartition

from deploy.local import Stack
from services.bus.identity import key
from services.bus.topics import apply
from tests.lane_bench import TOPICS, Bench, Ledger, partition_of, payments, reaches

LIVE = TOPICS[0]


async def test_deleted_records_and_a_deleted_group_stop_it_by_name_and_nothing_is_sent(bench: Bench) -> None:
    ledger, sent, more = Ledger(), payments(60, 60), payments(60, 60)
    async with bench.lane(ledger):
        await bench.publish(*sent)
        await reaches(lambda: len(ledger.effects) == 60)
    await bench.publish(*more)
    gone = {p: end for p, end in bench.ends().items() if p in (2, 3)}
    deleting = bench.admin.delete_records([TopicPartition(LIVE, p, end) for p, end in gone.items()])
    for each in deleting.values():
        each.result(20)
    async with bench.lane(ledger) as lane:
        await reaches(lambda: "partition 2: offset" in lane.not_ready and "partition 3" in lane.not_ready)
        here = {p.payment_guid for p in more if partition_of(p) not in gone}
        await reaches(lambda: here <= set(ledger.guids))
    assert set(ledger.guids) == here | {p.payment_guid for p in sent}
    bench.admin.delete_consumer_groups([bench.group])[bench.group].result(20)
    async with bench.lane(ledger) as lane:
        await reaches(lambda: lane.not_ready.count("offset is lost") == 24)
    assert len(ledger.guids) == len(set(ledger.guids))


async def test_markers_aborted_batches_odd_keys_and_the_largest_record_hold_nothing_up(bench: Bench) -> None:
    ledger, sent, odd = Ledger(), payments(48, 48), payments(2, 2)
    largest = b"\1" * (1_048_588 - 120)
    before = bench.ends()
    writing = Producer(
        {
            "bootstrap.servers": bench.stack.bootstrap,
            "transactional.id": bench.name,
            "message.max.bytes": 2_000_000,
        }
    )
    writing.init_transactions(20)
    async with bench.lane(ledger) as lane:
        await bench.publisher.publish_raw(LIVE, None, bench.codec.encode(odd[0]), [])
        await bench.publisher.publish_raw(LIVE, b"", bench.codec.encode(odd[1]), [])
        for each in sent[:24]:
            writing.begin_transaction()
            writing.produce(LIVE, bench.codec.encode(each), key(each).encode())
            writing.commit_transaction(20)
        writing.begin_transaction()
        writing.produce(LIVE, largest, b"acme/large")
        writing.commit_transaction(20)
        for partition in range(12):
            writing.begin_transaction()
            writing.produce(LIVE, b"withdrawn", b"acme/none", partition=partition)
            writing.flush(20)
            writing.abort_transaction(20)
        await bench.publish(*sent[24:])
        await reaches(lambda: len(set(ledger.guids)) == 50)
        await reaches(lambda: bench.behind(lane) == 0, 20)
        await reaches(lambda: committed(bench) == bench.ends(), 20)
    assert sum(bench.ends().values()) - sum(before.values()) > 50 + 24 + 12
    assert len(ledger.guids) == 50
    assert largest in [record.value for record in await bench.read(f"{LIVE}.dlq")]


def committed(bench: Bench) -> dict[int, int]:
    (found,) = bench.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(bench.group)]).values()
    return {p.partition: p.offset for p in found.result(20).topic_partitions if p.topic == LIVE}


async def test_a_topic_made_anew_under_a_running_lane_stops_it_by_name(
    bench: Bench, own_stack: Stack
) -> None:
    ledger, old, new = Ledger(), payments(200, 50), payments(200, 50)
    async with bench.lane(ledger) as lane:
        await bench.publish(*old)
        await reaches(lambda: len(ledger.effects) == 200)
        bench.admin.delete_topics([LIVE])[LIVE].result(20)
        await asyncio.to_thread(apply, own_stack.bootstrap, own_stack.registry, bench.catalog)
        await reaches(lambda: "offset" in lane.not_ready or "gone" in lane.not_ready, 60)
        await bench.publish(*new)
        await asyncio.sleep(1)
    assert {p.payment_guid for p in new} & set(ledger.guids) == set()
