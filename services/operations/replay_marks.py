"""What is known of each record of a stretch of a topic: two bytes an offset, however many there are."""

from collections.abc import Mapping
from dataclasses import dataclass

OUTCOMES = ("", "parked", "rejected", "superseded", "dismissed", "posted")
PARKED = OUTCOMES.index("parked")
_STATE_BITS = 3
_STATE = (1 << _STATE_BITS) - 1
_MOST_ATTEMPTS = 31
"""What fits beside the state; of two outcomes beyond it the later one counts."""
WANTED, SENT, TOLD, FOUND = 1, 2, 4, 8
"""A record that is to be emitted again; one that has been; one that has an outcome since; and whose partner,
when asked, had it."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A partition's part: its first offset, and a byte of outcome and one of flags for each."""

    base: int
    outcomes: bytearray
    flags: bytearray


class Marks:
    """Outcomes and flags by partition and offset; an offset outside the ranges has none."""

    def __init__(self, ranges: Mapping[int, range]) -> None:
        self.ranges = ranges
        self.stretches = {
            partition: Stretch(each.start, bytearray(len(each)), bytearray(len(each)))
            for partition, each in ranges.items()
        }

    def __len__(self) -> int:
        """All offsets."""
        return sum(len(each) for each in self.ranges.values())

    def outcome(self, partition: int, offset: int) -> str:
        """The newest outcome of a record, '' where it has none."""
        stretch = self.stretches[partition]
        return OUTCOMES[stretch.outcomes[offset - stretch.base] & _STATE]

    def enter(self, partition: int, offset: int, state: str, attempt: int) -> str | None:
        """Takes an outcome and returns the one that counted before ('' for none).

        None where it changes nothing: another one is newer, or the offset is not ours. The newest is the one
        of the highest attempt, and of one attempt a final one before parked.
        """
        stretch = self.stretches.get(partition)
        if stretch is None or not 0 <= (index := offset - stretch.base) < len(stretch.outcomes):
            return None
        known = stretch.outcomes[index]
        told = min(attempt, _MOST_ATTEMPTS) << _STATE_BITS | OUTCOMES.index(state)
        if _age(told) < _age(known):
            return None
        stretch.outcomes[index] = told
        return OUTCOMES[known & _STATE]

    def flag(self, partition: int, offset: int, flag: int, *, on: bool = True) -> bool:
        """Sets or takes back a flag; whether that changed anything. An offset that is not ours has none."""
        stretch = self.stretches.get(partition)
        if stretch is None or not 0 <= (index := offset - stretch.base) < len(stretch.flags):
            return False
        before = stretch.flags[index]
        stretch.flags[index] = before | flag if on else before & ~flag
        return stretch.flags[index] != before

    def has(self, partition: int, offset: int, flag: int) -> bool:
        """Whether the offset is ours and has the flag."""
        stretch = self.stretches.get(partition)
        return (
            stretch is not None
            and 0 <= (index := offset - stretch.base) < len(stretch.flags)
            and bool(stretch.flags[index] & flag)
        )

    def left(self) -> dict[int, range]:
        """By partition: from the first record that is wanted and not sent to the last one that is wanted."""
        found = {}
        for partition, stretch in self.stretches.items():
            first = stretch.flags.find(WANTED)
            if first >= 0:
                last = stretch.flags.rfind(WANTED)
                found[partition] = range(stretch.base + first, stretch.base + last + 1)
        return found


def _age(told: int) -> tuple[int, bool]:
    return told >> _STATE_BITS, told & _STATE not in (0, PARKED)
