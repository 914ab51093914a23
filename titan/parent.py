"""Processes that help the one that started them, and end with it, however that ends."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

# PR_SET_PDEATHSIG in prctl(2).
_SET_PARENT_DEATH_SIGNAL: Final = 1


def become_helper(parent: int | None, niceness: int) -> None:
    """What a server's helper does first: it ends with the server, and gives way to others.

    `parent` as in `die_with_parent`. Raises OSError.
    """
    # Ctrl-C in a terminal is for the server, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)
    os.nice(niceness)


def die_with_parent(parent: int | None = None, number: int = signal.SIGKILL) -> None:
    """From now on this process gets that signal when its parent dies. Raises OSError.

    `parent` is who that should be; without it one that died before this call goes unnoticed.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_PARENT_DEATH_SIGNAL, int(number), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    # It may have died before it could be asked for, and this one have another parent by now.
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), number)
