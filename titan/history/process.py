"""The process that writes the history, beside a manager that started it or by itself.

    TITAN_HISTORY_URL=… python -m titan.history.process DIR LEVEL FORMAT PARENT

The URL may have a password in it, which a process listing must not show. It dies with its parent.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path
from threading import Event
from typing import Final

import wal
from titan import logs
from titan.errors import TitanError
from titan.history.database import open_for_writing, url_of
from titan.history.projector import Projector
from titan.history.store import Store
from titan.parent import die_with_parent

_log = logging.getLogger("titan.history")

URL_VARIABLE: Final = "TITAN_HISTORY_URL"
NICENESS: Final = 10


def run_history(data_directory: Path, given_url: str, *, until_end: bool = False) -> None:
    """Writes the history until SIGTERM or SIGINT, or to the end of what there is.

    Raises TitanError, wal.Locked.
    """
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: stop.set())
    # Alembic tells of each of its steps.
    logging.getLogger("alembic").setLevel("WARNING")
    url = url_of(given_url, data_directory)
    _log.info("the history goes to %s", url.render_as_string(hide_password=True))
    Projector(data_directory, Store(open_for_writing(url)), stop=stop).run(until_end=until_end)


def main(arguments: list[str]) -> int:
    """The data directory, from which level on it logs and as what, and its parent's pid."""
    directory, level, log_format = Path(arguments[0]), arguments[1], arguments[2]
    parent = int(arguments[3])
    logs.set_up(level, log_format)
    # Ctrl-C in a terminal is for the manager, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent)
    os.nice(NICENESS)
    try:
        run_history(directory, os.environ.get(URL_VARIABLE, ""))
    except (TitanError, wal.Locked, OSError) as error:
        _log.error("no history is written: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
