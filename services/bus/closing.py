"""Kafka's clients leave nothing behind: closing is bounded, and a step that fails keeps no other from it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import KafkaError

log = structlog.get_logger()

CLOSE_LIMIT_S = 5.0
COORDINATOR_TASKS = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_reset_committed_task")


async def close(*steps: Callable[[], Awaitable[object]]) -> None:
    """Makes each step within its limit (seconds), whatever the brokers do.

    aiokafka lets the cancelling of its own fetch escape from `stop`: it looks like ours, and would end a
    shutdown half-way.
    """
    ours = asyncio.current_task()
    asked = ours.cancelling() if ours is not None else 0
    for step in steps:
        try:
            async with asyncio.timeout(CLOSE_LIMIT_S):
                await step()
        except (KafkaError, TimeoutError) as error:
            log.warning("not_closed", step=step.__qualname__, error=type(error).__name__)
        except asyncio.CancelledError:
            if ours is not None and ours.cancelling() > asked:
                raise


async def start_consumer(consumer: AIOKafkaConsumer) -> None:
    """Starts it; raises KafkaError. Whoever is cancelled meanwhile leaves nothing of it either.

    Cancelled itself, aiokafka would forget the connection by which it looks for the brokers.
    """
    starting = asyncio.ensure_future(consumer.start())
    try:
        await asyncio.shield(starting)
    except BaseException:
        await close(lambda: asyncio.wait([starting]))
        starting.cancel()
        await stop_consumer(consumer)
        raise


async def stop_consumer(consumer: AIOKafkaConsumer) -> None:
    """Stops it within the limits, and leaves nothing of it: no connection, no task that would make one."""
    await close(consumer.stop, lambda: end_tasks(_tasks_of(consumer)), consumer._client.close)


async def stop_producer(producer: AIOKafkaProducer) -> None:
    """Sends what it still holds within the limit, and leaves nothing of it."""
    await close(producer.stop, producer._sender.close, producer.client.close)


async def end_tasks(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels what still runs, and returns when all has ended.

    One that is ending already is left to it: cancelled a second time it would leave its own closing undone.
    """
    left = [task for task in tasks if not task.done()]
    for task in left:
        if not task.cancelling():
            task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


def _tasks_of(consumer: AIOKafkaConsumer) -> list[asyncio.Task[Any]]:
    """What `stop` leaves running when it is cut short, or when a fetch of its own ends it half-way."""
    fetcher, coordinator = consumer._fetcher, consumer._coordinator
    named = [getattr(coordinator, name, None) for name in COORDINATOR_TASKS]
    fetching = [fetcher._fetch_task, *fetcher._pending_tasks] if fetcher is not None else []
    return [task for task in (*named, *fetching) if task is not None]
