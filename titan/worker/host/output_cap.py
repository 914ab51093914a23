"""How large an output file may get, and when it is looked at again. Pure.

A file whose blocks take more than the cap loses its middle: its first quarter of a cap and
its last one stay. What is written after that is free to take half a cap before the next cut,
so that cutting costs a fixed share of writing however long it goes on.
"""

from __future__ import annotations

from typing import Final, NamedTuple

FIRST_LOOK_SECONDS: Final = 0.5
# A task that writes as fast as a disk takes it goes over by what it writes in this time ...
LOOK_SECONDS_MIN: Final = 0.1
# ... and one that had been quiet before by what it writes in this.
LOOK_SECONDS_MAX: Final = 5.0
# No task writes faster: what ran so briefly that even this stays below the cap needs no look.
WRITE_BYTES_PER_SECOND_MAX: Final = 8 << 30


class Size(NamedTuple):
    """What fstat tells of a file."""

    length_bytes: int
    """Where it ends: what was left out counts."""
    allocated_bytes: int
    """What it takes on the disk."""

    @property
    def taken_bytes(self) -> int:
        """What of its content is on the disk; a file system may allocate ahead of the end."""
        return min(self.length_bytes, self.allocated_bytes)


def find_cut(size: Size, cap_bytes: int, block_bytes: int) -> tuple[int, int] | None:
    """What is to be left out of a file of that size as (begin, end), None: nothing.

    Both are multiples of the block: a part of a block can't be given back.
    """
    if not cap_bytes or size.taken_bytes <= cap_bytes:
        return None
    begin = _down(cap_bytes // 4, block_bytes) or block_bytes
    end = _down(size.length_bytes - cap_bytes // 4, block_bytes)
    return (begin, end) if begin < end else None


def next_look_seconds(
    last_seconds: float, room_bytes: int, grown_bytes: int, elapsed_seconds: float
) -> float:
    """How long a file may go unseen that has so much room and grew by so much in that time.

    `last_seconds` is what was answered the last time: to a quiet file twice that.
    """
    if grown_bytes <= 0:
        return min(2 * last_seconds, LOOK_SECONDS_MAX)
    full_seconds = max(0, room_bytes) * elapsed_seconds / grown_bytes
    return max(LOOK_SECONDS_MIN, min(full_seconds, LOOK_SECONDS_MAX))


def may_be_over(cap_bytes: int, taken_bytes: int, elapsed_seconds: float) -> bool:
    """Whether a file that took so much may be over the cap now."""
    return taken_bytes + elapsed_seconds * WRITE_BYTES_PER_SECOND_MAX > cap_bytes


def _down(value: int, block_bytes: int) -> int:
    return value - value % block_bytes
