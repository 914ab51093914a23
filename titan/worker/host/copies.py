"""A worker's directory that was copied from one whose task host still runs.

The copy has the other worker's identity, and its journal names the other one's tasks. Whoever
started on it as it is would take them for the tasks of a dead host and end them, and the manager
would take the other worker for one that was started anew and has lost them.
"""

from __future__ import annotations

import contextlib
import logging
import time
from pathlib import Path
from typing import Final

from titan.worker import directory, processes
from titan.worker.host import journal as host_journal

# A host that was killed lets go of its lock and is gone right after; beyond it, it is alive.
GONE_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)


def is_writer_alive(header: host_journal.Header) -> bool:
    """Whether the host that wrote the journal runs. Takes `GONE_SECONDS` when it does.

    For who knows that no host runs on the directory that the journal was found in.
    """
    if not header.pid or header.boot_id != processes.boot_id():
        return False
    deadline = time.monotonic() + GONE_SECONDS
    while processes.find_start_ticks(header.pid) == header.start_ticks:
        if time.monotonic() > deadline:
            return True
        time.sleep(0.01)
    return False


def disown(path: Path) -> None:
    """Take from a copied directory what is the other worker's; does nothing to any other.

    Only the agent that holds its lock may do this. Raises DirectoryError, OSError.
    """
    found = None
    with contextlib.suppress(host_journal.JournalError):
        found = host_journal.read(path / host_journal.NAME)
    if found is None:
        return
    try:
        lock = directory.Lock(path / "host.lock", "its task host")
    except directory.Locked:
        return
    try:
        header, _ = found
        if is_writer_alive(header):
            _log.warning(
                "%s is a copy of the directory of another worker, whose task host is pid %d: "
                "this is a worker of its own, without that one's tasks",
                path,
                header.pid,
            )
            # In this order: killed in between, it would be found out again.
            directory.store_identity(path, b"")
            (path / host_journal.NAME).unlink()
    finally:
        lock.release()
