"""The process that takes one snapshot and ends.

    python -m titan.lookback.snapshotter DIR LEVEL FORMAT LEFT_FREE_BYTES PARENT

The manager starts it and is never held up by it: it reads the log like any other reader.
It dies with the manager, and a lock of its own keeps a second one out.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
from pathlib import Path
from typing import Final

import wal
from titan import logs
from titan.errors import TitanError
from titan.logs import LogLine
from titan.parent import become_helper
from titan.snapshots import snapshot_directory, take_snapshot
from titan.state.cluster import IllegalEvent
from titan.state.replay import UnknownRecord

_log = logging.getLogger("titan.snapshotter")

NICENESS: Final = 10


def main(arguments: list[str]) -> int:
    """Takes a snapshot of the data directory, logs from that level on as that, leaves so much free.

    The last argument is its parent's pid.
    """
    directory, level, log_format = Path(arguments[0]), arguments[1], arguments[2]
    left_free_bytes, parent = int(arguments[3]), int(arguments[4])
    logs.set_up(level, log_format)
    become_helper(parent, NICENESS)
    # It ends soon; what it makes of a large state is no garbage before.
    gc.disable()
    start = time.monotonic()
    try:
        snapshots = snapshot_directory(directory)
        snapshots.mkdir(mode=0o700, exist_ok=True)
        lock = wal.Lock(snapshots / "lock")
        try:
            taken = take_snapshot(
                directory,
                lambda error: _log.warning("%s", error),
                left_free_bytes=left_free_bytes,
            )
        finally:
            lock.release()
    except (TitanError, wal.WalError, OSError, UnknownRecord, IllegalEvent) as error:
        _log.error("no snapshot was taken: %s", error)
        return 1
    if taken is not None:
        _log.info(
            LogLine(
                "a snapshot was taken",
                lsn=taken.lsn,
                bytes=taken.size_bytes,
                records=taken.records,
                seconds=round(time.monotonic() - start, 2),
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
