"""How far this machine's clock is from the broker's: the broker stamps records, so one is written."""

from collections.abc import Mapping
from datetime import datetime

from services.bus.catalog import Topic
from services.bus.clock import Clock
from services.bus.settings import Settings
from services.operations.audit import Act, auditing


async def skew_s(
    settings: Settings, catalog: Mapping[str, Topic], clock: Clock, operator: str
) -> tuple[float, float]:
    """Seconds by which our clock is ahead of the broker's (negative: behind), and the doubt in it.

    Writes two audit records that say who asked. Raises Unreachable, and what the Kafka client raises.
    """
    act = Act(operator=operator, action="doctor", target="broker clock", reason="checks of billbus doctor")
    async with auditing(settings, catalog, clock) as audit:
        # the first one also fetches metadata and connects, so only the second is timed
        await audit.told(act, "begun")
        sent = clock.now()
        stamped = await audit.stamped(act, "compared")
        received = clock.now()
    return compare(sent, stamped, received)


def compare(sent: datetime, stamped: datetime, received: datetime) -> tuple[float, float]:
    """How far ahead the clock is that told `sent` and `received`, and by how much that may be wrong."""
    ours = (sent.timestamp() + received.timestamp()) / 2
    # a stamp has whole milliseconds
    return ours - stamped.timestamp(), (received - sent).total_seconds() / 2 + 0.001
