"""Keeps the output files of running tasks below the worker's cap.

The tasks write them by themselves, so they are looked at: a growing one as often as it could
go over, a quiet one every few seconds. A look costs two stat(2), some 5 µs.
"""

from __future__ import annotations

import heapq
import logging
import math
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final

from titan import units
from titan.model import AttemptKey, Reason
from titan.worker.host import output_cap
from titan.worker.host.output_cap import Size
from titan.worker.host.verdict import Doom
from titan.worker.output import hole as output_hole
from titan.worker.output.paths import output_path

SUFFIXES: Final = (b"out", b"err")
_STREAMS: Final = {b"out": "stdout", b"err": "stderr"}
# What a file can't be cut in without.
_BLOCK_BYTES_MIN: Final = 4096

_log = logging.getLogger(__name__)


class _Watched:
    """What was seen the last time of one attempt's files."""

    __slots__ = ("interval_seconds", "is_over", "seen_at", "suffixes", "taken_bytes")

    def __init__(self, suffixes: Sequence[bytes], now: float) -> None:
        self.suffixes = suffixes
        self.seen_at = now
        self.interval_seconds = output_cap.FIRST_LOOK_SECONDS
        # Of the larger one.
        self.taken_bytes = 0
        self.is_over = False


class OutputWatch:
    """The files of the running attempts. Times are on the monotonic clock."""

    def __init__(self, output_directory: bytes) -> None:
        """Without a cap until `set_cap`."""
        self._directory = output_directory
        self._cap_bytes = 0
        self._watched: dict[AttemptKey, _Watched] = {}
        # What has ended meanwhile is passed over when its time comes.
        self._due: list[tuple[float, AttemptKey]] = []

    @property
    def next_due(self) -> float:
        """When `look` has something to do, infinity: never."""
        return self._due[0][0] if self._due else math.inf

    def set_cap(self, cap_bytes: int, now: float) -> None:
        """How much of each file may be on the disk, 0: all. Holds for those that run, too."""
        if cap_bytes == self._cap_bytes:
            return
        self._cap_bytes = cap_bytes
        self._due = [(now, key) for key in self._watched] if cap_bytes else []
        heapq.heapify(self._due)

    def add(self, key: AttemptKey, now: float, suffixes: Sequence[bytes] = SUFFIXES) -> None:
        """It has started, and these of its files are the worker's own. O(log attempts)."""
        if not suffixes:
            return
        self._watched[key] = _Watched(suffixes, now)
        if self._cap_bytes:
            heapq.heappush(self._due, (now + output_cap.FIRST_LOOK_SECONDS, key))

    def look(self, now: float) -> Iterator[tuple[AttemptKey, Doom]]:
        """Look at what is due by now; those that cannot be helped are to be ended."""
        while self._due and self._due[0][0] <= now:
            _, key = heapq.heappop(self._due)
            watched = self._watched.get(key)
            if watched is None or watched.is_over:
                continue
            doom = self._look_at(key, watched, now)
            if doom:
                watched.is_over = True
                yield key, doom
            else:
                heapq.heappush(self._due, (now + watched.interval_seconds, key))

    def finish(self, key: AttemptKey, now: float) -> Doom | None:
        """It has ended: the last look. If it wrote too much and can't be helped, its doom.

        Then its files end at the cap.
        """
        watched = self._watched.pop(key, None)
        cap_bytes = self._cap_bytes
        if watched is None or not cap_bytes:
            return None
        elapsed = now - watched.seen_at
        if not watched.is_over and not output_cap.may_be_over(
            cap_bytes, watched.taken_bytes, elapsed
        ):
            return None
        doom = self._look_at(key, watched, now)
        if doom:
            self._cut_ends(key, watched)
        return doom

    def _look_at(self, key: AttemptKey, watched: _Watched, now: float) -> Doom | None:
        cap_bytes = self._cap_bytes
        taken_bytes = 0
        for suffix in watched.suffixes:
            path = output_path(self._directory, key, suffix)
            size = _find_size(path)
            if size is None:
                continue
            if size.taken_bytes > cap_bytes:
                try:
                    size = _cut(path, size, cap_bytes)
                except OSError as error:
                    sentence = _sentence(cap_bytes, _STREAMS[suffix], error)
                    return Doom(Reason.OUTPUT_LIMIT, sentence)
            taken_bytes = max(taken_bytes, size.taken_bytes)
        watched.interval_seconds = output_cap.next_look_seconds(
            watched.interval_seconds,
            cap_bytes - taken_bytes,
            taken_bytes - watched.taken_bytes,
            now - watched.seen_at,
        )
        watched.taken_bytes = taken_bytes
        watched.seen_at = now
        return None

    def _cut_ends(self, key: AttemptKey, watched: _Watched) -> None:
        for suffix in watched.suffixes:
            path = output_path(self._directory, key, suffix)
            size = _find_size(path)
            if size is not None and size.taken_bytes > self._cap_bytes:
                try:
                    os.truncate(path, self._cap_bytes)
                except OSError as error:
                    _log.warning("cannot shorten %s: %s", os.fsdecode(path), error)


def _find_size(path: bytes) -> Size | None:
    """None when there is no such file any more, or it is something else by now."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    # The unit of st_blocks is always this, see stat(2).
    return Size(found.st_size, found.st_blocks * 512)


def _cut(path: bytes, size: Size, cap_bytes: int) -> Size:
    """Leave out its middle; its size afterwards. Raises OSError."""
    block_bytes = max(_BLOCK_BYTES_MIN, os.statvfs(path).f_bsize)
    cut = output_cap.find_cut(size, cap_bytes, block_bytes)
    if cut is None:
        return size
    output_hole.leave_out(path, *cut)
    return _find_size(path) or size


def _sentence(cap_bytes: int, stream: str, error: OSError) -> str:
    return (
        f"wrote more than {units.format_size(cap_bytes)} to {stream}, the worker's --output-max, "
        f"and the file system there cannot leave out the middle ({error.strerror}): write less, "
        "or start the worker with a larger one"
    )
