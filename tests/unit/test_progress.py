"""What a commit says: contiguous in the records seen, and the metadata read back is the state itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.bus.progress import (
    SPAN,
    Progress,
    Restored,
    decode_metadata,
    encode_metadata,
    fresh_metadata,
)

offsets_with_gaps = st.lists(st.integers(1, 40), min_size=1, max_size=60).map(
    lambda gaps: [sum(gaps[: n + 1]) for n in range(len(gaps))]
)


@given(offsets_with_gaps, st.data())
def test_the_position_is_the_first_record_seen_and_not_done(offsets: list[int], data: st.DataObject) -> None:
    progress = Progress(0, 0)
    for offset in offsets:
        progress.see(offset)
    done = data.draw(st.lists(st.sampled_from(offsets)))
    for offset in done:
        progress.finish(offset)
    left = [offset for offset in offsets if offset not in done]
    assert progress.position == (left[0] if left else offsets[-1] + 1)


@given(offsets_with_gaps, st.data())
def test_what_a_commit_says_is_the_live_state(offsets: list[int], data: st.DataObject) -> None:
    progress = Progress(0, 0)
    for offset in offsets:
        progress.see(offset)
    progress.acknowledge(progress.snapshot(len(offsets) * 40))
    done = set(data.draw(st.lists(st.sampled_from([o for o in offsets if o < progress.reserved] or [0]))))
    for offset in done & set(offsets):
        progress.finish(offset)
    snapshot = progress.snapshot(10)
    restored = decode_metadata(snapshot.metadata, snapshot.position, offsets[-1] + 1)
    for offset in offsets:
        if offset >= snapshot.position:
            assert restored.in_doubt(offset) == (offset < snapshot.reserved and offset not in done)


@pytest.mark.parametrize("text", ["", "x", "bb1.00000000.0.0.", "OffsetsMap-of-another-tool", "bb2.1.2.3.4"])
def test_foreign_metadata_puts_everything_in_doubt(text: str) -> None:
    restored = decode_metadata(text, 5, 20)
    assert [offset for offset in range(5, 25) if restored.in_doubt(offset)] == list(range(5, 20))


@given(st.text(max_size=200))
def test_any_text_is_read_without_failing(text: str) -> None:
    restored = decode_metadata(text, 7, 9)
    assert restored.in_doubt(7) or text == fresh_metadata()


def test_metadata_of_another_offset_is_not_believed() -> None:
    moved = encode_metadata(committed=3, reserved=8, done=[5])
    assert decode_metadata(moved, 4, 20).in_doubt(5)


def test_done_beyond_the_log_is_not_believed() -> None:
    claims_more = encode_metadata(committed=3, reserved=40, done=[35])
    assert decode_metadata(claims_more, 3, 20).in_doubt(5)


def test_nothing_is_in_doubt_of_a_fresh_group_or_an_idle_partition() -> None:
    assert not decode_metadata(fresh_metadata(), 0, 50).in_doubt(0)
    assert not decode_metadata(fresh_metadata() + "\0", 0, 50).in_doubt(0)
    progress = Progress(0, 0)
    progress.see(0)
    progress.acknowledge(progress.snapshot(10))
    progress.finish(0)
    snapshot = progress.snapshot(10)
    assert (snapshot.position, snapshot.reserved) == (1, 1)


def test_what_an_earlier_owner_left_in_doubt_stays_in_every_commit() -> None:
    restored = decode_metadata(encode_metadata(committed=0, reserved=30, done=[4]), 0, 100)
    progress = Progress.resume(0, restored)
    first = progress.snapshot(10)
    again = decode_metadata(first.metadata, first.position, 100)
    assert again.in_doubt(29)
    assert not again.in_doubt(4)
    for offset in range(30):
        progress.see(offset)
        progress.finish(offset)
    assert progress.snapshot(10).reserved == 30


def test_the_reservation_never_reaches_beyond_the_span_and_the_text_stays_small() -> None:
    progress = Progress(0, 0)
    for offset in range(3 * SPAN):
        progress.see(offset)
    for _ in range(100):
        progress.acknowledge(progress.snapshot(200))
        progress.send(progress.reserved - 1)
    assert progress.reserved == SPAN
    for offset in range(1, SPAN, 2):
        progress.finish(offset)
    assert len(progress.snapshot(200).metadata) < 1000


def test_finishing_twice_changes_nothing() -> None:
    progress = Progress(0, 0)
    progress.see(0)
    progress.see(1)
    progress.finish(1)
    progress.finish(1)
    assert progress.position == 0
    progress.finish(0)
    assert progress.position == 2


def test_the_reservation_reaches_no_further_than_asked_beyond_what_was_sent() -> None:
    progress = Progress(0, 0)
    for offset in range(1000):
        progress.see(offset)
    for _ in range(10):
        progress.acknowledge(progress.snapshot(33))
    assert progress.reserved == 33
    progress.send(20)
    progress.acknowledge(progress.snapshot(33))
    assert progress.reserved == 21 + 33


def test_what_an_earlier_owner_did_right_behind_all_that_was_read_stays_done() -> None:
    progress = Progress.resume(0, Restored(reserved=3, done=frozenset({2})))
    for offset in (0, 1):
        progress.see(offset)
        progress.finish(offset)
    snapshot = progress.snapshot(4)
    progress.see(2)
    assert not progress.unfinished
    assert not decode_metadata(snapshot.metadata, 2, 3).in_doubt(2)
    assert Progress.resume(2, decode_metadata(snapshot.metadata, 2, 3)).finished == {2}
