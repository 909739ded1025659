"""Closing what belongs to Kafka: bounded, and one step that fails keeps no other from being made."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from aiokafka.errors import KafkaError

log = structlog.get_logger()

CLOSE_LIMIT_S = 5.0


async def close(*steps: Callable[[], Awaitable[object]]) -> None:
    """Makes each step within its limit (seconds), whatever the brokers do.

    aiokafka lets the cancelling of its own fetch escape from `stop`: it looks like ours, and would end a
    shutdown half-way.
    """
    for step in steps:
        try:
            async with asyncio.timeout(CLOSE_LIMIT_S):
                await step()
        except (KafkaError, TimeoutError) as error:
            log.warning("not_closed", step=step.__qualname__, error=type(error).__name__)
        except asyncio.CancelledError:
            ours = asyncio.current_task()
            if ours is not None and ours.cancelling():
                raise
