"""Personal data in records that a person looks at: hidden by what the schema says of each field."""

from collections.abc import Mapping
from typing import Any

from services.bus.log import mask_account

HIDDEN = "***"


def masked(avro: Any, value: Any) -> Any:
    """A value of an Avro type with every field hidden that is marked `pii`; null and empty stay."""
    if isinstance(avro, list):
        return None if value is None else masked(next(kind for kind in avro if kind != "null"), value)
    if not isinstance(avro, Mapping):
        return value
    if avro["type"] == "array":
        return [masked(avro["items"], item) for item in value]
    if avro["type"] != "record":
        return value
    return {field["name"]: _field(field, value[field["name"]]) for field in avro["fields"]}


def masked_key(key: str) -> str:
    """A record's key with the account's last characters alone."""
    biller, slash, account = key.partition("/")
    return f"{biller}/{mask_account(account)}" if slash else key


def _field(field: Mapping[str, Any], value: Any) -> Any:
    if not field.get("pii"):
        return masked(field["type"], value)
    if not value:
        return value
    if isinstance(value, list | tuple):
        return [HIDDEN for _ in value]
    return mask_account(value) if field["name"] == "account" else HIDDEN
