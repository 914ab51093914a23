"""A file system in memory that forgets, tears, fails and fills up. For tests and simulations.

The fault model:

- What is written sits in a page cache until it is synced. `crash()` is a power loss: of each file,
  what was synced is kept, and of the unsynced writes and size changes none, all, or a random
  subset; a write that is kept may be torn at any byte. `kill()` is the end of the process: the
  cache stays.
- Names have the same fate as data: a file made, renamed or removed is so durably only after
  `fsync_directory`, of both directories if it moved from one to another. A rename is atomic: it
  survives whole or not at all. A file that was synced under a name that was not may be gone
  (stricter than ext4, as POSIX allows). Making a directory is durable.
- `fdatasync` and `fsync` make data and size durable. When one fails, the pages it could not write
  are clean all the same (as on Linux): a later sync reports success without them. They stay
  readable until the crash, and only writing them again makes them durable.
- A call can be made to fail with any errno, or to be the moment of a crash, by its number: all
  calls that change something are counted (`calls`). A failing write may have written a part. A
  crash strikes before the call, in the middle of a write, or after the call; from then on no call
  changes anything, whatever the program tries while the exception goes up.
- Space is finite if `capacity` is set: files take their size, without holes. A write past it is
  cut short, then fails with ENOSPC; an allocation takes what there is and fails.
- Not modelled: bits that rot (tests `put` them), reads that fail, links, permissions.

Every choice comes from the caller's `random.Random`: the same seed gives the same faults.
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from threading import RLock
from typing import Literal, NamedTuple

Moment = Literal["before", "during", "after"]


class SimulatedCrash(BaseException):
    """The machine stopped inside a call. Not an Exception: nothing may handle it."""


class Call(NamedTuple):
    """One call that changes something, as it is about to happen. `number` counts from 1."""

    number: int
    operation: str
    path: str


@dataclass
class Change:
    """An unsynced change of a file: bytes at an offset, or (data is None) a new size."""

    offset: int
    data: bytes | None

    def apply(self, content: bytearray) -> None:
        if self.data is None:
            resize(content, self.offset)
            return
        end = self.offset + len(self.data)
        if len(content) < end:
            resize(content, end)
        content[self.offset : end] = self.data


@dataclass(eq=False)
class File:
    """What all names and descriptors of a file share."""

    content: bytearray = field(default_factory=bytearray)
    synced: bytearray = field(default_factory=bytearray)
    unsynced: list[Change] = field(default_factory=list)

    def change(self, change: Change) -> None:
        change.apply(self.content)
        self.unsynced.append(change)

    def sync(self) -> None:
        for change in self.unsynced:
            change.apply(self.synced)
        self.unsynced.clear()


@dataclass
class Handle:
    file: File
    path: str
    write: bool


NameChanges = dict[str, File | None]
"""What one operation does to names: a file under a name, or None for a name that is gone."""


class Unsynced(NamedTuple):
    """Changed names, and the directories of them that are still to be synced."""

    changes: NameChanges
    directories: set[str]


class FakeFileSystem:
    """Implements wal.FileSystem. All methods may be called from several threads."""

    def __init__(self, random: Random | None = None, *, capacity: int | None = None) -> None:
        self.random = random or Random(0)
        self.capacity = capacity
        self.calls: list[Call] = []
        self.on_call: Callable[[Call], None] | None = None
        self._mutex = RLock()
        self._directories: set[str] = {"/"}
        self._names: dict[str, File] = {}
        self._synced_names: dict[str, File] = {}
        self._unsynced_names: list[Unsynced] = []
        self._handles: dict[int, Handle] = {}
        self._locks: dict[int, File] = {}
        self._next_fd = 1000
        self._failures: dict[int, tuple[int, int]] = {}
        self._failing: Callable[[Call], int | None] | None = None
        self._crash: tuple[int, Moment] | None = None
        self._stopped: Call | None = None

    # What tests do to it.

    @property
    def files(self) -> dict[str, bytearray]:
        """The contents by path, as a process sees them; to look at."""
        return {path: file.content for path, file in self._names.items()}

    @property
    def used(self) -> int:
        """How many bytes all files take."""
        return sum(len(file.content) for file in self._names.values())

    @property
    def open_count(self) -> int:
        """How many descriptors are open."""
        return len(self._handles)

    def put(self, path: str, content: bytes) -> None:
        """Put a durable file there: bit rot, or a disk from elsewhere."""
        self._directories.add(posixpath.dirname(path))
        file = self._names.get(path, File())
        file.content[:] = content
        file.synced[:] = content
        file.unsynced.clear()
        self._names[path] = self._synced_names[path] = file

    def remove(self, path: str) -> None:
        """Remove a file durably."""
        del self._names[path]
        self._synced_names.pop(path, None)

    def fail_at(self, number: int, error: int, *, written: int = 0) -> None:
        """Let call `number` fail; a write has then written that many bytes."""
        self._failures[number] = (error, written)

    def fail_while(self, failing: Callable[[Call], int | None] | None) -> None:
        """Ask at each call for an errno to fail with; None ends it."""
        self._failing = failing

    def crash_at(self, number: int, moment: Moment = "before") -> None:
        """Raise SimulatedCrash at call `number`; then call `crash` or `kill`."""
        self._crash = (number, moment)
        self._stopped = None

    def kill(self) -> None:
        """End the process: descriptors and locks are gone, all that was written is there."""
        self._handles.clear()
        self._locks.clear()
        self._failures.clear()
        self._failing = None
        self._crash = None
        self._stopped = None

    def crash(
        self, keep: Literal["none", "all", "random"] = "none", *, torn: int | None = None
    ) -> None:
        """Lose power. `torn`: everything is kept but the last write, and of that so many bytes."""
        self.kill()
        if torn is not None:
            keep = "all"
        self._names = self._surviving_names(keep)
        self._synced_names = dict(self._names)
        self._unsynced_names.clear()
        for file in {id(file): file for file in self._names.values()}.values():
            for change in self._surviving_changes(file, keep, torn):
                change.apply(file.synced)
            file.unsynced.clear()
            file.content = bytearray(file.synced)

    def _surviving_names(self, keep: str) -> dict[str, File]:
        names = dict(self._synced_names)
        for changes, _ in self._unsynced_names:
            if keep == "all" or (keep == "random" and self.random.random() < 0.5):
                for path, file in changes.items():
                    if file is None:
                        names.pop(path, None)
                    else:
                        names[path] = file
        return names

    def _surviving_changes(self, file: File, keep: str, torn: int | None) -> list[Change]:
        if keep == "none":
            return []
        changes = list(file.unsynced)
        if keep == "all":
            if torn is not None and changes and changes[-1].data is not None:
                changes[-1] = Change(changes[-1].offset, changes[-1].data[:torn])
            return changes
        kept = []
        for change in changes:
            if self.random.random() < 0.5:
                continue
            data = change.data
            if data is not None and self.random.random() < 0.5:
                data = data[: self.random.randint(0, len(data))]
            kept.append(Change(change.offset, data))
        return kept

    # What the log calls.

    def make_directory(self, path: str) -> None:
        with self._mutex:
            while path not in self._directories:
                self._directories.add(path)
                path = posixpath.dirname(path) or "/"

    def list_directory(self, path: str) -> list[str]:
        with self._mutex:
            if path not in self._directories:
                raise _error(errno.ENOENT, path)
            return [posixpath.basename(name) for name in self._names if _is_in(path, name)]

    def open(self, path: str, *, write: bool = False, create: bool = False) -> int:
        with self._mutex:
            file = self._names.get(path)
            if file is None:
                if not create or posixpath.dirname(path) not in self._directories:
                    raise _error(errno.ENOENT, path)
                self._before("create", path)
                file = File()
                self._change_names({path: file})
                self._after()
            self._next_fd += 1
            self._handles[self._next_fd] = Handle(file, path, write)
            return self._next_fd

    def close(self, fd: int) -> None:
        with self._mutex:
            self._handle(fd)
            del self._handles[fd]
            self._locks.pop(fd, None)

    def size(self, fd: int) -> int:
        with self._mutex:
            return len(self._handle(fd).file.content)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        with self._mutex:
            return bytes(self._handle(fd).file.content[offset : offset + size])

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        with self._mutex:
            handle = self._writable(fd)
            file, taken = handle.file, bytes(data)
            written = self._before("write", handle.path, taken)
            if written is not None:
                file.change(Change(offset, taken[: written[1]]))
                raise written[0]
            growth = offset + len(taken) - len(file.content)
            short = growth - self._free()
            if short > 0:
                taken = taken[: max(0, len(taken) - short)]
                if not taken:
                    raise _error(errno.ENOSPC, handle.path)
            file.change(Change(offset, taken))
            self._after()
            return len(taken)

    def fdatasync(self, fd: int) -> None:
        self._sync("fdatasync", fd)

    def fsync(self, fd: int) -> None:
        self._sync("fsync", fd)

    def fsync_directory(self, path: str) -> None:
        with self._mutex:
            self._before("fsync_directory", path)
            kept = []
            for unsynced in self._unsynced_names:
                unsynced.directories.discard(path)
                if unsynced.directories:
                    kept.append(unsynced)
                    continue
                for name, file in unsynced.changes.items():
                    if file is None:
                        self._synced_names.pop(name, None)
                    else:
                        self._synced_names[name] = file
            self._unsynced_names = kept
            self._after()

    def fallocate(self, fd: int, size: int) -> None:
        with self._mutex:
            handle = self._writable(fd)
            self._before("fallocate", handle.path)
            growth = size - len(handle.file.content)
            if growth > self._free():
                if self._free():
                    handle.file.change(Change(len(handle.file.content) + self._free(), None))
                raise _error(errno.ENOSPC, handle.path)
            if growth > 0:
                handle.file.change(Change(size, None))
            self._after()

    def ftruncate(self, fd: int, size: int) -> None:
        with self._mutex:
            handle = self._writable(fd)
            self._before("ftruncate", handle.path)
            handle.file.change(Change(size, None))
            self._after()

    def free_bytes(self, path: str) -> int:
        return self._free()

    def rename(self, old: str, new: str) -> None:
        with self._mutex:
            if old not in self._names:
                raise _error(errno.ENOENT, old)
            self._before("rename", old)
            self._change_names({old: None, new: self._names[old]})
            self._after()

    def unlink(self, path: str) -> None:
        with self._mutex:
            if path not in self._names:
                raise _error(errno.ENOENT, path)
            self._before("unlink", path)
            self._change_names({path: None})
            self._after()

    def lock(self, fd: int, timeout_seconds: float = 0.0) -> bool:
        """Never waits: time stands still in a call, so nobody could let go."""
        with self._mutex:
            file = self._handle(fd).file
            if any(held is file for other, held in self._locks.items() if other != fd):
                return False
            self._locks[fd] = file
            return True

    def _sync(self, operation: str, fd: int) -> None:
        with self._mutex:
            handle = self._handle(fd)
            try:
                self._before(operation, handle.path)
            except OSError:
                handle.file.unsynced.clear()
                raise
            handle.file.sync()
            self._after()

    def _handle(self, fd: int) -> Handle:
        if fd not in self._handles:
            raise _error(errno.EBADF, f"descriptor {fd}")
        return self._handles[fd]

    def _writable(self, fd: int) -> Handle:
        handle = self._handle(fd)
        if not handle.write:
            raise _error(errno.EBADF, handle.path)
        return handle

    def _free(self) -> int:
        return 1 << 62 if self.capacity is None else max(0, self.capacity - self.used)

    def _change_names(self, changes: NameChanges) -> None:
        self._unsynced_names.append(Unsynced(changes, {*map(posixpath.dirname, changes)}))
        for path, file in changes.items():
            if file is None:
                del self._names[path]
            else:
                self._names[path] = file

    def _before(
        self, operation: str, path: str, data: bytes | None = None
    ) -> tuple[BaseException, int] | None:
        """Count the call, and fail if it is to; a torn write gets its error and its length."""
        if self._stopped is not None:
            raise SimulatedCrash(self._stopped)
        call = Call(len(self.calls) + 1, operation, path)
        self.calls.append(call)
        if self.on_call is not None:
            self.on_call(call)
        if self._crash is not None and self._crash[0] == call.number:
            if self._crash[1] == "before":
                self._stopped = call
                raise SimulatedCrash(call)
            if self._crash[1] == "during" and data is not None:
                self._stopped = call
                return SimulatedCrash(call), self.random.randint(0, len(data))
        code, written = self._failures.pop(call.number, (None, 0))
        if code is None and self._failing is not None:
            code = self._failing(call)
        if code is None:
            return None
        if data is None or written == 0:
            raise _error(code, path)
        return _error(code, path), written

    def _after(self) -> None:
        if self._crash is not None and self._crash[0] == len(self.calls):
            self._stopped = self.calls[-1]
            raise SimulatedCrash(self._stopped)


def resize(content: bytearray, size: int) -> None:
    """Cut or fill up with zeros."""
    if len(content) > size:
        del content[size:]
    else:
        content.extend(bytes(size - len(content)))


def _is_in(directory: str, path: str) -> bool:
    return posixpath.dirname(path) == directory


def _error(code: int, path: str) -> OSError:
    return OSError(code, os.strerror(code), path)
