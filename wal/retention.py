"""Which segments a log has, and the removal of the oldest.

For the owner of a log, in any of its threads, and for tools. The log itself removes nothing: only
its owner knows what it and its readers still need.
"""

from __future__ import annotations

import os
from itertools import pairwise
from typing import NamedTuple

from wal.directory import StrPath, find_segments, join, segment_name
from wal.errors import LogFailed
from wal.filesystem import OS_FILE_SYSTEM, FileSystem


class SegmentInfo(NamedTuple):
    """A segment as a file. The one in use is preallocated: its size is not that of its records."""

    first_lsn: int
    path: str
    size_bytes: int


def list_segments(
    directory: StrPath, *, file_system: FileSystem = OS_FILE_SYSTEM
) -> list[SegmentInfo]:
    """Return the segments, ascending. They are not opened as such. Raises OSError."""
    segments = []
    for first_lsn in find_segments(file_system, os.fspath(directory)):
        path = join(os.fspath(directory), segment_name(first_lsn))
        try:
            fd = file_system.open(path)
        except FileNotFoundError:
            continue  # Removed since.
        try:
            segments.append(SegmentInfo(first_lsn, path, file_system.size(fd)))
        finally:
            file_system.close(fd)
    return segments


def remove_segments_before(
    directory: StrPath, lsn: int, *, file_system: FileSystem = OS_FILE_SYSTEM
) -> int:
    """Remove the segments all of whose records are before record `lsn`; return how many.

    Never the last one. They go oldest first, each durably before the next, so that a power loss
    leaves no gap. May run while the log is open and being written; one call at a time. The caller
    answers for a durable snapshot that makes them superfluous. Raises LogFailed (a sync failed),
    OSError.
    """
    path = os.fspath(directory)
    firsts = [
        first for first, following in pairwise(find_segments(file_system, path)) if following <= lsn
    ]
    if not firsts:
        return 0
    # The writer may have named the segment that follows a moment ago, and not synced that yet.
    _sync(file_system, path)
    for first in firsts:
        file_system.unlink(join(path, segment_name(first)))
        _sync(file_system, path)
    return len(firsts)


def _sync(file_system: FileSystem, directory: str) -> None:
    try:
        file_system.fsync_directory(directory)
    except OSError as error:
        raise LogFailed(directory, "fsync", str(error)) from error
