"""Whether a log is still the one for which a commit was written.

A topic that was made anew, or a log that was cut off and grew again, has other records at the same offsets:
an old offset, still in range, would silently pass over its first ones. A commit therefore names the last
record that was seen, by its offset and the broker's timestamp of it.
"""

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from services.bus.membership import Broker, Gone
from services.bus.progress import Landmark


async def why_another_log(
    broker: Broker, partition: TopicPartition, landmark: Landmark | None, begin: int, end: int
) -> str:
    """Says why the log cannot be the one with that record, or ''; raises KafkaError or TimeoutError.

    A record that the retention took away proves nothing.
    """
    if landmark is None or landmark[0] < begin:
        return ""
    offset, timestamp = landmark
    if offset >= end:
        return f"the log ends at {end}, but had a record at {offset}: it was cut off or made anew"
    try:
        found = await broker.read(partition, offset, 1)
    except Gone:
        return ""  # by the retention, just now
    if not found:
        raise KafkaError(f"no record came from {partition.topic} {partition.partition} in time")
    if (found[0].offset, found[0].timestamp) == landmark:
        return ""
    return f"the record at {offset} is not the one of {timestamp} ms: the log was cut off or made anew"
