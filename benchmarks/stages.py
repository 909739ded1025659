"""Which stage of the lane a moment of CPU belongs to, by the functions that were running in it."""

import signal
import time
from collections import Counter
from collections.abc import Sequence
from types import FrameType

STAGES = (
    "consume",
    "decode",
    "lane",
    "handler",
    "http",
    "identity",
    "encode",
    "produce",
    "commit",
    "index",
    "metrics",
    "loop",
    "other",
)
Function = tuple[str, str]
"""File and name."""

_RULES: tuple[tuple[str, str, str], ...] = (
    # stage, part of the file's path, name of the function ("" for any)
    ("decode", "bus/codec.py", "decode"),
    ("decode", "bus/codec.py", "whole"),
    ("encode", "bus/codec.py", ""),
    ("encode", "bus/avro_writer.py", ""),
    ("identity", "bus/identity.py", ""),
    ("commit", "bus/progress.py", ""),
    ("commit", "bus/delivery.py", "_commit"),
    ("commit", "aiokafka/consumer/group_coordinator.py", ""),
    ("commit", "bus/commits.py", ""),
    ("produce", "bus/publisher.py", ""),
    ("produce", "bus/partitioning.py", ""),
    ("produce", "aiokafka/producer/", ""),
    ("http", "bus/partner.py", ""),
    ("http", "bus/http", ""),
    ("http", "/aiohttp/", ""),
    ("handler", "/payments/", ""),
    ("handler", "bus/secrets.py", ""),
    ("handler", "bus/wire.py", ""),
    ("handler", "bus/business_day.py", ""),
    ("metrics", "/prometheus_client/", ""),
    ("metrics", "bus/metrics.py", ""),
    ("consume", "aiokafka/consumer/", ""),
    ("consume", "bus/delivery.py", "_accept"),
    ("lane", "/services/bus/", ""),
    ("consume", "/aiokafka/", ""),
    ("loop", "/asyncio/", ""),
    ("loop", "/selectors.py", ""),
)
_WHOLE = (("index", "bus/outcomes.py"),)
"""Stages to which all that they call belongs, such as decoding for the index."""


def stage_of(stack: Sequence[Function]) -> str:
    """The stage of a stack, innermost function first: the first rule that a function of it meets."""
    for file, _ in stack:
        for stage, part in _WHOLE:
            if part in file:
                return stage
    for file, name in stack:
        for stage, part, function in _RULES:
            if part in file and (not function or function == name):
                return stage
    return "other"


class Sampler:
    """Looks now and then at what this process does, by its own CPU time, from the first delivery on.

    A sample costs a few microseconds, so unlike with a tracing profiler the shares stay as they are. The
    kernel may sample less often than every millisecond, so each counts the CPU since the one before.
    """

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.by_function: Counter[tuple[str, str]] = Counter()
        self._seen = 0.0

    def start(self) -> None:
        signal.signal(signal.SIGPROF, self._take)
        signal.setitimer(signal.ITIMER_PROF, 0.001, 0.001)

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _take(self, _number: int, frame: FrameType | None) -> None:
        now = time.process_time()
        since, self._seen = now - self._seen, now
        stack = []
        while frame is not None:
            stack.append((frame.f_code.co_filename, frame.f_code.co_qualname))
            frame = frame.f_back
        stage = stage_of([(file, name.rpartition(".")[2]) for file, name in stack])
        if not self.seconds and stage not in ("handler", "http"):
            return  # still starting up
        self.seconds[stage] += since  # type: ignore[assignment]  # a Counter adds fractions as well
        file, name = stack[0]
        where = f"{'/'.join(file.rsplit('/', 2)[-2:])} {name}"
        self.by_function[stage, where] += since  # type: ignore[assignment]  # as above
