"""The names of the files in a log's directory."""

from __future__ import annotations

import os
import re

from wal.filesystem import FileSystem

StrPath = str | os.PathLike[str]
"""How callers name a directory or a file; inside, paths are strings."""

DURABLE_NAME = "durable"
LOCK_NAME = "lock"
RESERVE_NAME = "next.tmp"
"""The preallocated segment to come. One fixed name: a leftover of a crash is found and used
again."""

_SEGMENT_NAME = re.compile(r"[0-9]{20}\.wal")


def segment_name(first_lsn: int) -> str:
    """Return the file name of the segment that starts with this LSN; names sort as LSNs do."""
    return f"{first_lsn:020d}.wal"


def torn_name(next_lsn: int, number: int) -> str:
    """Return the file name for a torn tail that was put aside, the `number`th at this LSN."""
    return f"torn-{next_lsn:020d}-{number}"


def join(directory: str, name: str) -> str:
    return f"{directory}/{name}"


def find_segments(file_system: FileSystem, directory: str) -> list[int]:
    """Return the first LSNs of the segments in a directory, ascending. Other names are ignored."""
    names = file_system.list_directory(directory)
    return sorted(int(name[:20]) for name in names if _SEGMENT_NAME.fullmatch(name))
