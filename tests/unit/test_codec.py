"""Events to bytes and back: money and instants exact or refused, the writer's schema, and none of another."""

import copy
import io
import struct
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, cast

import pytest
from fastavro import parse_schema, schemaless_writer

from deploy.local.processes import ROOT
from services.bus.catalog import load_catalog
from services.bus.codec import Codec, Undecodable
from services.bus.registry import Registry, RegistryAway, UnknownSchema
from services.events import PaymentReceived
from tests.unit.payments_sample import a_payment

CATALOG = load_catalog(ROOT / "schemas")
TOPIC = PaymentReceived.TOPIC


class Schemas:
    """A registry in memory; `away` while it gives no answer."""

    def __init__(self) -> None:
        self.by_id: dict[int, Any] = {}
        self.away = False
        self.asked = 0

    async def id_of(self, topic: str, schema: Mapping[str, Any]) -> int:
        del topic
        self.by_id[len(self.by_id) + 1] = schema
        return len(self.by_id)

    async def schema(self, schema_id: int) -> Any:
        self.asked += 1
        if self.away:
            raise RegistryAway("away")
        if schema_id not in self.by_id:
            raise UnknownSchema(str(schema_id))
        return self.by_id[schema_id]


async def a_codec(schemas: Schemas) -> Codec:
    codec = Codec({TOPIC: CATALOG[TOPIC].schema}, cast("Registry", schemas))
    await codec.start()
    return codec


def written(schema_id: int, schema: Any, record: Mapping[str, Any]) -> bytes:
    out = io.BytesIO()
    schemaless_writer(out, parse_schema(copy.deepcopy(schema)), record)
    return struct.pack(">bI", 0, schema_id) + out.getvalue()


@pytest.mark.parametrize(
    "amount", ["9999999999.99", "-9999999999.99", "-0.01", "0", "0.10", "1E+2", "1E-2", "120.5"]
)
async def test_money_comes_back_to_the_cent(amount: str) -> None:
    codec = await a_codec(Schemas())
    event = replace(a_payment(), amount=Decimal(amount))
    assert await codec.decode(TOPIC, codec.encode(event)) == event


async def test_an_instant_that_another_decides_takes_the_place_of_the_writers() -> None:
    codec, at = await a_codec(Schemas()), datetime(2026, 11, 24, 1, tzinfo=UTC)
    read = await codec.decode(TOPIC, codec.encode(a_payment()), received_at=at)
    assert read == replace(a_payment(), received_at=at)


@pytest.mark.parametrize("amount", ["10000000000.00", "1.234", "0.001", "NaN", "Infinity"])
async def test_money_that_does_not_fit_is_never_cut_to_fit(amount: str) -> None:
    codec = await a_codec(Schemas())
    with pytest.raises((ValueError, TypeError)):
        codec.encode(replace(a_payment(), amount=Decimal(amount)))


async def test_an_instant_without_a_zone_is_refused_and_one_with_a_zone_is_kept() -> None:
    codec = await a_codec(Schemas())
    with pytest.raises(ValueError, match="timezone"):
        codec.encode(replace(a_payment(), paid_at=datetime(2026, 11, 1, 1, 30)))
    there = datetime.fromisoformat("2026-11-01T01:30:00.999-06:00")
    back = await codec.decode(TOPIC, codec.encode(replace(a_payment(), paid_at=there)))
    assert isinstance(back, PaymentReceived)
    assert back.paid_at == there


async def test_a_new_field_in_mid_stream_is_read_with_its_writer_s_schema() -> None:
    schemas = Schemas()
    codec = await a_codec(schemas)
    newer = copy.deepcopy(CATALOG[TOPIC].schema)
    newer["fields"].insert(0, {"name": "brand_new", "type": ["null", "string"], "default": None, "doc": "-"})
    schemas.by_id[99] = newer
    event = a_payment()
    assert await codec.decode(TOPIC, written(99, newer, event.as_record() | {"brand_new": "x"})) == event


async def test_one_id_for_two_schemas_is_noticed_by_name_and_at_the_start_by_content() -> None:
    schemas = Schemas()
    codec = await a_codec(schemas)
    schemas.by_id[99] = CATALOG["billing.setting.changed.v1"].schema
    with pytest.raises(Undecodable, match="SettingChanged, expected"):
        await codec.decode(TOPIC, struct.pack(">bI", 0, 99) + b"\0" * 30)
    cents = copy.deepcopy(CATALOG[TOPIC].schema)
    for each in cents["fields"]:
        if each["name"] == "amount":
            each["type"]["scale"] = 4

    class Mixed(Schemas):
        async def schema(self, schema_id: int) -> Any:
            found = await super().schema(schema_id)
            return cents if found["name"] == "PaymentReceived" else found

    with pytest.raises(UnknownSchema, match="another schema"):
        await a_codec(Mixed())


async def test_more_bytes_than_the_schema_has_are_no_event() -> None:
    codec = await a_codec(Schemas())
    with pytest.raises(Undecodable):
        await codec.decode(TOPIC, codec.encode(a_payment()) + b"\0")


async def test_a_registry_that_is_away_is_waited_for_and_its_no_is_asked_for_again() -> None:
    schemas = Schemas()
    codec = await a_codec(schemas)
    newer = CATALOG[TOPIC].schema
    value = written(99, newer, a_payment().as_record())
    schemas.away = True
    with pytest.raises(RegistryAway):
        await codec.decode(TOPIC, value)
    schemas.away = False
    with pytest.raises(Undecodable, match="no schema 99"):
        await codec.decode(TOPIC, value)
    schemas.by_id[99] = newer
    assert await codec.decode(TOPIC, value) == a_payment()


@pytest.mark.parametrize("value", [None, b"", b"\0", b"\1\0\0\0\1x", b"plain text", b"\0\0\0\0\1"])
async def test_what_is_no_event_is_undecodable_whatever_it_is(value: bytes | None) -> None:
    codec = await a_codec(Schemas())
    with pytest.raises(Undecodable):
        await codec.decode(TOPIC, value)
