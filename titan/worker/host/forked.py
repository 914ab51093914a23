"""Starting a process with resource limits, or as another account: by fork.

`os.posix_spawn` can do neither. Limits cannot be set on the host for the time of a spawn, which
needs address space, nor on the new process from outside, which may have run by then. A fork of the
host takes some milliseconds, so only tasks that ask for such things are started like this. The
host is one thread: what its child does before execve(2) finds no lock held.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, NoReturn

_NUMBERS: Final = {
    name.removeprefix("RLIMIT_").lower(): getattr(resource, name)
    for name in dir(resource)
    if name.startswith("RLIMIT_")
}
# An error number, and which of the limits could not be set, counted from 1; 0: it was none.
_FAILURE: Final = struct.Struct("<II")

Ulimits = Sequence[tuple[str, int, int]]


class LimitError(Exception):
    """This machine does not allow that limit; the text is a sentence for the user."""


def check_ulimits(ulimits: Ulimits) -> None:
    """Raises LimitError. Only root may raise a hard limit."""
    for name, _, hard in ulimits:
        number = _NUMBERS.get(name)
        if number is None:
            raise LimitError(f"there is no limit {name}")
        most = resource.getrlimit(number)[1]
        if os.geteuid() == 0 or most == resource.RLIM_INFINITY:
            continue
        if hard == resource.RLIM_INFINITY or hard > most:
            raise LimitError(f"the limit {name} can be at most {most}")


def allow_limits(ulimits: Ulimits) -> None:
    """Raise what hard limits are in the way of these: root alone can, who is root no more soon.

    Raises OSError.
    """
    for name, _, hard in ulimits:
        soft_now, hard_now = resource.getrlimit(_NUMBERS[name])
        is_more = hard == resource.RLIM_INFINITY or hard > hard_now
        if hard_now != resource.RLIM_INFINITY and is_more and os.geteuid() == 0:
            resource.setrlimit(_NUMBERS[name], (soft_now, hard))


def fork_and_exec(
    path: bytes,
    command: Sequence[bytes],
    variables: Mapping[bytes, bytes],
    *,
    file_actions: Sequence[tuple[Any, ...]],
    ulimits: Ulimits,
    defaults: Collection[int],
    ignored: Collection[int] = (),
    keep: Collection[int] = (),
    become: Callable[[], None] | None = None,
) -> int:
    """The pid of the new process, which leads a session.

    Raises OSError as execve(2) does, LimitError.

    `file_actions` are those of `os.posix_spawn`, to open and to duplicate; `defaults` are
    signals that are not to stay ignored, and `ignored` are such as are to be; `keep` are
    descriptors that it keeps. `become` is the last that is called before it is the program.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
        if not pid:
            _prepare(file_actions, ulimits, (defaults, ignored), keep, become, writer)
            _become(path, command, variables, writer)
    finally:
        os.close(writer)
        failure = b""
        try:
            # Nothing comes, and the pipe is closed, when it has become the program.
            failure = os.read(reader, _FAILURE.size)
        finally:
            os.close(reader)
    if failure:
        os.waitpid(pid, 0)
        number, which = _FAILURE.unpack(failure)
        if which:
            name = ulimits[which - 1][0]
            raise LimitError(f"the limit {name} cannot be set: {os.strerror(number)}")
        raise OSError(number, os.strerror(number))
    return pid


def _prepare(
    file_actions: Sequence[tuple[Any, ...]],
    ulimits: Ulimits,
    signals: tuple[Collection[int], Collection[int]],
    keep: Collection[int],
    become: Callable[[], None] | None,
    writer: int,
) -> None:
    """In the child."""
    defaults, ignored = signals
    which = 0
    try:
        signal.set_wakeup_fd(-1)
        for number in (*defaults, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setsid()
        for action in file_actions:
            _perform(*action)
        for descriptor in keep:
            os.set_inheritable(descriptor, True)
        # Behind all that opens something: that is not the task's.
        for which, (name, soft, hard) in enumerate(ulimits, 1):  # noqa: B007 - for the handler
            resource.setrlimit(_NUMBERS[name], (soft, hard))
        which = 0
        if become is not None:
            become()
    except (OSError, ValueError) as error:
        _give_up(error, writer, which)


def _become(
    path: bytes, command: Sequence[bytes], variables: Mapping[bytes, bytes], writer: int
) -> NoReturn:
    """In the child: never returns."""
    try:
        os.execve(path, tuple(command), variables)
    except (OSError, ValueError, MemoryError) as error:
        _give_up(error, writer)


def _give_up(error: Exception, writer: int, which: int = 0) -> NoReturn:
    """Tell by the pipe why this process has not become the program, and which limit it was."""
    number = errno.ENOMEM if isinstance(error, MemoryError) else errno.EINVAL
    if isinstance(error, OSError) and error.errno:
        number = error.errno
    try:
        os.write(writer, _FAILURE.pack(number, which))
    finally:
        os._exit(127)


def _perform(kind: int, descriptor: int, *rest: Any) -> None:
    if kind == os.POSIX_SPAWN_OPEN:
        path, flags, mode = rest
        opened = os.open(path, flags, mode)
        os.dup2(opened, descriptor)
        if opened != descriptor:
            os.close(opened)
    elif kind == os.POSIX_SPAWN_DUP2:
        os.dup2(descriptor, rest[0])
    else:
        raise AssertionError(f"no such action {kind}")
