"""Whether there is room for what tasks write, or the worker had better take no more of them.

Pure: `node.py` measures. A task that finds the disk full fails, and so does every one that
is sent after it; a worker that says so in time costs nobody a task.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from titan import units

_GIB: Final = 1 << 30
# It is healthy again only with so much more, or it would change with every file.
_AGAIN_PERCENT: Final = 120
# Of the inodes, where the file system has a fixed number of them.
_INODES_PER_MILLE: Final = 10


class DiskUse(NamedTuple):
    """A file system as an unprivileged user finds it."""

    total_bytes: int
    free_bytes: int
    inodes: int
    """0: the file system makes as many as are wanted."""
    inodes_free: int


class DiskMinimum(NamedTuple):
    """What has to be free: so many bytes, or a share of the disk, of which `most_bytes` suffice."""

    size_bytes: int = 0
    per_mille: int = 0
    most_bytes: int = 1 << 62

    def of(self, total_bytes: int) -> int:
        """The bytes that have to be free on a disk of that size; 0: none."""
        return max(self.size_bytes, min(total_bytes * self.per_mille // 1000, self.most_bytes))

    @property
    def is_off(self) -> bool:
        """Whether nothing is asked for, of inodes neither."""
        return not (self.size_bytes or self.per_mille)


# A large disk need not keep 200 GiB free for the sake of a percentage.
DEFAULT_MINIMUM: Final = DiskMinimum(per_mille=50, most_bytes=10 * _GIB)


def parse_minimum(text: str) -> DiskMinimum:
    """`5%`, `10GiB`, `0`. Raises ValueError."""
    given = text.strip()
    if not given.endswith("%"):
        return DiskMinimum(size_bytes=units.parse_size(given))
    try:
        per_mille = round(float(given[:-1]) * 10)
    except (ValueError, OverflowError):
        per_mille = -1
    if not 0 <= per_mille < 1000:
        raise ValueError(f"{text!r} is no share of a disk: write 0% to 99.9%, or a size as 10GiB")
    return DiskMinimum(per_mille=per_mille)


class DiskRoom:
    """The judgement on one file system, from one measurement to the next."""

    def __init__(self, minimum: DiskMinimum, place: str) -> None:
        """`place` is what the sentences name."""
        self._minimum = minimum
        self._place = place
        # What is short now, and the sentence about it, which stays while it is.
        self._short = ""
        self._sentence = ""

    def judge(self, use: DiskUse) -> str:
        """What is wrong, in the same words while it is; empty when nothing is."""
        short = self._find_short(use)
        if short != self._short:
            self._short = short
            self._sentence = self._describe(short, use)
        return self._sentence

    def _find_short(self, use: DiskUse) -> str:
        if self._minimum.is_off:
            return ""
        percent = _AGAIN_PERCENT if self._short == "bytes" else 100
        if use.free_bytes * 100 < self._minimum.of(use.total_bytes) * percent:
            return "bytes"
        percent = _AGAIN_PERCENT if self._short == "inodes" else 100
        if use.inodes_free * 100_000 < use.inodes * _INODES_PER_MILLE * percent:
            return "inodes"
        return ""

    def _describe(self, short: str, use: DiskUse) -> str:
        if short == "bytes":
            free, total, least = map(
                units.format_size,
                (use.free_bytes, use.total_bytes, self._minimum.of(use.total_bytes)),
            )
            return (
                f"its disk is nearly full: {free} of {total} are free under {self._place}, "
                f"less than --disk-free-min {least}"
            )
        if short == "inodes":
            return (
                f"its disk has nearly no inodes left: {use.inodes_free} of {use.inodes} are free "
                f"under {self._place}"
            )
        return ""
