"""The few file-system calls that the log is made of, and their real form.

Nothing else in the package touches files. Tests put an in-memory file system behind the same
protocol that can fail, tear and drop. Descriptors are plain integers, paths are strings.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Protocol

LOCK_POLL_SECONDS = 0.01
"""How often a lock that is held is tried again: flock(2) can wait, but not for a limited time."""

UNSYNCED_BYTES_MAX = 8 << 20
"""A large file that is written beside a log is synced every so often: what is written all at once
holds up the log's own syncs on the same disk, and they are what people wait for."""

CHUNK_BYTES = 4 << 20
"""How much of a file that is copied is in memory at a time."""


class FileSystem(Protocol):
    """Calls raise OSError as the operating system does."""

    def make_directory(self, path: str) -> None:
        """Make the directory and its parents durably; nothing happens if it is there."""

    def list_directory(self, path: str) -> list[str]:
        """Return the names in a directory, in no order."""

    def open(self, path: str, *, write: bool = False, create: bool = False) -> int:
        """Open a file for reading, or for both; `create` makes it if absent."""

    def close(self, fd: int) -> None:
        """Close a descriptor; its lock goes with it."""

    def size(self, fd: int) -> int:
        """Return the size of the open file in bytes."""

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        """Read up to `size` bytes; fewer at the end of the file."""

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """Write at an offset; returns how many bytes were taken, which may be fewer."""

    def fdatasync(self, fd: int) -> None:
        """Make the data, and the size if it matters to reading them, durable."""

    def fsync(self, fd: int) -> None:
        """Make data and metadata durable."""

    def fsync_directory(self, path: str) -> None:
        """Make creations, renames and removals in the directory durable."""

    def fallocate(self, fd: int, size: int) -> None:
        """Reserve blocks for the first `size` bytes; the file grows to that, new bytes are zero."""

    def ftruncate(self, fd: int, size: int) -> None:
        """Cut the file to `size` bytes."""

    def free_bytes(self, path: str) -> int:
        """Return how much may be written where the directory is, as far as that is known."""

    def rename(self, old: str, new: str) -> None:
        """Rename atomically, replacing what has the new name."""

    def unlink(self, path: str) -> None:
        """Remove a file."""

    def lock(self, fd: int, timeout_seconds: float = 0.0) -> bool:
        """Take the exclusive lock of the open file; False if another holds it that long."""


class OsFileSystem:
    """The operating system's files (Linux)."""

    def make_directory(self, path: str) -> None:
        if os.path.isdir(path):
            return
        parent = os.path.dirname(os.path.abspath(path))
        self.make_directory(parent)
        os.makedirs(path, mode=0o700, exist_ok=True)
        self.fsync_directory(parent)

    def list_directory(self, path: str) -> list[str]:
        return os.listdir(path)

    def open(self, path: str, *, write: bool = False, create: bool = False) -> int:
        flags = os.O_RDWR if write else os.O_RDONLY
        return os.open(path, flags | (os.O_CREAT if create else 0) | os.O_CLOEXEC, 0o600)

    def close(self, fd: int) -> None:
        os.close(fd)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        return os.pwrite(fd, data, offset)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def fsync_directory(self, path: str) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def fallocate(self, fd: int, size: int) -> None:
        try:
            os.posix_fallocate(fd, 0, size)
        except OSError as error:
            # A file system without the call still works; only the reserve against a full disk is
            # lost.
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            if self.size(fd) < size:
                os.ftruncate(fd, size)

    def ftruncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def free_bytes(self, path: str) -> int:
        room = os.statvfs(path)
        return room.f_bavail * room.f_frsize

    def rename(self, old: str, new: str) -> None:
        os.rename(old, new)

    def unlink(self, path: str) -> None:
        os.unlink(path)

    def lock(self, fd: int, timeout_seconds: float = 0.0) -> bool:
        end = time.monotonic() + timeout_seconds
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= end:
                    return False
                time.sleep(LOCK_POLL_SECONDS)
            else:
                return True


OS_FILE_SYSTEM = OsFileSystem()


def sync_name_of(file_system: FileSystem, directory: str) -> None:
    """Make a directory's own name durable, which whoever made it may not have lived to do.

    A parent that may be passed through and not opened is somebody else's, as what is in it was
    before. Raises OSError.
    """
    with suppress(PermissionError):
        file_system.fsync_directory(os.path.dirname(os.path.abspath(directory)))


def write_all(file_system: FileSystem, fd: int, data: bytes, offset: int) -> None:
    """Write all of `data`: a short write is continued until the file system says why (write(2))."""
    written = file_system.pwrite(fd, data, offset)
    if written == len(data):
        return
    view = memoryview(data)
    while written < len(data):
        count = file_system.pwrite(fd, view[written:], offset + written)
        if count <= 0:
            raise OSError(errno.EIO, "the file system takes no bytes and gives no reason")
        written += count


def read_all(file_system: FileSystem, fd: int, size: int, offset: int) -> bytes:
    """Read `size` bytes, or as many as there are before the end of the file."""
    data = file_system.pread(fd, size, offset)
    if len(data) == size or not data:
        return data
    parts = [data]
    have = len(data)
    while have < size:
        data = file_system.pread(fd, size - have, offset + have)
        if not data:
            break
        parts.append(data)
        have += len(data)
    return b"".join(parts)


def read_chunks(file_system: FileSystem, fd: int, offset: int, end: int) -> Iterator[bytes]:
    """Yield the bytes from `offset` to `end`, or to the end of the file, a few MiB at a time."""
    while chunk := read_all(file_system, fd, min(CHUNK_BYTES, end - offset), offset):
        yield chunk
        offset += len(chunk)


def replace_file(
    file_system: FileSystem, directory: str, name: str, temporary: str, chunks: Iterable[bytes]
) -> int:
    """Write a file that is there whole or not at all, durably; return its size.

    Makes the directory if it is absent. `temporary` is its name until it is whole; a leftover is
    overwritten, and after an error it is removed if that can be. Raises OSError, and what `chunks`
    raises. If it is the last sync, of the directory, that fails, the file is there and whole, and
    may or may not survive a power loss.
    """
    file_system.make_directory(directory)
    path = f"{directory}/{temporary}"
    fd = file_system.open(path, write=True, create=True)
    try:
        try:
            size = _write_chunks(file_system, fd, chunks)
            file_system.fsync(fd)
        finally:
            file_system.close(fd)
        file_system.rename(path, f"{directory}/{name}")
    except BaseException:
        with suppress(OSError):
            file_system.unlink(path)
        raise
    file_system.fsync_directory(directory)
    return size


def _write_chunks(file_system: FileSystem, fd: int, chunks: Iterable[bytes]) -> int:
    file_system.ftruncate(fd, 0)
    size = synced = 0
    for chunk in chunks:
        write_all(file_system, fd, chunk, size)
        size += len(chunk)
        if size - synced > UNSYNCED_BYTES_MAX:
            file_system.fdatasync(fd)
            synced = size
    return size
