"""The next segment, made before it is needed.

Making files is where a full disk shows first. With the next segment's blocks in hand, a full disk
is noticed a whole segment before it stops the log, and the owner has that much room to finish what
it must write.
"""

from __future__ import annotations

from contextlib import suppress

from wal.directory import RESERVE_NAME, join, segment_name
from wal.errors import LogFailed
from wal.filesystem import FileSystem, write_all
from wal.layout import SegmentHeader, encode_segment_header


class Reserve:
    """The file `next.tmp`: preallocated, without a name of its own until it becomes a segment."""

    def __init__(self, file_system: FileSystem, directory: str, segment_bytes: int) -> None:
        self._file_system = file_system
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._path = join(directory, RESERVE_NAME)
        self._fd: int | None = None
        self.preallocated = False

    def ensure(self) -> None:
        """Make and preallocate the file if that is not done. Raises OSError; may be called again.

        A leftover of an earlier run is used again: at most a segment header was ever written to it,
        and that is overwritten before the file gets a segment's name.
        """
        if self.preallocated:
            return
        fd = self._open()
        if self._file_system.size(fd) > self._segment_bytes:
            self._file_system.ftruncate(fd, 0)  # The segment size was made smaller since.
        try:
            self._file_system.fallocate(fd, self._segment_bytes)
        except OSError:
            # What was got of it is given back: the records of now need it more.
            self._file_system.ftruncate(fd, 0)
            raise
        self.preallocated = True

    def become_segment(self, header: SegmentHeader) -> tuple[int, bool]:
        """Turn the file into a segment, durably; return its descriptor and if it is preallocated.

        Without preallocation it becomes one all the same and grows as it is written. Raises OSError
        if it may be tried again; LogFailed if a sync failed.
        """
        # If there is no room for all of it, the owner hears of that when the next reserve is made.
        with suppress(OSError):
            self.ensure()
        fd = self._open()
        path = join(self._directory, segment_name(header.first_lsn))
        write_all(self._file_system, fd, encode_segment_header(header), 0)
        try:
            self._file_system.fsync(fd)
        except OSError as error:
            raise LogFailed(self._path, "fsync", str(error)) from error
        self._file_system.rename(self._path, path)
        try:
            self._file_system.fsync_directory(self._directory)
        except OSError as error:
            raise LogFailed(self._directory, "fsync", str(error)) from error
        preallocated = self.preallocated
        self._fd, self.preallocated = None, False
        return fd, preallocated

    def close(self) -> None:
        """Close the file; it stays for the next run. Idempotent."""
        fd, self._fd = self._fd, None
        if fd is not None:
            self._file_system.close(fd)

    def _open(self) -> int:
        if self._fd is None:
            self._fd = self._file_system.open(self._path, write=True, create=True)
        return self._fd
