"""Which output of ended tasks is removed next: the oldest-ended, once it is too old or too much.

Pure. It knows at most so many attempts, the oldest; those beyond are only counted, and when
the known ones are used up the disk is looked through for the next of them. So the memory is
bounded however much is kept, and an attempt costs the logarithm of that.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Container, Iterable
from typing import Final, NamedTuple, TypeAlias

# More than the default --output-retain-files has attempts of, which are two files each: with
# that the disk is looked through once. 70 bytes each.
KNOWN_MAX: Final = 120_000

# Sorted as bytes, they are in the order of their ends.
_PACKED: Final = struct.Struct(">QqQIQB")
_FILES_MAX: Final = 255

Name: TypeAlias = tuple[int, int, int]
"""Job, index and attempt: what a path says of an attempt."""


class Limits(NamedTuple):
    """How much output of ended tasks is kept; 0: without that limit."""

    seconds: float
    size_bytes: int
    files: int


class Entry(NamedTuple):
    """The output of one attempt that has ended."""

    end_s: int
    job_id: int
    index: int  # type: ignore[assignment]  # hides tuple.index
    attempt: int
    size_bytes: int
    """What it takes on the disk."""
    files: int

    @property
    def name(self) -> Name:
        """Whose it is."""
        return self.job_id, self.index, self.attempt


class Found(NamedTuple):
    """What a look through the disk has found."""

    oldest: list[bytes]
    """Packed entries."""
    is_all: bool
    size_bytes: int
    files: int


class OldestOf:
    """Gathers entries in any order and keeps the oldest of them."""

    def __init__(self, known_max: int = KNOWN_MAX) -> None:
        self._known_max = known_max
        self._kept: list[bytes] = []
        self._is_all = True
        self._size_bytes = 0
        self._files = 0

    def add(self, entry: Entry) -> None:
        """One more. O(log kept), amortised."""
        self._size_bytes += entry.size_bytes
        self._files += entry.files
        self._kept.append(_pack(entry))
        if len(self._kept) >= 2 * self._known_max:
            self._cut()

    def found(self) -> Found:
        """All of them, and the oldest by name."""
        self._cut()
        return Found(self._kept, self._is_all, self._size_bytes, self._files)

    def _cut(self) -> None:
        self._kept.sort()
        if len(self._kept) > self._known_max:
            self._is_all = False
            del self._kept[self._known_max :]


class Shelf:
    """The queue, in the order of ends. Empty until `fill`."""

    def __init__(self, limits: Limits, known_max: int = KNOWN_MAX) -> None:
        self._limits = limits
        self._known_max = known_max
        self._queue: list[bytes] = []
        # What comes behind it is only counted; empty: all is known.
        self._known_until = b""
        # Of those that ever were in the queue.
        self._last = b""
        self.size_bytes = 0
        self.files = 0

    def __len__(self) -> int:
        return len(self._queue)

    def fill(self, found: Found, known: Iterable[Entry] = (), held: Container[Name] = ()) -> None:
        """Begin anew with what is on the disk.

        What is `known` ended meanwhile, and counts once; what is `held` has not ended.
        """
        later = {entry.name: entry for entry in known}
        self._queue = []
        self.size_bytes, self.files = found.size_bytes, found.files
        for packed in found.oldest:
            entry = _unpack(packed)
            if entry.name in later or entry.name in held:
                self.size_bytes -= entry.size_bytes
                self.files -= entry.files
            else:
                self._queue.append(packed)
        # In order, which is what a heap may be.
        self._last = self._queue[-1] if self._queue else b""
        self._known_until = b"" if found.is_all else found.oldest[-1]
        for entry in later.values():
            self.add(entry)

    def add(self, entry: Entry) -> None:
        """An attempt has ended. O(log known)."""
        self.size_bytes += entry.size_bytes
        self.files += entry.files
        packed = _pack(entry)
        if not self._known_until and len(self._queue) >= self._known_max and packed > self._last:
            self._known_until = self._last
        if not self._known_until or packed < self._known_until:
            self._last = max(self._last, packed)
            heapq.heappush(self._queue, packed)

    def take_due(self, now_s: float, count: int) -> list[tuple[Entry, str]]:
        """Up to so many that are to go now, each with the option that says so. Oldest first."""
        taken: list[tuple[Entry, str]] = []
        while self._queue and len(taken) < count:
            entry = _unpack(self._queue[0])
            option = self._find_reason(entry, now_s)
            if not option:
                break
            heapq.heappop(self._queue)
            self.size_bytes -= entry.size_bytes
            self.files -= entry.files
            taken.append((entry, option))
        return taken

    def next_due_s(self) -> float | None:
        """When the oldest is too old, None: never, or not known."""
        if not self._limits.seconds or not self._queue:
            return None
        return _unpack(self._queue[0]).end_s + self._limits.seconds

    def wants_look(self, now_s: float) -> bool:
        """Whether more may have to go than is known by name."""
        if self._queue or not self._known_until:
            return False
        return bool(self._find_reason(_unpack(self._known_until), now_s))

    def _find_reason(self, oldest: Entry, now_s: float) -> str:
        limits = self._limits
        if limits.seconds and oldest.end_s + limits.seconds <= now_s:
            return "--output-retain"
        if limits.size_bytes and self.size_bytes > limits.size_bytes:
            return "--output-retain-bytes"
        if limits.files and self.files > limits.files:
            return "--output-retain-files"
        return ""


def _pack(entry: Entry) -> bytes:
    return _PACKED.pack(*entry[:5], min(entry.files, _FILES_MAX))


def _unpack(packed: bytes) -> Entry:
    return Entry._make(_PACKED.unpack(packed))
