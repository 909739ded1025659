"""Only one replay of a topic at a time, by the broker's word."""

from __future__ import annotations

import threading
from contextlib import suppress

from services.bus.clock import Clock
from services.bus.place import Place
from services.operations.replay_lock import Busy, OneAtATime
from tests.stacks import Addresses

TOPIC = "billing.invoice.issued.v1"


def test_of_two_that_begin_in_the_same_moment_one_runs_and_nobody_beside_it(stack: Addresses) -> None:
    inside, ran, refused = [0], [], []
    together, over = threading.Barrier(2), threading.Barrier(2)

    def begin(name: str) -> None:
        with Place(stack.bootstrap, stack.registry) as place:
            together.wait(30)
            try:
                with OneAtATime(place, TOPIC, Clock(), lambda: False) as alone:
                    inside[0] += 1
                    alone.require()
                    with suppress(threading.BrokenBarrierError):
                        while over.n_waiting == 0:
                            alone.require(0.05)
                            assert inside[0] == 1
                        over.wait(30)
                    ran.append(name)
                    inside[0] -= 1
            except Busy:
                refused.append(name)
                over.wait(60)

    both = [threading.Thread(target=begin, args=(name,)) for name in ("one", "two")]
    for each in both:
        each.start()
    for each in both:
        each.join(120)
    assert sorted(ran + refused) == ["one", "two"]
    assert (len(ran), len(refused)) == (1, 1)
    with (
        Place(stack.bootstrap, stack.registry) as place,
        OneAtATime(place, TOPIC, Clock(), lambda: False) as alone,
    ):
        alone.require()
