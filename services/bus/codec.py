"""Events to bytes and back: Avro in the Confluent wire format (magic byte, schema id, body)."""

import asyncio
import io
import struct
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

from fastavro import parse_schema, schemaless_reader

from services.bus.avro_writer import Write, record_writer
from services.bus.registry import Registry, UnknownSchema
from services.events import BY_TOPIC, Event

HEADER = struct.Struct(">bI")
DECIDING = ("type", "fields", "symbols", "items", "values", "size", "logicalType", "precision", "scale")


class Undecodable(Exception):
    """These bytes are no event of this topic, and no waiting will change that."""


class Codec:
    """Encodes with our own schemas, decodes with the writer's.

    Args:
        schemas: our schema of each topic.
        registry: asked once at start for our ids, later for ids not seen before.
    """

    def __init__(self, schemas: Mapping[str, dict[str, Any]], registry: Registry) -> None:
        self._registry = registry
        self._ours: dict[str, Any] = {topic: parse_schema(schema) for topic, schema in schemas.items()}
        self._raw = schemas
        self._ids: dict[str, int] = {}
        self._writers: dict[int, Any] = {}
        self._write: dict[str, Write] = {topic: record_writer(schema) for topic, schema in schemas.items()}

    async def start(self) -> None:
        """Learns the ids of our schemas; raises RegistryAway or UnknownSchema."""
        self._ids = dict(zip(self._raw, await asyncio.gather(*map(self._confirm, self._raw)), strict=True))
        self._writers = {self._ids[topic]: parsed for topic, parsed in self._ours.items()}

    async def _confirm(self, topic: str) -> int:
        """The id of our schema, if that schema is really behind it: registries have mixed up both."""
        schema_id = await self._registry.id_of(topic, self._raw[topic])
        behind = await self._registry.schema(schema_id)
        if meaning(behind) != meaning(self._raw[topic]):
            raise UnknownSchema(f"id {schema_id} of {topic} is another schema at the registry")
        return schema_id

    async def answers(self) -> bool:
        """Whether the registry answers now; raises RegistryAway."""
        return await self._registry.answers()

    def close(self) -> None:
        """Gives the registry's connections back."""
        self._registry.close()

    def encode(self, event: Event) -> bytes:
        """The event's value; ValueError for an instant without a timezone or money not to the cent."""
        topic = event.TOPIC
        return HEADER.pack(0, self._ids[topic]) + self._write[topic](event)

    async def decode(self, topic: str, value: bytes | None, **stamped: datetime) -> Event:
        """The event in a record of `topic`, with the instants given for fields that others decide.

        Raises:
            Undecodable: not our wire format, another schema's bytes, or an id nobody registered.
            RegistryAway: the id is new and the registry gives no answer; try again later.
        """
        if value is None or len(value) < HEADER.size or value[0] != 0:
            raise Undecodable("not in the Confluent wire format")
        schema_id = HEADER.unpack_from(value)[1]
        writer = self._writers.get(schema_id)
        if writer is None:
            writer = await self._learn(topic, schema_id)
        if writer["name"] != self._ours[topic]["name"]:
            raise Undecodable(f"schema {schema_id} is {writer['name']}, expected {self._ours[topic]['name']}")
        try:
            body = io.BytesIO(value)
            body.seek(HEADER.size)
            record = cast("dict[str, Any]", schemaless_reader(body, writer, self._ours[topic]))
            if body.tell() != len(value):
                raise ValueError("more bytes than the schema has")
            return BY_TOPIC[topic].from_record(record | stamped if stamped else record)
        except Exception as error:  # any failure of the reader means the bytes are not what they claim
            raise Undecodable(f"{type(error).__name__} while reading schema {schema_id}") from error

    async def _learn(self, topic: str, schema_id: int) -> Any:
        try:
            schema = await self._registry.schema(schema_id)
        except UnknownSchema as error:
            raise Undecodable(f"the registry has no schema {schema_id}") from error
        try:
            parsed = parse_schema(schema)
        except Exception as error:  # a schema that is no Avro record is as useless as none
            raise Undecodable(f"schema {schema_id} of {topic} is not usable") from error
        self._writers[schema_id] = parsed
        return parsed


def meaning(schema: Any) -> Any:
    """What of a schema decides how bytes are read, decimals and instants included."""
    if isinstance(schema, list):
        return [meaning(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    name = schema.get("name", "")
    if "namespace" in schema and "." not in name:
        name = f"{schema['namespace']}.{name}"
    kept = {key: meaning(schema[key]) for key in DECIDING if key in schema}
    return kept | {"name": name} if name else kept
