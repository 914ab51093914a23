"""Runs the task host of one directory.

python -m titan.worker.host DIR [LEVEL FORMAT]
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from pathlib import Path

from titan import logs
from titan.logs import LogLine
from titan.worker import directory, processes
from titan.worker.host.host import Host

_log = logging.getLogger("titan.worker.host")


def main(arguments: list[str]) -> int:
    """Run the host of the directory that is the first argument."""
    level, log_format = arguments[1:] or ("info", "text")
    logs.set_up(level, log_format)
    # Without symbolic links, as the kernel shows the paths of open files.
    path = Path(arguments[0]).resolve()
    try:
        processes.become_subreaper()
        host = Host(path)
    except directory.Locked as error:
        _log.info("%s", error)
        return directory.EXIT_IN_USE
    except (directory.DirectoryError, OSError) as error:
        # Such as a full disk. The agent tries again.
        _log.error("the task host does not start in %s: %s", path, error)
        return 1
    # Few cycles are made here; looking for them at every 700 objects would cost more than they.
    gc.set_threshold(50_000)
    _log.info(LogLine("the task host started", pid=os.getpid(), directory=path))
    host.run()
    _log.info(LogLine("the task host ended", pid=os.getpid()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
