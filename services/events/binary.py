"""The parts of Avro's binary form that are too long to stand in generated code.

What is generated (services/events/wire.py) reads and writes one event several times as fast as a reader that
interprets the schema. Readers take the bytes and where to begin, and answer with where they ended. Bytes that
are not what they claim raise ValueError, IndexError or UnicodeDecodeError.
"""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import TypeVar

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EPOCH_DAY = date(1970, 1, 1).toordinal()
LENGTH = tuple(bytes([length << 1]) for length in range(64))
"""How a length below 64 is written: one byte."""
LONGEST_VARINT = 10

T = TypeVar("T")


class NotThisEvent(ValueError):
    """The bytes are not what the schema says."""


def fingerprint(schema: object) -> str:
    """Tells one schema from another, whatever its layout in a file."""
    return hashlib.sha256(json.dumps(schema, sort_keys=True).encode()).hexdigest()[:16]


def read_long(body: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    for place in range(at, at + LONGEST_VARINT):
        byte = body[place]
        value |= (byte & 127) << shift
        if byte < 128:
            return (value >> 1) ^ -(value & 1), place + 1
        shift += 7
    raise NotThisEvent("a number of more than 64 bits")


def read_bytes(body: bytes, at: int) -> tuple[bytes, int]:
    length, at = read_long(body, at)
    if not 0 <= length <= len(body) - at:
        raise NotThisEvent("a length beyond the end")
    return body[at : at + length], at + length


def read_text(body: bytes, at: int) -> tuple[str, int]:
    text, at = read_bytes(body, at)
    return text.decode(), at


def read_decimal(body: bytes, at: int, limit: int, scale: int) -> tuple[Decimal, int]:
    """An amount whose digits without the point are below `limit`."""
    length = body[at]
    if length & 129:
        raise NotThisEvent("an amount of too many digits")
    end = at + 1 + (length >> 1)
    unscaled = int.from_bytes(body[at + 1 : end], "big", signed=True)
    if not -limit < unscaled < limit:
        raise NotThisEvent("an amount of too many digits")
    return Decimal(unscaled).scaleb(-scale), end


def read_instant(body: bytes, at: int) -> tuple[datetime, int]:
    milliseconds, at = read_long(body, at)
    return EPOCH + timedelta(milliseconds=milliseconds), at


def read_date(body: bytes, at: int) -> tuple[date, int]:
    days, at = read_long(body, at)
    return date.fromordinal(days + EPOCH_DAY), at


def read_array(
    body: bytes, at: int, read: Callable[[bytes, int], tuple[T, int]]
) -> tuple[tuple[T, ...], int]:
    items: list[T] = []
    while True:
        count, at = read_long(body, at)
        if count == 0:
            return tuple(items), at
        if count < 0:  # a block that tells its size as well
            count, (_, at) = -count, read_long(body, at)
        if count > len(body) - at:
            raise NotThisEvent("an array beyond the end")
        for _ in range(count):
            item, at = read(body, at)
            items.append(item)


def write_long(value: int) -> bytes:
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError("a number of more than 64 bits")
    left = (value << 1) ^ (value >> 63)
    out = bytearray()
    while left > 127:
        out.append(left & 127 | 128)
        left >>= 7
    out.append(left)
    return bytes(out)


def write_bytes(value: bytes) -> bytes:
    length = len(value)
    return (LENGTH[length] if length < 64 else write_long(length)) + value


def write_text(value: str) -> bytes:
    return write_bytes(value.encode())


def write_decimal(value: Decimal, limit: int, scale: int) -> bytes:
    """ValueError for an amount that the schema cannot hold exactly; `limit` as for `read_decimal`."""
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < -scale:
        raise ValueError(f"not an amount of {scale} decimals")
    unscaled = int(value.scaleb(scale))
    if not -limit < unscaled < limit:
        raise ValueError("an amount of too many digits")
    return write_bytes(unscaled.to_bytes((unscaled.bit_length() + 8) // 8, "big", signed=True))


def write_instant(value: datetime, name: str) -> bytes:
    """ValueError for an instant without a timezone."""
    if value.tzinfo is None:
        raise ValueError(f"{name} has no timezone")
    since = value - EPOCH
    return write_long(since.days * 86_400_000 + since.seconds * 1000 + since.microseconds // 1000)


def write_date(value: date) -> bytes:
    return write_long(value.toordinal() - EPOCH_DAY)
