"""Only one replay of a topic at a time, by the broker's word."""

from __future__ import annotations

import threading

from services.bus.clock import Clock
from services.bus.place import Place, Unreachable
from services.operations.replay_lock import Busy, OneAtATime
from tests.deadline import until
from tests.stacks import Addresses

TOPIC = "billing.invoice.issued.v1"
LIMIT_S = 60


def test_of_two_that_begin_in_the_same_moment_one_runs_and_nobody_beside_it(stack: Addresses) -> None:
    """On a machine that stands still just then, the one that runs may have to give up, and says so."""
    inside: set[str] = set()
    ended: dict[str, str] = {}
    crowded: list[set[str]] = []
    together = threading.Barrier(2)

    def begin(name: str) -> None:
        with Place(stack.bootstrap, stack.registry) as place:
            together.wait(30)
            try:
                with OneAtATime(place, TOPIC, Clock(), lambda: False) as alone:
                    while len(ended) == 0:
                        alone.require(0.05)
                        inside.add(name)
                        crowded.extend([set(inside)] if len(inside) > 1 else [])
                        inside.discard(name)
                ended[name] = "ran"
            except Busy:
                ended[name] = "refused"
            except Unreachable:
                ended[name] = "gave up"

    both = [threading.Thread(target=begin, args=(name,), daemon=True) for name in ("one", "two")]
    for each in both:
        each.start()
    until(lambda: len(ended) == 2, LIMIT_S, "an end of both")
    assert crowded == []
    assert sorted(ended.values()) in (["ran", "refused"], ["gave up", "ran"], ["gave up", "refused"])
    with (
        Place(stack.bootstrap, stack.registry) as place,
        OneAtATime(place, TOPIC, Clock(), lambda: False) as alone,
    ):
        alone.require()
