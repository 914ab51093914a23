"""The lock file: one writer for each log, and a name for who it is."""

from __future__ import annotations

import os
from contextlib import suppress

from wal.directory import StrPath
from wal.errors import Locked
from wal.filesystem import OS_FILE_SYSTEM, FileSystem, write_all

PATIENCE_SECONDS = 0.2
"""Whoever asks if a log is in use takes the lock for a moment; that must not turn its writer away.
A person who starts a second writer still hears of it at once."""


class Lock:
    """An exclusive lock (flock(2)) on a file that holds the pid of its holder, if there is room.

    The kernel lets it go when the process ends, however it ends, so a leftover file means nothing.
    The file is never removed: between the removal and a new one two processes could each hold a
    lock.
    """

    def __init__(self, path: StrPath, *, file_system: FileSystem = OS_FILE_SYSTEM) -> None:
        """Take the lock; the directory must be there.

        Raises Locked, with the holder's pid, if another has it and keeps it; OSError.
        """
        self._file_system = file_system
        self._fd: int | None = None
        fd = file_system.open(os.fspath(path), write=True, create=True)
        try:
            if not file_system.lock(fd, PATIENCE_SECONDS):
                raise Locked(os.fspath(path), _parse_pid(file_system.pread(fd, 32, 0)))
            # For people only: without room for it on the disk the lock holds all the same.
            with suppress(OSError):
                file_system.ftruncate(fd, 0)
                write_all(file_system, fd, b"%d\n" % os.getpid(), 0)
        except BaseException:
            file_system.close(fd)
            raise
        self._fd = fd

    def release(self) -> None:
        """Let the lock go. Idempotent."""
        fd, self._fd = self._fd, None
        if fd is not None:
            self._file_system.close(fd)


def _parse_pid(content: bytes) -> int:
    text = content.strip()
    return int(text) if text.isdigit() else 0
