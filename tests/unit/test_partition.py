"""Whose business a record of a partition is: the main stretch's, a cursor's, or nobody's any more."""

from typing import Any

from services.bus.doubt import Item
from services.bus.partition import Owned, Stretch, Ticket, account_scope, biller_of
from services.bus.progress import Progress, Restored
from tests.fake_broker import at
from tests.unit.parts import NOON

A1, A2, B1 = b"acme/1", b"acme/2", b"birch/1"


def a_stretch(scope: str, after: int = 0, until: int | None = None) -> Stretch:
    return Stretch(scope, Progress(after, after, until=until), Restored(0))


def owned(**parts: Any) -> Owned:
    return Owned(at(0), Ticket(1, "me"), 0.0, a_stretch(""), **parts)


def an_item(one: Owned, stretch: Stretch, key: bytes, offset: int) -> Item:
    stretch.progress.see(offset)
    item = Item(
        topic=at(0).topic, partition=0, offset=offset, key=key, value=b"", taken_at=NOON, headers=(),
        in_doubt=False, believe_from=0.0, at=offset, biller=biller_of(key), stretch=stretch, held_since=0.0,
    )  # fmt: skip
    one.enqueue(item)
    return item


def test_without_cursors_all_is_the_main_stretch_s_also_without_a_key_or_a_biller() -> None:
    one = owned()
    assert {one.owner_of(key, 5) for key in (A1, B1, b"", b"/", b"\xff\xfe", "ü/ß".encode())} == {one.main}


def test_a_biller_s_cursor_has_its_records_and_an_account_s_has_them_before_it() -> None:
    acme, account = a_stretch("acme"), a_stretch(account_scope(A1))
    one = owned(cursors={"acme": acme, account_scope(A1): account})
    assert [one.owner_of(key, 5) for key in (A1, A2, B1)] == [account, acme, one.main]


def test_a_closing_cursor_has_what_is_below_its_end_and_the_main_stretch_what_comes_after() -> None:
    closing = a_stretch("acme", until=10)
    one = owned(cursors={"acme": closing})
    assert (one.owner_of(A1, 9), one.owner_of(A1, 10)) == (closing, one.main)


def test_below_the_end_of_a_closed_cursor_nobody_does_it_again() -> None:
    one = owned(floors={"acme": 10})
    assert (one.owner_of(A1, 9), one.owner_of(A1, 10), one.owner_of(B1, 3)) == (None, one.main, one.main)


def test_one_opened_again_has_what_is_above_its_old_end_and_nothing_below() -> None:
    again = a_stretch("acme")
    one = owned(cursors={"acme": again}, floors={"acme": 10})
    assert one.owner_of(A1, 12) is again


def test_an_account_s_records_come_from_the_biller_s_cursor_unless_that_is_closing() -> None:
    one = owned(cursors={"acme": a_stretch("acme")})
    assert one.parent_of(account_scope(A1)) is one.cursors["acme"]
    one.cursors["acme"].progress.until = 7
    assert one.parent_of(account_scope(A1)) is one.main
    assert one.parent_of("acme") is one.main


def test_what_goes_behind_a_cursor_leaves_the_main_commit_free_and_keeps_order_and_doubt() -> None:
    one = owned()
    for offset, key in enumerate([A1, B1, A2, A1, B1]):
        an_item(one, one.main, key, offset)
    one.main.progress.finish(1)
    one.queues[B1].popleft()
    planned = one.plan_cursor("acme")
    assert (list(planned.unfinished), planned.position, planned.next) == ([0, 2, 3], 0, 5)
    one.move_behind(Stretch("acme", planned, Restored(0)))
    assert one.main.progress.position == 4
    assert [item.at for item in one.waiting_of("acme")] == [0, 2, 3]
    assert {item.stretch.scope for item in one.waiting_of("acme")} == {"acme"}


def test_only_the_keys_of_a_scope_wait_for_its_cursor() -> None:
    one = owned(suspended={account_scope(A1): []})
    assert [one.suspended_scope(key) is None for key in (A1, A2, B1)] == [False, True, True]


def test_an_account_s_number_is_not_in_a_group_s_name() -> None:
    assert b"4711" not in account_scope(b"acme/4711").encode()
    assert account_scope(b"acme/4711") != account_scope(b"acme/4712")
