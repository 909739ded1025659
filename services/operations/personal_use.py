"""Who looked at personal data, on the audit topic: before it is shown, never what was shown."""

from services.bus.catalog import load_catalog
from services.bus.clock import Clock
from services.bus.settings import Settings
from services.operations.audit import Act, auditing

REASON = "--pii was asked for"


async def note_personal_data(
    settings: Settings, clock: Clock, operator: str, what: str, *, biller: str | None
) -> None:
    """Returns once the bus has it; raises Unreachable. `what` is the command, and the topic it reads."""
    act = Act(operator=operator, action="show personal data", target=what, reason=REASON, biller=biller)
    async with auditing(settings, load_catalog(settings.schemas), clock) as audit:
        await audit.told(act, "begun")
