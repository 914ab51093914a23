"""Starting a process with resource limits: by fork, as `os.posix_spawn` cannot set any.

They cannot be set on the host for the time of a spawn, which needs address space, nor on the new
process from outside, which may have run by then. A fork of the host takes some milliseconds, so
only tasks that ask for such limits are started like this. The host is one thread: what its child
does before execve(2) finds no lock held.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NoReturn

_NUMBERS: Final = {
    name.removeprefix("RLIMIT_").lower(): getattr(resource, name)
    for name in dir(resource)
    if name.startswith("RLIMIT_")
}
_ERRNO_BYTES: Final = 4

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


def fork_and_exec(
    path: bytes,
    command: Sequence[bytes],
    variables: Mapping[bytes, bytes],
    *,
    file_actions: Sequence[tuple[Any, ...]],
    ulimits: Ulimits,
    defaults: Collection[int],
) -> int:
    """The pid of the new process, which leads a session. Raises OSError as execve(2) does.

    `file_actions` are those of `os.posix_spawn`, to open and to duplicate; `defaults` are
    signals that are not to stay ignored.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
        if not pid:
            _prepare(file_actions, ulimits, defaults, writer)
            _become(path, command, variables, writer)
    finally:
        os.close(writer)
        failure = b""
        try:
            # Nothing comes, and the pipe is closed, when it has become the program.
            failure = os.read(reader, _ERRNO_BYTES)
        finally:
            os.close(reader)
    if failure:
        os.waitpid(pid, 0)
        number = int.from_bytes(failure, "little")
        raise OSError(number, os.strerror(number))
    return pid


def _prepare(
    file_actions: Sequence[tuple[Any, ...]],
    ulimits: Ulimits,
    defaults: Collection[int],
    writer: int,
) -> None:
    """In the child."""
    try:
        signal.set_wakeup_fd(-1)
        for number in (*defaults, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.setsid()
        for action in file_actions:
            _perform(*action)
        # The last: what comes before is not the task's.
        for name, soft, hard in ulimits:
            resource.setrlimit(_NUMBERS[name], (soft, hard))
    except (OSError, ValueError) as error:
        _give_up(error, writer)


def _become(
    path: bytes, command: Sequence[bytes], variables: Mapping[bytes, bytes], writer: int
) -> NoReturn:
    """In the child: never returns."""
    try:
        os.execve(path, tuple(command), variables)
    except (OSError, ValueError, MemoryError) as error:
        _give_up(error, writer)


def _give_up(error: Exception, writer: int) -> NoReturn:
    """Tell by the pipe why this process has not become the program."""
    number = errno.ENOMEM if isinstance(error, MemoryError) else errno.EINVAL
    if isinstance(error, OSError) and error.errno:
        number = error.errno
    try:
        os.write(writer, number.to_bytes(_ERRNO_BYTES, "little"))
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
