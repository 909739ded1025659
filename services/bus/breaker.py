"""When to stop sending: a breaker per biller, so that a partner that is away is asked by one, not by all."""

import random
from dataclasses import dataclass

from services.bus import metrics
from services.bus.clock import Clock

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
PROBE_LIMIT_S = 60.0
"""After this long a probe that gave no answer counts as lost and another may go."""


@dataclass
class Opened:
    """Nothing is sent before the instant `until`, but the one that is out as the probe."""

    pause_s: float
    until: float
    probing: bool = False


class Breakers:
    """Closed until the first outage; open, one probe at a time goes through."""

    def __init__(self, lane: str, clock: Clock) -> None:
        self._lane = lane
        self._clock = clock
        self._open: dict[str, Opened] = {}
        self._answers: dict[str, int] = {}

    def wait(self, biller: str) -> float:
        """Seconds until the biller may be tried; 0 means go now and, while open, as the probe."""
        opened = self._open.get(biller)
        if opened is None:
            return 0.0
        now = self._clock.monotonic()
        if now < opened.until:
            left = opened.until - now
            if opened.probing:  # its answer comes long before its limit
                left = min(left, opened.pause_s)
            return left + random.uniform(0.05, 0.5)  # noqa: S311 - spreads retries
        opened.probing, opened.until = True, now + PROBE_LIMIT_S
        return 0.0

    def no_verdict(self, biller: str) -> None:
        """The probe ended without telling whether the partner is there: another may go soon."""
        opened = self._open.get(biller)
        if opened is not None and opened.probing:
            opened.probing = False
            opened.until = self._clock.monotonic() + opened.pause_s

    def is_open(self, biller: str) -> bool:
        return biller in self._open

    def failed(self, biller: str, retry_after: float | None = None) -> float:
        """An outage; answers the seconds until the next probe.

        What left before the breaker opened, or in one call with others, is the same outage and counts once.
        """
        opened, now = self._open.get(biller), self._clock.monotonic()
        wish = min(retry_after or 0.0, LONGEST_PAUSE_S)
        if opened is not None and not opened.probing:
            opened.until = max(opened.until, now + wish)
            return max(opened.until - now, 0.0) + random.uniform(0.05, 0.5)  # noqa: S311 - spreads retries
        pause = min(opened.pause_s * 2, LONGEST_PAUSE_S) if opened else FIRST_PAUSE_S
        chosen = max(pause * random.uniform(0.5, 1.0), wish)  # noqa: S311 - jitter
        self._open[biller] = Opened(pause, now + chosen)
        metrics.BREAKER_OPEN.labels(self._lane, biller).set(1)
        return chosen

    def answered(self, biller: str) -> None:
        """The partner gave any answer of its own: it is there."""
        self._answers[biller] = self._answers.get(biller, 0) + 1
        if self._open.pop(biller, None) is not None:
            metrics.BREAKER_OPEN.labels(self._lane, biller).set(0)

    def answers(self, biller: str) -> int:
        """How often the biller's partner has answered: it grows while only one record meets an outage."""
        return self._answers.get(biller, 0)
