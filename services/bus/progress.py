"""What of one partition is done: the contiguous offset to commit, and the metadata that goes with it.

A commit carries the first unfinished offset, which offsets above it are done, and how far dispatch was
reserved. Nothing at or beyond the reservation is ever sent to a partner, so after a crash a record is
exactly one of: done, in doubt (below the reservation, not done), never attempted.
"""

import base64
import binascii
import zlib
from dataclasses import dataclass, field
from typing import Self

MAGIC = "bb1"
SPAN = 2048
"""Offsets that may lie between the first unfinished one and the reservation: bounds the metadata to
about 400 bytes whatever the pattern (the broker takes 4,096)."""


@dataclass(frozen=True)
class Restored:
    """What a commit said: offsets below `reserved` and not in `done` are in doubt."""

    reserved: int
    done: frozenset[int] = frozenset()

    def in_doubt(self, offset: int) -> bool:
        return offset < self.reserved and offset not in self.done


def encode_metadata(committed: int, reserved: int, done: list[int]) -> str:
    """The text of a commit: magic, checksum, how far the reservation reaches above `committed`, a bitmap."""
    bits = bytearray((max(done) - committed) // 8 + 1) if done else bytearray()
    for offset in done:
        bits[(offset - committed) // 8] |= 1 << ((offset - committed) % 8)
    body = f"{committed:x}.{max(reserved - committed, 0):x}.{base64.b85encode(bytes(bits)).decode()}"
    return f"{MAGIC}.{zlib.crc32(body.encode()):08x}.{body}"


def fresh_metadata() -> str:
    """For a group's very first offset: nothing was ever attempted."""
    return f"{MAGIC}.{zlib.crc32(b'fresh'):08x}.fresh"


def decode_metadata(text: str, committed: int, log_end: int) -> Restored:
    """Reads a commit's text; whatever is foreign or implausible puts all that the log holds in doubt."""
    everything = Restored(reserved=log_end)
    text = text.rstrip("\0")  # librdkafka's admin client stores the end of its C string as well
    if text == fresh_metadata():
        return Restored(reserved=committed)
    try:
        magic, checksum, body = text.split(".", 2)
        base, ahead, bitmap = body.split(".", 2)
        bits = base64.b85decode(bitmap)
        reserved = committed + int(ahead, 16)
        if magic != MAGIC or int(checksum, 16) != zlib.crc32(body.encode()) or int(base, 16) != committed:
            return everything
    except (ValueError, binascii.Error):
        return everything
    if reserved > committed + SPAN or len(bits) * 8 > SPAN + 8:
        return everything
    done = frozenset(
        committed + index * 8 + bit
        for index, byte in enumerate(bits)
        for bit in range(8)
        if byte & (1 << bit)
    )
    if any(offset >= reserved or offset >= log_end for offset in done):
        return everything
    return Restored(reserved, done)


@dataclass
class Progress:
    """The live state of one partition within one assignment.

    Attributes:
        next: one past the last record seen.
        reserved: below this, dispatch is covered by a commit that the broker acknowledged.
        sent: one past the highest offset handed to the partner.
        doubt_ends: how far an earlier owner had reserved.
    """

    next: int
    reserved: int
    unfinished: dict[int, None] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    sent: int = 0
    doubt_ends: int = 0

    @classmethod
    def resume(cls, committed: int, restored: Restored) -> Self:
        """Goes on from a commit; what it left in doubt stays in every commit until it is settled."""
        reserved = max(committed, restored.reserved)
        return cls(committed, reserved, finished=set(restored.done), doubt_ends=reserved)

    def see(self, offset: int) -> None:
        """Registers a record; offsets come in ascending order, with gaps."""
        if offset not in self.finished:
            self.unfinished[offset] = None
        self.next = offset + 1

    def send(self, offset: int) -> None:
        """Notes that a record below the reservation goes to the partner."""
        self.sent = max(self.sent, offset + 1)

    def finish(self, offset: int) -> None:
        """Marks a record as done; a second time changes nothing."""
        if offset in self.unfinished:
            del self.unfinished[offset]
            self.finished.add(offset)

    @property
    def position(self) -> int:
        """The offset to commit: the first record seen and not done, else one past the last seen."""
        return next(iter(self.unfinished), self.next)

    def snapshot(self, ahead: int) -> "Snapshot":
        """What to commit now, all taken from one state.

        Args:
            ahead: how many offsets beyond the last one sent the reservation reaches while records wait;
                with none waiting it shrinks to the position at once, so that an idle partition has
                nothing in doubt.
        """
        position = self.position
        self.finished = {offset for offset in self.finished if offset > position}
        if self.unfinished:
            reserved = max(self.reserved, min(self.next, max(position, self.sent) + ahead, position + SPAN))
        else:
            reserved = self.reserved = max(position, self.doubt_ends)
        return Snapshot(position, reserved, encode_metadata(position, reserved, sorted(self.finished)))

    def acknowledge(self, snapshot: "Snapshot") -> None:
        """The broker has this snapshot: dispatch may go as far as it reserved."""
        if self.unfinished:
            self.reserved = max(self.reserved, snapshot.reserved)


@dataclass(frozen=True)
class Snapshot:
    """One commit of one partition."""

    position: int
    reserved: int
    metadata: str
