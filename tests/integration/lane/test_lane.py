"""The lane on the real broker: order, bounds, doubt after a crash, dead letters, offsets that never jump."""

import asyncio
from collections import Counter
from dataclasses import replace
from uuid import uuid4

import pytest

from services.bus.catalog import REPLAY
from services.bus.lane import Settlement
from services.events import PaymentOutcome, PaymentReceived
from tests.lane_bench import Bench, Ledger, partition_of, payments, reaches

PATIENCE_S = 0.5
TOPICS = (PaymentReceived.TOPIC, PaymentReceived.TOPIC + REPLAY)
BILLERS = ("acme", "birch", "cedar")


async def test_every_payment_once_in_order_of_its_account_and_bounded(bench: Bench) -> None:
    ledger, sent = Ledger(slow_s=0.002), payments(2000, 100)
    async with bench.lane(ledger, in_flight=20):
        await bench.publish(*sent)
        await reaches(lambda: len(ledger.effects) >= len(sent))
    assert sorted(ledger.guids) == sorted(p.payment_guid for p in sent)
    for account in {p.account for p in sent}:
        in_order = [guid for a, guid in ledger.effects if a == account]
        assert in_order == sorted(in_order)
    assert (ledger.overlaps, ledger.most <= 20, ledger.asked) == (0, True, 0)
    ended = Counter(o.value for o in await bench.read(PaymentOutcome.TOPIC))
    assert len(ended) >= len(sent)


async def test_a_slow_account_holds_nobody_up(bench: Bench) -> None:
    ledger = Ledger()
    slow, others = replace(payments(1, 1)[0], account="SLOW"), payments(300, 50)
    release = asyncio.Event()
    quick = ledger.deliver

    async def deliver(event: PaymentReceived) -> Settlement:
        if event.payment_guid == slow.payment_guid:
            await release.wait()
        return await quick(event)

    ledger.deliver = deliver  # type: ignore[method-assign]  # one account's partner call hangs
    async with bench.lane(ledger):
        await bench.publish(slow, *others)
        await reaches(lambda: len(ledger.effects) == len(others))
        release.set()
        await reaches(lambda: slow.payment_guid in ledger.guids)


async def test_after_a_clean_stop_nothing_is_asked_or_sent_again(bench: Bench) -> None:
    ledger, sent = Ledger(), payments(300, 30)
    async with bench.lane(ledger):
        await bench.publish(*sent)
        await reaches(lambda: len(ledger.effects) == 300)
    more = payments(50, 30)
    await bench.publish(*more)
    async with bench.lane(ledger):
        await reaches(lambda: len(ledger.effects) == 350)
    assert (len(set(ledger.guids)), ledger.asked) == (350, 0)


async def test_an_effect_without_an_answer_is_looked_up_not_repeated(bench: Bench) -> None:
    ledger, sent = Ledger(silent=lambda guid: guid.endswith("7")), payments(200, 200)
    async with bench.lane(ledger):
        await bench.publish(*sent)
        await reaches(lambda: len(ledger.effects) >= 200 and not ledger.running.total())
        await reaches(lambda: ledger.asked >= 20)
    assert len(ledger.effects) == len(set(ledger.guids)) == 200


@pytest.mark.parametrize("metadata", ["", "somebody else's", "bb1.00000000.0.0."])
async def test_unreadable_metadata_means_ask_first(bench: Bench, metadata: str) -> None:
    ledger, sent = Ledger(), payments(40, 40)
    before = bench.ends()
    await bench.publish(*sent)
    ledger.effects = [(p.account, p.payment_guid) for p in sent[:15]]  # a process before us had sent these
    bench.begin(metadata, before)
    async with bench.lane(ledger):
        await reaches(lambda: len(ledger.effects) == 40)
    assert len(set(ledger.guids)) == 40
    assert ledger.asked >= 40


async def test_two_members_share_and_hand_over_without_loss_or_double(bench: Bench) -> None:
    ledger, sent = Ledger(slow_s=0.01), payments(1500, 200)
    async with bench.lane(ledger) as first:
        await bench.publish(*sent[:700])
        await reaches(lambda: len(ledger.effects) > 200)
        async with bench.lane(ledger) as second:
            await bench.publish(*sent[700:])
            await reaches(lambda: sum(map(second.owns, range(12))) == 6)
            await reaches(lambda: sum(map(first.owns, range(12))) == 6)
            await reaches(lambda: len(ledger.effects) > 1000)
        await reaches(lambda: len(set(ledger.guids)) == 1500)
    assert len(ledger.effects) == 1500
    assert ledger.overlaps == 0


async def test_what_nobody_can_decode_is_in_the_dead_letters_with_where_and_why(bench: Bench) -> None:
    ledger, good = Ledger(), payments(3, 1)
    mark = uuid4().bytes
    async with bench.lane(ledger):
        await bench.publish(good[0])
        await bench.publisher.publish_raw(PaymentReceived.TOPIC, b"acme/A0000", mark, [])
        await bench.publish(*good[1:])
        await reaches(lambda: len(ledger.effects) == 3)
    (letter,) = [r for r in await bench.read(f"{PaymentReceived.TOPIC}.dlq") if r.value == mark]
    headers = dict(letter.headers)
    assert headers["billbus_origin_topic"] == PaymentReceived.TOPIC.encode()
    assert headers["billbus_origin_offset"].isdigit()
    assert headers["billbus_reason"]


async def test_a_lost_offset_stops_the_partition_by_name(bench: Bench) -> None:
    ledger, sent = Ledger(), payments(60, 60)
    lost = f"{bench.group}x"
    bench.group, bench.name = lost, lost.removeprefix("billbus.")
    bench.begin(offsets={p: end for p, end in bench.ends().items() if p != 4})
    async with bench.lane(ledger) as delivery:
        await reaches(lambda: "partition 4" in delivery.not_ready)
        await bench.publish(*sent)
        here = [p for p in sent if partition_of(p) != 4]
        await reaches(lambda: len(ledger.effects) == len(here))
        assert "offset is lost" in delivery.not_ready
    assert all(guid in {p.payment_guid for p in here} for guid in ledger.guids)


async def test_the_index_is_read_again_when_its_file_is_lost_or_damaged(bench: Bench) -> None:
    ledger, sent = Ledger(), payments(100, 10)
    before = bench.ends()
    async with bench.lane(ledger):
        await bench.publish(*sent)
        await reaches(lambda: len(ledger.effects) == 100)
    bench.begin("lost", before)  # the whole day again, with nothing known of it
    (bench.folder / "2.sqlite").write_bytes(b"no database" * 100)
    async with bench.lane(ledger) as again:
        await reaches(lambda: not again.not_ready and again.owns(0))
        await reaches(lambda: bench.behind(again) == 0)
    assert len(ledger.effects) == 100
