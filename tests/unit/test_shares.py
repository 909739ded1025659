"""Who is sent next: everybody in turn, nobody beyond a share, and what was given comes back."""

from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from services.bus.partition import Owned
from services.bus.shares import Shares

OWNED = cast("Owned", None)


def waiting(shares: Shares, **by_biller: int) -> None:
    for biller, number in by_biller.items():
        for key in range(number):
            shares.add(biller, (OWNED, f"{biller}/{key}".encode()), 0.0)


def billers(taken: Any) -> list[str]:
    return [key.partition(b"/")[0].decode() for _, key in taken]


def test_a_biller_alone_may_have_everything_in_the_order_in_which_it_came() -> None:
    shares = Shares(5)
    waiting(shares, acme=9)
    assert [key for _, key in shares.take()] == [f"acme/{n}".encode() for n in range(5)]


def test_who_has_waited_longest_comes_first() -> None:
    shares = Shares(2)
    for since, key in ((3.0, b"acme/a"), (1.0, b"acme/b"), (2.0, b"acme/c")):
        shares.add("acme", (OWNED, key), since)
    assert [key for _, key in shares.take()] == [b"acme/b", b"acme/c"]


def test_several_have_even_parts_and_a_quiet_one_never_waits_for_a_loud_one() -> None:
    shares = Shares(6)
    waiting(shares, acme=100)
    assert len(billers(shares.take())) == 6
    waiting(shares, birch=2, cedar=1)
    assert sorted(billers(shares.take())) == ["birch", "birch", "cedar"]


def test_no_more_than_twice_the_limit_is_ever_in_flight() -> None:
    shares = Shares(4)
    for number in range(30):
        waiting(shares, **{f"biller{number}": 3})
        list(shares.take())
    assert shares.in_flight <= 8


@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=200), st.integers(1, 6))
def test_whatever_comes_and_ends_all_are_served_once_and_the_counters_return_to_zero(
    steps: list[tuple[str, bool]], most: int
) -> None:
    shares, served, added = Shares(most), 0, 0
    at_work: list[str] = []
    for biller, ends in steps:
        if ends and at_work:
            shares.free(at_work.pop())
        else:
            waiting(shares, **{biller: 1})
            added += 1
        taken = billers(shares.take())
        served += len(taken)
        at_work += taken
        assert shares.in_flight == len(at_work) <= 2 * most
    while at_work:
        shares.free(at_work.pop())
        taken = billers(shares.take())
        served += len(taken)
        at_work += taken
    assert (served, shares.in_flight) == (added, 0)
