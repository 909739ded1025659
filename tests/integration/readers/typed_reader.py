"""What a team writes with billbus-events; run by test_events_package in an environment without our services.

Arguments: broker, registry, group, day, and one JSON object of topic to the number of events to read. Prints
one JSON object: topic to the ids and records it read. Environment: KAFKA_USER, KAFKA_PASSWORD, KAFKA_CA.
"""

import asyncio
import json
import os
import sys
from contextlib import aclosing
from datetime import date

from billbus.events import BY_TOPIC
from billbus.events.reader import Login, read


async def main(kafka: str, registry: str, group: str, day: str, counts: dict[str, int]) -> None:
    user = os.environ.get("KAFKA_USER")
    login = Login(user, os.environ["KAFKA_PASSWORD"], os.environ.get("KAFKA_CA")) if user else None
    found: dict[str, list[object]] = {topic: [] for topic in counts}
    for topic, seen in found.items():
        since = date.fromisoformat(day)
        reading = read(BY_TOPIC[topic], kafka=kafka, registry=registry, group=group, since=since, login=login)
        async with aclosing(reading) as events:
            async for received in events:
                seen.append([received.id, received.event.as_record()])
                if len(seen) == counts[topic]:
                    break
    if "services" in sys.modules:
        sys.exit("something of ours was imported")
    sys.stdout.write(json.dumps(found, default=str))


if __name__ == "__main__":
    kafka, registry, group, day, counts = sys.argv[1:]
    asyncio.run(main(kafka, registry, group, day, json.loads(counts)))
