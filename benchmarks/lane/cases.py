"""The cases of the lane, who takes part in each, and what was asked of each."""

from dataclasses import dataclass

from benchmarks.figures import Goal
from benchmarks.lane.run import Load

VERTX = "parallel-consumer-vertx"
PEERS = ("asyncio_loop", "aiohttp_loop", "franz-go", VERTX)


@dataclass(frozen=True)
class Case:
    """Contenders take their runs in turn, as the machine's speed drifts."""

    name: str
    title: str
    load: Load
    contenders: tuple[str, ...]
    goals: tuple[Goal, ...] = ()


def _goal(case: str, text: str, ours: str, theirs: str, kind: str, limit: float) -> Goal:
    """`ours` and `theirs` are written as contender:figure."""
    left, right = ours.rpartition(":"), theirs.rpartition(":")
    return Goal(
        case, text, (left[0], left[2]), (right[0], right[2]), "at most" if kind == "<=" else "at least", limit
    )


CASES = {
    case.name: case
    for case in (
        Case(
            "20ms",
            "partner of 20 ms, 20,000 payments",
            Load(20_000, 20),
            ("ours", *PEERS),
            (
                _goal("20ms", "rate by asyncio_loop", "ours:rate", "asyncio_loop:rate", ">=", 0.9),
                _goal("20ms", "rate by Parallel Consumer", "ours:rate", f"{VERTX}:rate", ">=", 1.0),
                _goal(
                    "20ms",
                    "CPU an event, cold, by Parallel Consumer",
                    "ours:cpu_us",
                    f"{VERTX}:cpu_us",
                    "<=",
                    1 / 3,
                ),
            ),
        ),
        Case(
            "20ms-100k",
            "partner of 20 ms, 100,000 payments",
            Load(100_000, 20),
            ("ours", "asyncio_loop", VERTX),
            (
                _goal("20ms-100k", "rate by asyncio_loop", "ours:rate", "asyncio_loop:rate", ">=", 0.9),
                _goal("20ms-100k", "rate by Parallel Consumer", "ours:rate", f"{VERTX}:rate", ">=", 1.0),
                _goal(
                    "20ms-100k",
                    "CPU an event, warm, by Parallel Consumer",
                    "ours:warm_cpu_us",
                    f"{VERTX}:warm_cpu_us",
                    "<=",
                    1 / 2,
                ),
            ),
        ),
        Case(
            "2ms",
            "partner of 2 ms, 100,000 payments",
            Load(100_000, 2),
            ("ours", "ours-2", "asyncio_loop", "franz-go", VERTX),
            (
                _goal(
                    "2ms",
                    "rate by Parallel Consumer's warm rate",
                    "ours:rate",
                    f"{VERTX}:warm_rate",
                    ">=",
                    1.0,
                ),
                _goal("2ms", "rate by asyncio_loop", "ours:rate", "asyncio_loop:rate", ">=", 1 / 3),
                _goal("2ms", "two processes by one, warm", "ours-2:warm_rate", "ours:warm_rate", ">=", 1.3),
            ),
        ),
        Case(
            "200ms",
            "partner of 200 ms, 1,000 in flight, 20,000 payments",
            Load(20_000, 200, in_flight=1000),
            ("ours", "asyncio_loop", "franz-go"),
        ),
        Case(
            "skewed",
            "partner of 2 ms, 10,000 payments, a fifth of them by one account",
            Load(10_000, 2, hot_share=0.2),
            ("ours", "asyncio_loop", VERTX),
        ),
    )
}
