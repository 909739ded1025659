"""AsyncAPI 3.0 of the topics in schemas/: of the bus as a whole, and of one service.

A channel a topic, a `send` operation for each service that writes it and a `receive` for each one that reads
it, ours and other teams'. What AsyncAPI has no word for is an `x-`.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter

from services.bus.catalog import DLQ, REPLAY, Consumer, Topic
from services.bus.settings import ROOT
from services.bus.topics import Wanted, wanted_topics

BINDING = "0.5.0"
REPLICAS = 3
AVRO = "application/vnd.apache.avro+json;version=1.9.0"
CONTENT_TYPE = "application/avro"
SAMPLE_TIME = "2026-11-20T15:05:01.000000+00:00"
DESCRIPTION = (
    "Every topic of the bus between IMT MIPS/APPS and InvoiceCloud. Values are Avro in the Confluent wire "
    "format, subject `<topic>-value`. In the examples decimals, dates and instants are written as text. "
    "Made from `schemas/`; change that, not this."
)
LISTS, NUMBERS = {"cleanup.policy"}, {"retention.ms", "delete.retention.ms", "max.message.bytes"}
"""The settings of a topic that the Kafka binding types; the others are text, as Kafka has them."""


def of_the_bus(catalog: Mapping[str, Topic], schemas: Path) -> dict[str, Any]:
    """The document of every topic; its examples are read from the folder of the topics' contracts."""
    wanted = wanted_topics(catalog, REPLICAS)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "billbus", "version": version, "description": DESCRIPTION},
        "defaultContentType": CONTENT_TYPE,
        "servers": {"kafka": _server()},
        "channels": {topic.name: _channel(topic, wanted[topic.name]) for topic in catalog.values()},
        "operations": dict(pair for topic in catalog.values() for pair in _operations(topic)),
        "components": {
            "messages": {topic.schema["name"]: _message(topic, schemas) for topic in catalog.values()}
        },
    }


def of_service(whole: dict[str, Any], service: str) -> dict[str, Any]:
    """The document of what one service sends and receives, out of that of the bus."""
    operations = {
        name: operation
        for name, operation in whole["operations"].items()
        if operation["x-service"] == service
    }
    topics = {operation["channel"]["$ref"].rsplit("/", 1)[1] for operation in operations.values()}
    channels = {name: channel for name, channel in whole["channels"].items() if name in topics}
    messages = {message for channel in channels.values() for message in channel["messages"]}
    return whole | {
        "info": whole["info"] | {"title": f"billbus {service}"},
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": {
                name: message for name, message in whole["components"]["messages"].items() if name in messages
            }
        },
    }


def asyncapi_route(service: str, catalog: Mapping[str, Topic], schemas: Path) -> APIRouter:
    """/asyncapi.json, beside /openapi.json: the service's own topics, as that one has its own paths."""
    router = APIRouter(tags=["operations"])

    @lru_cache(maxsize=1)
    def document() -> dict[str, Any]:
        return of_service(of_the_bus(catalog, schemas), service)

    @router.get("/asyncapi.json", summary="The topics that this service writes and reads, AsyncAPI 3.0")
    def asyncapi() -> dict[str, Any]:  # no coroutine: it reads files, in a thread
        return document()

    return router


def _server() -> dict[str, Any]:
    about = "The brokers to begin with, as BILLBUS_BOOTSTRAP has them; here those of `make up`."
    return {
        "host": "{bootstrap}",
        "protocol": "kafka",
        "variables": {"bootstrap": {"default": "127.0.0.1:19092", "description": about}},
    }


def _channel(topic: Topic, wanted: Wanted) -> dict[str, Any]:
    beside = {REPLAY: topic.replay, DLQ: topic.dlq}
    return {
        "address": topic.name,
        "title": topic.title,
        "description": topic.description,
        "messages": {topic.schema["name"]: {"$ref": f"#/components/messages/{topic.schema['name']}"}},
        "tags": [{"name": topic.stability}, *([{"name": "pii"}] if topic.pii else [])],
        "bindings": {"kafka": _kafka(wanted)},
        "x-owner": topic.owner,
        "x-stability": topic.stability,
        "x-since": topic.since,
        "x-deprecated": vars(topic.deprecated) if topic.deprecated else None,
        "x-key": topic.key,
        "x-pii": topic.pii,
        "x-subject": topic.subject,
        "x-schema-versions": len(topic.versions),
        "x-beside": [topic.name + suffix for suffix, there in beside.items() if there],
    }


def _kafka(wanted: Wanted) -> dict[str, Any]:
    return {
        "topic": wanted.name,
        "partitions": wanted.partitions,
        "replicas": REPLICAS,
        "topicConfiguration": {name: _setting(name, text) for name, text in sorted(wanted.settings.items())},
        "bindingVersion": BINDING,
    }


def _setting(name: str, text: str) -> str | int | list[str]:
    if name in LISTS:
        return text.split(",")
    return int(text) if name in NUMBERS else text


def _message(topic: Topic, schemas: Path) -> dict[str, Any]:
    message = {
        "name": topic.schema["name"],
        "title": topic.title,
        "summary": topic.schema["doc"],
        "contentType": CONTENT_TYPE,
        "deprecated": topic.deprecated is not None,
        "payload": {"schemaFormat": AVRO, "schema": topic.schema},
        "bindings": {"kafka": _key(topic)},
        "examples": list(_examples(topic, schemas)),
    }
    if topic.cleanup == "delete":  # records of compacted topics are a table's, and have no headers
        message["headers"] = _headers(topic)
    return message


def _key(topic: Topic) -> dict[str, Any]:
    return {
        "key": {"type": "string", "description": f"`{topic.key}`, UTF-8."},
        "schemaIdLocation": "payload",
        "schemaIdPayloadEncoding": "confluent",
        "schemaLookupStrategy": "TopicNameStrategy",
        "bindingVersion": BINDING,
    }


def _headers(topic: Topic) -> dict[str, Any]:
    """CloudEvents 1.0 in Kafka's binary mode, and W3C trace context."""
    properties = {
        "ce_specversion": {"type": "string", "const": "1.0"},
        "ce_type": {"type": "string", "const": topic.name},
        "ce_source": {"type": "string", "enum": [f"billbus/{producer}" for producer in topic.producers]},
        "ce_id": {"type": "string", "format": "uuid", "description": "The same for the same fact: UUIDv5."},
        "ce_time": {"type": "string", "format": "date-time", "description": "When it was published."},
        "content-type": {"type": "string", "const": CONTENT_TYPE},
    }
    trace = {"type": "string", "description": "W3C trace context, where the record is part of a trace."}
    return {
        "type": "object",
        "required": list(properties),
        "properties": {**properties, "traceparent": trace},
    }


def _examples(topic: Topic, schemas: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((schemas / topic.name / "examples").glob("valid-*.json")):
        stated = json.loads(path.read_text(encoding="utf-8"))
        example = {"name": path.stem, "summary": stated["about"], "payload": stated["value"]}
        if topic.cleanup == "delete":
            example["headers"] = {
                "ce_specversion": "1.0",
                "ce_type": topic.name,
                "ce_source": f"billbus/{topic.producers[0]}",
                "ce_id": stated["ce_id"],
                "ce_time": SAMPLE_TIME,
                "content-type": CONTENT_TYPE,
            }
        yield example


def _operations(topic: Topic) -> Iterator[tuple[str, dict[str, Any]]]:
    for producer in topic.producers:
        yield f"{producer}.sends.{topic.name}", _operation(topic, "send", producer)
    for consumer in topic.consumers:
        reads = _operation(topic, "receive", consumer.name) | _reader(consumer)
        yield f"{consumer.name}.receives.{topic.name}", reads


def _operation(topic: Topic, action: str, service: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "title": f"{service} {action}s {topic.short}",
        "tags": [{"name": service}],
        "messages": [{"$ref": f"#/channels/{topic.name}/messages/{topic.schema['name']}"}],
        "x-service": service,
    }


def _reader(consumer: Consumer) -> dict[str, Any]:
    fields = {} if consumer.fields is None else {"x-fields": list(consumer.fields)}
    return {"x-contact": consumer.contact, **fields}
