"""Where a task's stdout and stderr go: into files of the worker's, or into such as its user named.

A file of the worker's is opened by the child; nobody else has written to it, and it begins
empty. One that the user named is opened here: it may be a pipe, whose open(2) could hold up
the child, and with it the host. It is appended to and never emptied: tasks of an array may
share it, an attempt that runs again must not take away what the one before wrote, and nothing
that was the user's is lost. In the worker's own directory there is a link to it instead of a
file, for all who read output, and beside that in `.begin` how long it was before, which is not
the task's. Of a task that runs as another account `.begin` says which file it was, too: that
account may put a link to anything in its place, which it could not read itself.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Final, TypeAlias

from titan.model import AttemptKey
from titan.patterns import expand
from titan.worker.messages import Launch
from titan.worker.output.paths import output_path

Action: TypeAlias = tuple[int, int, bytes, int, int] | tuple[int, int, int]
"""Of os.posix_spawn: to open or to duplicate."""

BEGIN_SUFFIX: Final = b".begin"

# An attempt starts once, so an older file of that name is another cluster's; an older link leads
# to a user's file, which must not be touched.
_OWN_FLAGS: Final = (
    os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_TRUNC | os.O_NOCTTY | os.O_NOFOLLOW
)
_OWN_MODE: Final = 0o644
_NAMED_FLAGS: Final = (
    os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOCTTY | os.O_CLOEXEC | os.O_NONBLOCK
)
# As a shell makes a file that output is redirected to.
_NAMED_MODE: Final = 0o666
_NO_FILE: Final = "it is no file"
_STREAMS: Final = ((1, b"out", "stdout"), (2, b"err", "stderr"))


class TargetError(Exception):
    """Output can't be written; the text is a sentence for the user."""


class OutputTargets:
    """The targets of tasks whose own files go below one directory."""

    def __init__(self, directory: bytes, worker_name: str) -> None:
        """The directory is an absolute path; the name is for sentences."""
        self._directory = directory
        self._worker_name = worker_name

    def own(self, key: AttemptKey) -> tuple[Action, ...]:
        """What makes the child's stdout and stderr where its user named no files."""
        base = output_path(self._directory, key, b"")
        return tuple(_own(number, base + suffix) for number, suffix, _ in _STREAMS)

    @contextlib.contextmanager
    def opened(
        self,
        key: AttemptKey,
        launch: Launch,
        rights: Callable[[], AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> Iterator[tuple[Action, ...]]:
        """What makes the child's stdout and stderr. In the task's directory. Raises TargetError.

        What its user named is opened within `rights`, and nothing else is.
        """
        with contextlib.ExitStack() as stack:
            actions: list[Action] = []
            for number, suffix, stream in _STREAMS:
                pattern = _named(launch, suffix)
                own = output_path(self._directory, key, suffix)
                if not pattern:
                    actions.append(_own(number, own))
                    continue
                path = expand(pattern, key, launch.job_name)
                try:
                    with rights():
                        descriptor = _open_named(path, launch.execution.umask)
                    stack.callback(os.close, descriptor)
                    target = os.path.join(launch.cwd or b"/", path)
                    _link(own, target, descriptor, is_guarded=rights is not contextlib.nullcontext)
                except (OSError, ValueError) as error:
                    where = f"{stream} to {path.decode(errors='replace')} on {self._worker_name}"
                    raise TargetError(f"cannot write {where}: {_why_not(path, error)}") from error
                actions.append((os.POSIX_SPAWN_DUP2, descriptor, number))
            yield tuple(actions)

    def touch(self, key: AttemptKey, launch: Launch) -> bool:
        """Make the worker's own files, if they are not there; whether a link was in the way.

        Raises TargetError.
        """
        had_link = False
        for _, suffix, _ in _STREAMS:
            if _named(launch, suffix):
                continue
            path = output_path(self._directory, key, suffix)
            flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            try:
                if os.path.islink(path):
                    os.unlink(path)
                    had_link = True
                os.close(os.open(path, flags, _OWN_MODE))
            except OSError as error:
                where = self._worker_name
                sentence = f"cannot write the output on {where}: {error.strerror}"
                raise TargetError(sentence) from error
        return had_link


def _own(number: int, path: bytes) -> Action:
    return (os.POSIX_SPAWN_OPEN, number, path, _OWN_FLAGS, _OWN_MODE)


def find_named(path: bytes) -> bytes:
    """The file that the user named, of the worker's own path; empty: he named none."""
    try:
        return os.readlink(path)
    except OSError:
        return b""


def read_begin(path: bytes) -> int:
    """How long a named file was before the attempt, by the worker's own path."""
    try:
        return int(_read_note(path)[0])
    except (OSError, ValueError, IndexError):
        return 0


def is_other_file(path: bytes, found: os.stat_result) -> bool:
    """Whether this is not the named file that was opened for the attempt, where that counts."""
    try:
        words = _read_note(path)[1:]
    except FileNotFoundError:
        return False
    except OSError:
        # Such as for want of descriptors: what is not known is not read.
        return True
    return bool(words) and words != _identity(found)


def _read_note(path: bytes) -> list[bytes]:
    with open(path + BEGIN_SUFFIX, "rb") as file:
        return file.read(200).split()


def _identity(found: os.stat_result) -> list[bytes]:
    # A number may be another file's once its file is gone; the owner is not the account then.
    return [b"%d" % each for each in (found.st_dev, found.st_ino, found.st_uid)]


def _named(launch: Launch, suffix: bytes) -> bytes:
    return launch.execution.stdout if suffix == b"out" else launch.execution.stderr


def _open_named(path: bytes, umask: int) -> int:
    """Raises OSError, ValueError."""
    before = os.umask(umask) if umask >= 0 else -1
    try:
        descriptor = os.open(path, _NAMED_FLAGS, _NAMED_MODE)
    finally:
        if before >= 0:
            os.umask(before)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode) or stat.S_ISCHR(mode):
        os.set_blocking(descriptor, True)
        return descriptor
    os.close(descriptor)
    raise ValueError(_NO_FILE)


def _link(own: bytes, target: bytes, descriptor: int, *, is_guarded: bool) -> None:
    """Raises OSError."""
    for path in (own, own + BEGIN_SUFFIX):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    found = os.fstat(descriptor)
    if found.st_size or is_guarded:
        words = [b"%d" % found.st_size, *(_identity(found) if is_guarded else ())]
        with open(own + BEGIN_SUFFIX, "wb") as file:
            file.write(b" ".join(words) + b"\n")
    os.symlink(target, own)


def _why_not(path: bytes, error: OSError | ValueError) -> str:
    if not isinstance(error, OSError):
        return str(error)
    folder = os.path.dirname(path)
    if error.errno == errno.ENOENT and folder and not os.path.isdir(folder):
        return f"there is no directory {folder.decode(errors='replace')}"
    if error.errno == errno.ENXIO:
        # A pipe that nobody reads.
        return _NO_FILE
    return error.strerror or str(error)
