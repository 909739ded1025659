"""Time, injected: everything that waits or stamps asks a Clock."""

import time
from datetime import UTC, datetime


class Clock:
    """The system's clock; tests put another in its place."""

    def now(self) -> datetime:
        """The current instant, UTC, cut to the millisecond that Avro carries."""
        return datetime.fromtimestamp(time.time_ns() // 1_000_000 / 1000, UTC)

    def monotonic(self) -> float:
        """Seconds that never go back, for deadlines and ages."""
        return time.monotonic()
