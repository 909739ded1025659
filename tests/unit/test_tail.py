"""billbus tail without a broker: what it refuses, what it hides, and how a line reads."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import cast
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from services.bus.catalog import load_catalog
from services.bus.codec import Codec
from services.bus.registry import Registry
from services.bus.settings import ROOT
from services.cli.app import cli
from services.cli.records import instant_of, readable
from services.cli.tail import _json, _text
from services.operations.personal_data import masked, masked_key
from services.operations.tail import Asked, Line, Tail
from services.operations.topic_reader import TopicReader
from tests.unit.kafka_records import Reader, Record

CHICAGO = ZoneInfo("America/Chicago")
CATALOG = load_catalog(ROOT / "schemas")
TOPIC = CATALOG["billing.payment.received.v1"]


@pytest.fixture(autouse=True)
def asked_for_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["billbus", "--json"])
    monkeypatch.delenv("BILLBUS_PERSONAL_DATA", raising=False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["payment.recieved"],
            "There is no topic 'payment.recieved'; did you mean payment.received or ",
        ),
        (["zzz"], "There is no topic 'zzz'; there are account.current, balance.changed, "),
        (["payment.received", "--biller", "nobody"], "There is no biller 'nobody'; known are acme, "),
        (["payment.received", "--since", "2026-11-20T09:00:00"], "--since: '2026-11-20T09:00:00' is neither"),
        (["batch.closed.replay"], "batch.closed has no .replay; there are invoice.issued.replay, "),
        (["account.current.dlq"], "account.current has no .dlq; there are "),
        (["payment.recieved.dlq"], "There is no topic 'payment.recieved'; did you mean payment.received or "),
        (["payment.received", "--pii"], "Personal data is not shown here: BILLBUS_PERSONAL_DATA=true allows"),
        (
            ["batch.closed", "--account", "1"],
            "billing.batch.closed.v1 is kept by biller and knows no account",
        ),
    ],
)
def test_what_cannot_be_shown_is_exit_code_2_and_one_sentence(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(cli, ["tail", *arguments, "--json"])
    assert result.exit_code == 2
    (sentence,) = json.loads(result.stdout)["errors"]
    assert sentence.startswith(said)


def test_a_day_begins_at_midnight_in_the_zone_and_an_instant_keeps_its_offset() -> None:
    assert instant_of("2026-11-20", CHICAGO) == datetime(2026, 11, 20, 6, tzinfo=UTC)
    assert instant_of("2026-07-01", CHICAGO) == datetime(2026, 7, 1, 5, tzinfo=UTC)
    assert instant_of("2026-11-20T09:05:00-06:00", UTC) == datetime(2026, 11, 20, 15, 5, tzinfo=UTC)


def test_values_on_a_terminal_are_exact_and_cannot_steer_it() -> None:
    assert readable(Decimal("110.00"), CHICAGO) == "110.00"
    assert readable(date(2026, 11, 20), CHICAGO) == "2026-11-20"
    assert readable(datetime(2026, 11, 20, 15, 5, 0, 21_000, UTC), CHICAGO) == "2026-11-20T09:05:00.021-06:00"
    assert readable("Müller", CHICAGO) == '"Müller"'
    assert readable("\x1b[2J\x9b2J", CHICAGO) == '"\\u001b[2J\\u009b2J"'


def test_every_field_marked_as_personal_is_hidden_also_in_what_lies_inside() -> None:
    record = {
        "biller": "acme",
        "account": "0001234567",
        "applied": [{"indicator": "autopay", "number": "HO-77", "value": True}],
    }
    schema = {
        "type": "record",
        "fields": [
            {"name": "biller", "type": "string"},
            {"name": "account", "type": "string", "pii": True},
            {
                "name": "applied",
                "type": {
                    "type": "array",
                    "items": {
                        "type": "record",
                        "fields": [
                            {"name": "indicator", "type": "string"},
                            {"name": "number", "type": "string", "pii": True},
                            {"name": "value", "type": ["null", "boolean"]},
                        ],
                    },
                },
            },
        ],
    }
    assert masked(schema, record) == {
        "biller": "acme",
        "account": "***567",
        "applied": [{"indicator": "autopay", "number": "***", "value": True}],
    }


def test_lists_are_hidden_item_by_item_and_what_is_not_there_stays_so() -> None:
    fields = [
        {"name": "candidates", "type": {"type": "array", "items": "string"}, "pii": True},
        {"name": "payer_name", "type": ["null", "string"], "pii": True},
    ]
    schema = {"type": "record", "fields": fields}
    shown = masked(schema, {"candidates": ("055002", "55002"), "payer_name": None})
    assert shown == {"candidates": ["***", "***"], "payer_name": None}


def test_a_key_shows_the_biller_and_the_accounts_last_characters() -> None:
    assert masked_key("acme/0001234567") == "acme/***567"
    assert masked_key("acme") == "acme"


async def lines_of(asked: Asked, *given: Record) -> list[Line]:
    registry = Registry("http://127.0.0.1:1")
    try:
        codec = Codec({TOPIC.name: TOPIC.schema}, registry)
        tail = Tail(cast("TopicReader", Reader(*given)), codec, asked)
        return [line async for line in tail.lines(lambda: False)]
    finally:
        registry.close()


async def test_what_cannot_be_decoded_is_said_in_its_place_and_the_rest_goes_on() -> None:
    given = [Record(b"acme/0001234567", b"not ours"), Record(b"acme/0001234567", None)]
    broken, forgotten = await lines_of(Asked(topic=TOPIC), *given)
    assert broken.unreadable == "not in the Confluent wire format"
    assert (broken.key, broken.partition, broken.offset, broken.id) == ("acme/***567", 3, 7, "an-id")
    assert (forgotten.value, forgotten.unreadable) == (None, None)
    assert forgotten.stored.microsecond == 21_000


ORIGIN = (("billbus_origin_partition", b"3"), ("billbus_origin_offset", b"41"))


async def test_a_dead_letter_says_why_and_from_where_and_shows_its_bytes_to_those_alone_who_may() -> None:
    headers = (*ORIGIN, ("billbus_reason", b"\x1b[2Jno schema 7"), ("billbus_lane", b"payments.post"))
    letters = [
        Record(b"acme/0001234567", b"Ada Example " * 1000, headers=headers),
        Record(b"0001234567", b"x"),
    ]
    told, odd = await lines_of(Asked(topic=TOPIC, suffix=".dlq"), *letters)
    assert (told.value, told.unreadable, told.size, told.raw) == (None, None, 12_000, None)
    assert told.beside is not None
    assert (told.beside.origin, told.beside.lane) == ("3@41", "payments.post")
    assert (told.key, odd.key) == ("acme/***567", "***567")
    text = _text(CHICAGO)(told)
    assert (
        '3@7  acme/***567  origin=3@41  reason="\\u001b[2Jno schema 7"  lane="payments.post"  size=12000'
        in text
    )
    shown, _ = await lines_of(Asked(topic=TOPIC, suffix=".dlq", personal_data=True), *letters)
    assert shown.raw == (b"Ada Example " * 1000)[:2048].hex()


async def test_a_replayed_record_says_where_it_first_stood_and_who_wanted_what() -> None:
    headers = (*ORIGIN, ("billbus_run", b"r-1"), ("billbus_act", b"retry"), ("billbus_attempt", b"2"))
    (line,) = await lines_of(
        Asked(topic=TOPIC, suffix=".replay"), Record(b"acme/0001234567", None, headers=headers)
    )
    told = json.loads(_json(Asked(topic=TOPIC, suffix=".replay"))(line))
    assert told["topic"] == "billing.payment.received.v1.replay"
    assert {name: told[name] for name in ("origin", "run", "act", "attempt", "reason", "lane")} == {
        "origin": "3@41", "run": "r-1", "act": "retry", "attempt": "2", "reason": None, "lane": None,
    }  # fmt: skip
    assert "size" not in told


async def test_the_key_decides_whose_record_it_is() -> None:
    given = [Record(key, None) for key in (b"acme/1", b"acme/2", b"birch/1", b"acme")]
    shown = Asked(topic=TOPIC, biller="acme", account="1", personal_data=True)
    assert [line.key for line in await lines_of(shown, *given)] == ["acme/1"]
    shown = Asked(topic=TOPIC, biller="acme", personal_data=True)
    assert [line.key for line in await lines_of(shown, *given)] == ["acme/1", "acme/2", "acme"]
