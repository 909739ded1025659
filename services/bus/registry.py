"""The schema registry: ids for our schemas, and the schemas behind other ids."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

PROBE_S = 1.0
NOT_REGISTERED = frozenset({40401, 40402, 40403})
"""The registry's own words for subject, version and schema; a proxy's 404 says nothing of the kind."""


class RegistryAway(Exception):
    """The registry gave no usable answer; never a reason to take a record for poison."""


class UnknownSchema(Exception):
    """The registry answered that it has no such schema."""


class Registry:
    """Asks a Confluent-compatible registry; the client is synchronous, so calls run in a thread.

    Args:
        url: base address, such as http://127.0.0.1:18081/apis/ccompat/v7.
        deadline_s: how long one question may take.
    """

    def __init__(self, url: str, deadline_s: float = 10) -> None:
        self._client = SchemaRegistryClient({"url": url, "timeout": deadline_s, "max.retries": 1})
        self._deadline_s = deadline_s * 2
        # a probe must not keep a thread for long
        self._probe = SchemaRegistryClient({"url": url, "timeout": PROBE_S, "max.retries": 0})

    async def id_of(self, topic: str, schema: Mapping[str, Any]) -> int:
        """The id under which this schema is registered for the topic's values.

        Raises:
            UnknownSchema: it is not registered; `billbus topics apply` does that.
            RegistryAway: no usable answer.
        """
        wanted = Schema(json.dumps(schema), "AVRO")
        found = await self._ask(self._client.lookup_schema, f"{topic}-value", wanted)
        return int(found.schema_id)

    async def schema(self, schema_id: int) -> dict[str, Any]:
        """The schema behind an id; raises as `id_of`."""
        found = await self._ask(self._client.get_schema, schema_id)
        return dict(json.loads(found.schema_str))

    async def answers(self) -> bool:
        """Whether it answers now; raises RegistryAway."""
        await self._ask(self._probe.get_subjects)
        return True

    def close(self) -> None:
        """Gives up its connections."""
        self._client.close()
        self._probe.close()

    async def _ask(self, question: Any, *arguments: Any) -> Any:
        try:
            async with asyncio.timeout(self._deadline_s):
                return await asyncio.to_thread(question, *arguments)
        except SchemaRegistryError as error:
            if error.error_code in NOT_REGISTERED:
                raise UnknownSchema(str(error)) from error
            raise RegistryAway(str(error)) from error
        except Exception as error:  # the client lets its HTTP library's own errors through
            raise RegistryAway(f"{type(error).__name__}: {error}") from error
