"""What a task has from the task host at its start: set here for the spawn, and set back.

`os.posix_spawn` has no action for these. The host is one thread, so nothing else sees them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Final

from titan.model import PLAIN, Execution

_NOTHING: Final = contextlib.nullcontext()


def inherited(execution: Execution) -> AbstractContextManager[None]:
    """What is spawned within it is run that way."""
    return _NOTHING if execution == PLAIN else _set(execution)


@contextlib.contextmanager
def _set(execution: Execution) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        if execution.umask >= 0:
            stack.callback(os.umask, os.umask(execution.umask))
        yield
