"""What a benchmark of the lane works with: the partner's program, a broker and a registry, our topics."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lane.contenders import Missing, build_go
from benchmarks.lane.partner import SOURCE
from benchmarks.lane.payments import OurTopics
from deploy.local import Stack
from deploy.local.processes import ROOT
from deploy.local.progress import fetch_with_progress

WORK = ROOT / ".local" / "bench"


@dataclass(frozen=True)
class Workshop:
    """`partner` is the partner's binary."""

    partner: Path
    stack: Stack
    topics: OurTopics


@contextmanager
def workshop() -> Iterator[Workshop]:
    """Everything is stopped when the block ends; SystemExit(1) with a sentence where a tool is missing."""
    WORK.mkdir(parents=True, exist_ok=True)
    try:
        partner = build_go(SOURCE, WORK)
    except Missing as missing:
        print(f"{missing}.", file=sys.stderr)
        raise SystemExit(1) from None
    with (
        tempfile.TemporaryDirectory() as folder,
        Stack(Path(folder) / "stack", parts=fetch_with_progress()) as stack,
    ):
        topics = OurTopics(stack.bootstrap, stack.registry)
        try:
            yield Workshop(partner, stack, topics)
        finally:
            topics.close()
