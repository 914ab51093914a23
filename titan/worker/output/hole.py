"""Leaving out the middle of a file, and knowing afterwards that it was left out.

The blocks are given back to the file system and read as zeros from then on, at the same
offsets. A task may make a file with zeros or holes itself (truncate(2) on its stdout), and
these are its output; so what was left out stands beside the file, in one that has its name
and `.cut`: two numbers, where it begins and where it ends. Only a hole (SEEK_DATA, SEEK_HOLE,
lseek(2)) within these was left out. The note is there before the hole is, and so whoever
reads first and then finds no note has read what was written.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final, NamedTuple

NOTE_SUFFIX: Final = b".cut"

_FALLOC_FL_KEEP_SIZE: Final = 0x01
_FALLOC_FL_PUNCH_HOLE: Final = 0x02
_NOTE_BYTES_MAX: Final = 64

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


class Hole(NamedTuple):
    """From where to where a file may have lost its content."""

    begin: int
    end: int


NO_HOLE: Final = Hole(0, 0)


def read_note(path: bytes) -> Hole:
    """What was left out of the file of that path, `NO_HOLE` if nothing was. Raises OSError."""
    try:
        descriptor = os.open(path + NOTE_SUFFIX, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return NO_HOLE
    try:
        begin, end = os.read(descriptor, _NOTE_BYTES_MAX).split()
        return Hole(int(begin), int(end))
    except ValueError:
        # Not ours: it says nothing.
        return NO_HOLE
    finally:
        os.close(descriptor)


def leave_out(path: bytes, begin: int, end: int) -> None:
    """Give back what lies between; a second time it adds to the first. Raises OSError."""
    # Not O_APPEND, and never waiting for a reader of what may have become a FIFO.
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags)
    try:
        before = read_note(path)
        wanted = Hole(min(begin, before.begin), max(end, before.end)) if before.end else None
        hole = wanted or Hole(begin, end)
        try:
            _write_note(path, hole)
        except OSError:
            # On a full disk there is room for the note once there is a hole.
            _punch(descriptor, begin, end)
            _write_note(path, hole)
            return
        try:
            _punch(descriptor, begin, end)
        except OSError:
            if not before.end:
                os.unlink(path + NOTE_SUFFIX)
            raise
    finally:
        os.close(descriptor)


def next_data(descriptor: int, offset: int, hole: Hole) -> int:
    """Where what is there goes on, from `offset` on, which lies within the hole's bounds."""
    try:
        found = os.lseek(descriptor, offset, os.SEEK_DATA)
    except OSError:
        # ENXIO: from here to its end there is none.
        found = max(offset, os.fstat(descriptor).st_size)
    return min(found, hole.end)


def next_hole(descriptor: int, offset: int, hole: Hole) -> int:
    """Up to where all is there, from `offset` on. Raises OSError."""
    start = max(offset, hole.begin)
    try:
        return os.lseek(descriptor, start, os.SEEK_HOLE)
    except OSError:
        # ENXIO: the file ends before it.
        return start


def _write_note(path: bytes, hole: Hole) -> None:
    place = path + NOTE_SUFFIX
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(place + b".new", flags, 0o644)
    try:
        os.write(descriptor, b"%d %d\n" % hole)
    finally:
        os.close(descriptor)
    os.rename(place + b".new", place)


def _punch(descriptor: int, begin: int, end: int) -> None:
    """See fallocate(2), which Python only has without its flags. Raises OSError."""
    mode = _FALLOC_FL_PUNCH_HOLE | _FALLOC_FL_KEEP_SIZE
    if _libc.fallocate(descriptor, mode, begin, end - begin) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
