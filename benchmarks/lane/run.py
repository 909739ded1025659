"""One run: a contender brings a topic's payments to the partner; the partner's ledger says how it went."""

import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.lane.contenders import Contender, Running
from benchmarks.lane.partner import Partner
from benchmarks.machine import Usage, usage, yardstick

WARM_FROM = 0.2
POLL_S, SETTLE_S = 0.05, 1.0
COLUMNS = (
    "rate",
    "share",
    "warm_rate",
    "cpu_us",
    "warm_cpu_us",
    "start_cpu_s",
    "peak_mb",
    "distinct",
    "lost",
    "doubled",
    "order_violations",
    "others_rate",
    "stall_s",
    "yardstick_s",
)


@dataclass(frozen=True)
class Load:
    """What a run has to do.

    Attributes:
        events: payments, over 2,000 accounts and 12 partitions.
        delay_ms: service time of the partner.
        in_flight: posts at the same time, at most; of each process.
        hot_share: part of the payments that one account has.
    """

    events: int
    delay_ms: int
    in_flight: int = 200
    hot_share: float = 0.0

    @property
    def limit(self) -> float:
        """Payments a second that the partner could take with this many in flight."""
        return self.in_flight * 1000 / self.delay_ms

    @property
    def deadline_s(self) -> float:
        return 60 + self.events / 100


def measure(contender: Contender, load: Load, partner_binary: Path) -> dict[str, float]:
    """Start-up and joining the group are not counted in rates; in CPU they are."""
    contender.load(load.events, load.hot_share)
    speed = yardstick()
    with (
        Partner(partner_binary, load.delay_ms) as partner,
        contender.running(partner.url, load.in_flight) as running,
    ):
        at_start = _wait(partner, running, load, 1)
        warm = _wait(partner, running, load, int(load.events * WARM_FROM))
        end = _wait(partner, running, load, load.events)
        time.sleep(SETTLE_S)  # late doubles show up in this time
        report = partner.report(int(load.events * WARM_FROM))
    return {**_figures(report, load), **_used(at_start, warm, end, load), "yardstick_s": round(speed, 3)}


def _wait(partner: Partner, running: Running, load: Load, distinct: int) -> Usage:
    """What was used when so many had arrived; at the deadline too: what is then missing is lost."""
    deadline = time.monotonic() + load.deadline_s
    while partner.report()["distinct"] < distinct and time.monotonic() < deadline:
        running.pids()
        time.sleep(POLL_S)
    return usage(*running.pids())


def _figures(report: dict[str, float], load: Load) -> dict[str, float]:
    distinct = report["distinct"]
    rate = _rate(distinct, report["first_post"], report["last_answer"])
    warm = _rate(load.events * (1 - WARM_FROM), report["warm_from"], report["last_answer"])
    others = _rate(report["others"], report["first_post"], report["others_last"])
    return {
        "rate": round(rate),
        "share": round(rate / load.limit, 3),
        "warm_rate": round(warm),
        "distinct": distinct,
        "lost": load.events - distinct,
        "doubled": report["doubled"],
        "order_violations": report["order_violations"],
        "max_concurrent": report["max_concurrent"],
        "stall_s": round(report["stall"], 3),
        **({"others_rate": round(others)} if load.hot_share else {}),
    }


def _rate(count: float, began: float, ended: float) -> float:
    return count / (ended - began) if began and ended > began else 0.0


def _used(at_start: Usage, warm: Usage, end: Usage, load: Load) -> dict[str, float]:
    """CPU in microseconds an event: of the whole run with start-up, and of its last part alone."""
    return {
        "cpu_us": round(end.cpu_s / load.events * 1e6),
        "warm_cpu_us": round((end.cpu_s - warm.cpu_s) / (load.events * (1 - WARM_FROM)) * 1e6),
        "start_cpu_s": round(at_start.cpu_s, 2),
        "peak_mb": round(end.peak_mb),
    }
