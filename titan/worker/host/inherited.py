"""What a task has from the task host at its start: set here for the spawn, and set back.

`os.posix_spawn` has no action for these. The host is one thread, so nothing else sees them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator


@contextlib.contextmanager
def inherited(umask: int, cpus: Collection[int]) -> Iterator[None]:
    """What is spawned within it has this umask, unless it is -1, and these cpus, if any."""
    with contextlib.ExitStack() as stack:
        if umask >= 0:
            stack.callback(os.umask, os.umask(umask))
        if cpus:
            stack.callback(os.sched_setaffinity, 0, os.sched_getaffinity(0))
            os.sched_setaffinity(0, cpus)
        yield
