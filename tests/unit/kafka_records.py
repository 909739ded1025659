"""Records and a reader as `services.operations` sees them, without a broker."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

STORED_MS = 1_795_000_000_021


class Record:
    """A record as the Kafka client gives it."""

    def __init__(
        self,
        key: bytes,
        value: bytes | None,
        *,
        stored_ms: int = STORED_MS,
        offset: int = 7,
        headers: tuple[tuple[str, bytes], ...] = (),
    ) -> None:
        self._key, self._value = key, value
        self._stored_ms, self._offset = stored_ms, offset
        self._headers = headers

    def key(self) -> bytes:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def headers(self) -> list[tuple[str, bytes]]:
        return [("ce_id", b"an-id"), *self._headers]

    def timestamp(self) -> tuple[int, int]:
        return 2, self._stored_ms

    def partition(self) -> int:
        return 3

    def offset(self) -> int:
        return self._offset


class Reader:
    """Gives all records at once and has then reached the end; `asked` are the instants it was asked for."""

    def __init__(self, *given: Record) -> None:
        self._given = list(given)
        self.finished = False
        self.asked: list[datetime] = []

    def ends(self) -> dict[int, int]:
        return {3: len(self._given)}

    def offsets_at(self, instant: datetime, ends: Mapping[int, int]) -> dict[int, int]:
        self.asked.append(instant)
        return {3: 0} if len(self.asked) == 1 else dict(ends)

    def read(self, starts: Mapping[int, int], until: Mapping[int, int] | None = None) -> None:
        del starts, until

    def fetch(self) -> list[Any]:
        self.finished = True
        return self._given
