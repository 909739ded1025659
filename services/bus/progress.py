"""What of one stretch of a partition is done: the contiguous offset to commit, and the metadata with it.

A commit carries the first unfinished offset, which offsets above it are done, and what may have been sent
since. Nothing outside that reservation is ever sent to a partner, so after a crash a record is exactly one
of: done, in doubt (reserved, not done), never attempted.
"""

import base64
import binascii
import zlib
from collections.abc import Iterable, Set
from dataclasses import dataclass, field
from typing import Self

MAGIC = "bb2"
SPAN = 2048
"""Offsets that may lie between the first unfinished one and the reservation: bounds the metadata to
about 700 bytes whatever the pattern (the broker takes 4,096)."""

Landmark = tuple[int, int]
"""Offset and timestamp (ms, the broker's) of a record: a log that was made anew has another one there."""


@dataclass(frozen=True)
class Restored:
    """What a commit said.

    Attributes:
        reserved: offsets below it and not in `done` are in doubt; with `only`, just those named there.
        generation: the group's generation under which it was written; 0 where nobody said.
        until: of a cursor, the offset from which the main lane has the records again; None while open.
        landmark: offset and timestamp (ms) of a record that was in the log then.
        readable: False where the text was foreign or implausible.
    """

    reserved: int
    done: Set[int] = frozenset()
    only: Set[int] | None = None
    generation: int = 0
    until: int | None = None
    landmark: Landmark | None = None
    readable: bool = True

    def in_doubt(self, offset: int) -> bool:
        if offset in self.done:
            return False
        return offset < self.reserved if self.only is None else offset in self.only


def encode_metadata(
    committed: int,
    reserved: int,
    done: Iterable[int],
    *,
    only: Iterable[int] | None = None,
    generation: int = 0,
    until: int | None = None,
    landmark: Landmark | None = None,
) -> str:
    """The text of a commit: magic, checksum, then what `Restored` has, all relative to `committed`."""
    sent = "" if only is None else f"={_bitmap(committed, only)}"
    closed = "" if until is None else f"{until:x}"
    mark = "" if landmark is None else f"{landmark[0]:x}.{landmark[1]:x}"
    body = (
        f"{committed:x},{max(reserved - committed, 0):x},{generation:x},{closed},"
        f"{_bitmap(committed, done)},{sent},{mark}"
    )
    return f"{MAGIC},{zlib.crc32(body.encode()):08x},{body}"


def fresh_metadata() -> str:
    """For a group's very first offset: nothing was ever attempted."""
    return f"{MAGIC},{zlib.crc32(b'fresh'):08x},fresh"


def decode_metadata(text: str, committed: int, log_end: int) -> Restored:
    """Reads a commit's text; whatever is foreign or implausible puts all that the log holds in doubt."""
    text = text.rstrip("\0")  # librdkafka's admin client stores the end of its C string as well
    if text == fresh_metadata():
        return Restored(reserved=committed)
    try:
        restored = _decode(text, committed)
    except (ValueError, binascii.Error):
        return Restored(reserved=log_end, readable=False)
    far = max((restored.reserved, *restored.done, *(restored.only or ())), default=0)
    if far > committed + SPAN or any(offset >= log_end for offset in restored.done):
        return Restored(reserved=log_end, readable=False)
    return restored


def _decode(text: str, committed: int) -> Restored:
    magic, checksum, body = text.split(",", 2)
    base, ahead, generation, until, done, sent, mark = body.split(",")
    if magic != MAGIC or int(checksum, 16) != zlib.crc32(body.encode()) or int(base, 16) != committed:
        raise ValueError("not ours, damaged, or of another offset")
    return Restored(
        reserved=committed + int(ahead, 16),
        done=frozenset(_offsets(committed, done)),
        only=frozenset(_offsets(committed, sent[1:])) if sent.startswith("=") else None,
        generation=int(generation, 16),
        until=int(until, 16) if until else None,
        landmark=_landmark(mark) if mark else None,
    )


def _landmark(text: str) -> Landmark:
    offset, timestamp = text.split(".")
    return int(offset, 16), int(timestamp, 16)


def _bitmap(base: int, offsets: Iterable[int]) -> str:
    bits = 0
    for offset in offsets:
        bits |= 1 << (offset - base)
    # urlsafe base64: the text's own separator never occurs in it
    return base64.urlsafe_b64encode(bits.to_bytes((bits.bit_length() + 7) // 8, "little")).decode()


def _offsets(base: int, bitmap: str) -> Iterable[int]:
    bits = int.from_bytes(base64.b64decode(bitmap, altchars=b"-_", validate=True), "little")
    if bits.bit_length() > SPAN + 8:
        raise ValueError("claims more than fits")
    while bits:
        lowest = bits & -bits
        yield base + lowest.bit_length() - 1
        bits ^= lowest


@dataclass
class Progress:
    """The live state of one stretch within one assignment.

    Attributes:
        next: one past the last record seen.
        reserved: below this, dispatch is covered by a commit that the broker acknowledged.
        sent: one past the highest offset handed to the partner.
        doubt_ends: how far an earlier owner had reserved.
        exact: reserve offsets by name, for a partner that cannot be asked: then only what was really
            handed to it is ever in doubt. `named` are those that the broker has acknowledged.
        until: of a cursor that is closing, the offset at which it meets the main lane.
        landmark: the last record seen; of the main stretch only.
    """

    next: int
    reserved: int
    unfinished: dict[int, None] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    sent: int = 0
    doubt_ends: int = 0
    exact: bool = False
    named: set[int] = field(default_factory=set)
    wanted: set[int] = field(default_factory=set)
    until: int | None = None
    landmark: Landmark | None = None
    # the first unfinished one stays the first until it is done; looking for it passes over all that was done
    _first: int = field(default=-1, init=False, repr=False, compare=False)

    @classmethod
    def resume(cls, committed: int, restored: Restored, *, exact: bool = False) -> Self:
        """Goes on from a commit; what it left in doubt stays in every commit until it is settled."""
        named = set(restored.only) if restored.only is not None else set()
        reserved = max(committed, restored.reserved, max(named, default=-1) + 1)
        if exact and restored.only is None:
            named = set(range(committed, min(reserved, committed + SPAN))) - restored.done
        return cls(
            committed,
            reserved,
            finished=set(restored.done),
            # what comes after an earlier owner's doubts waits for none of them
            sent=reserved,
            doubt_ends=reserved,
            exact=exact,
            named=named,
            until=restored.until,
            landmark=restored.landmark,
        )

    def has_room(self, offset: int) -> bool:
        """Whether a record this far from the position still fits into a commit."""
        return not self.unfinished or offset < self.position + SPAN

    def see(self, offset: int) -> None:
        """Registers a record; offsets come in ascending order, with gaps."""
        if offset not in self.finished:
            self.unfinished[offset] = None
        self.next = offset + 1

    def skip_to(self, position: int | None) -> None:
        """Passes what holds no records, such as a transaction's markers, up to where fetching goes on."""
        if position is not None and position > self.next and not self.unfinished:
            self.next = position

    def may_send(self, offset: int) -> bool:
        """Whether a commit that the broker has covers this record."""
        return offset in self.named if self.exact else offset < self.reserved

    def send(self, offset: int) -> None:
        """Notes that a record goes to the partner."""
        if offset >= self.sent:
            self.sent = offset + 1

    def finish(self, offset: int) -> None:
        """Marks a record as done; a second time changes nothing."""
        if offset in self.unfinished:
            del self.unfinished[offset]
            self.finished.add(offset)
            if self.exact:
                self.named.discard(offset)

    @property
    def position(self) -> int:
        """The offset to commit: the first record seen and not done, else one past the last seen."""
        if self._first not in self.unfinished:
            self._first = next(iter(self.unfinished), -1)
        return self._first if self.unfinished else self.next

    @property
    def known_to(self) -> int:
        """One past the last offset of which this stretch, or an earlier owner of it, knows anything."""
        return max(self.next, self.doubt_ends, max(self.finished | self.named, default=-1) + 1)

    def snapshot(self, ahead: int, generation: int = 0) -> "Snapshot":
        """What to commit now, all taken from one state.

        Args:
            ahead: how many offsets beyond the last one sent the reservation reaches while records wait;
                with none waiting it shrinks to the position at once, so that an idle partition has
                nothing in doubt.
            generation: the group's generation of this assignment.
        """
        position = self._forget_below()
        if self.exact:
            return self._exact_snapshot(position, generation)
        if self.unfinished:
            reserved = max(self.reserved, min(self.next, max(position, self.sent) + ahead, position + SPAN))
        else:
            reserved = self.reserved = max(position, self.doubt_ends)
        text = self._text(position, reserved, generation)
        return Snapshot(position, reserved, text, until=self.until)

    def last_snapshot(self, in_doubt: Iterable[int], generation: int = 0) -> "Snapshot":
        """What to commit when nothing more will be sent: in doubt is just what is named."""
        position = self._forget_below()
        return Snapshot(position, position, self._text(position, position, generation, in_doubt))

    def _exact_snapshot(self, position: int, generation: int) -> "Snapshot":
        self.named = {offset for offset in self.named if offset >= position}
        named = {offset for offset in self.named | self.wanted if offset < position + SPAN}
        text = self._text(position, position, generation, named)
        return Snapshot(position, position, text, frozenset(named), self.until)

    def _forget_below(self) -> int:
        """The position; what is done below it needs no mark of its own, what is done right at it does."""
        position = self.position
        self.finished = {offset for offset in self.finished if offset >= position}
        return position

    def _text(self, position: int, reserved: int, generation: int, only: Iterable[int] | None = None) -> str:
        return encode_metadata(
            position,
            reserved,
            self.finished,
            only=only,
            generation=generation,
            until=self.until,
            landmark=self.landmark,
        )

    def acknowledge(self, snapshot: "Snapshot") -> None:
        """The broker has this snapshot: dispatch may go as far as it reserved."""
        if self.exact:
            self.named |= {offset for offset in snapshot.named if offset not in self.finished}
            self.wanted -= snapshot.named
        elif self.unfinished:
            self.reserved = max(self.reserved, snapshot.reserved)


@dataclass(frozen=True)
class Snapshot:
    """One commit of one stretch."""

    position: int
    reserved: int
    metadata: str
    named: frozenset[int] = frozenset()
    until: int | None = None
