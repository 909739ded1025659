"""How many deliveries are parked now, for a status: what is known after a moment's reading, or nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Mapping

from services.bus.catalog import Topic
from services.bus.clock import Clock
from services.bus.place import Unreachable
from services.bus.settings import Settings
from services.operations.parked_view import open_view

BEGIN_S, READ_S = 3.0, 1.5
"""How long it may take to begin, and then how long outcomes are read on in a look. What was read stays read:
the next look goes on from there."""


class Unread(Exception):
    """There are more outcomes than could be read in time, or another process reads them now."""


async def count_parked(settings: Settings, catalog: Mapping[str, Topic], clock: Clock) -> dict[str, int]:
    """By biller. Raises Unread, Unreachable, KafkaException, and ConfigurationError where a topic lacks."""
    until: float | None = None
    try:
        with open_view(settings, catalog, clock) as view:
            async with asyncio.timeout(BEGIN_S) as waiting:

                def told(done: int, total: int | None) -> None:
                    nonlocal until
                    if until is None:
                        waiting.reschedule(None)  # from here on it ends between two reads alone
                        until = clock.monotonic() + READ_S
                    if clock.monotonic() > until and done != total:
                        raise Unread

                await view.refresh(told)
            return dict(sum((Counter({t.biller: t.count}) for t in view.tallies()), Counter[str]()))
    except TimeoutError:
        raise Unread from None
    except (OSError, sqlite3.Error) as error:
        raise Unreachable(f"{settings.state} cannot be used: {error}") from None
