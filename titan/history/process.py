"""The process that writes the history, beside a manager that started it or by itself.

    TITAN_HISTORY_URL=… python -m titan.history.process DIR LEVEL FORMAT PARENT SOCKET NICENESS

It answers the manager's questions on that socket, and dies with its parent. The URL may have a
password in it, which a process listing must not show.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import sqlalchemy as sa

import wal
from titan import logs
from titan.errors import TitanError
from titan.history.database import open_for_reading, open_for_writing, url_of
from titan.history.projector import Projector
from titan.history.questions import Questions
from titan.history.server import QuestionServer
from titan.history.store import Place, Store
from titan.parent import become_helper
from titan.rpc.history_frames import URL_VARIABLE, Committed

_log = logging.getLogger("titan.history")


def run_history(
    data_directory: Path,
    given_url: str,
    *,
    until_end: bool = False,
    connection: socket.socket | None = None,
) -> None:
    """Writes the history until SIGTERM or SIGINT, or to the end of what there is.

    What is asked over the connection, if there is one, is answered. Raises TitanError, wal.Locked.
    """
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: stop.set())
    # Alembic tells of each of its steps.
    logging.getLogger("alembic").setLevel("WARNING")
    url = url_of(given_url, data_directory)
    _log.info("the history goes to %s", url.render_as_string(hide_password=True))
    store = Store(open_for_writing(url))
    if connection is None:
        Projector(data_directory, store, stop=stop).run(until_end=until_end)
        return
    wake = Event()
    server = QuestionServer(connection, lambda: _opened(url), wake)

    def committed(place: Place) -> None:
        server.send(Committed(place.position.lsn))

    server.start()
    try:
        Projector(
            data_directory, store, stop=stop, wake=wake, on_follow=committed, on_batch=committed
        ).run(until_end=until_end)
    finally:
        server.close()


@contextmanager
def _opened(url: sa.URL) -> Iterator[Questions]:
    engine = open_for_reading(url)
    try:
        yield Questions(engine)
    finally:
        engine.dispose()


def main(arguments: list[str]) -> int:
    """Data directory, from which level on it logs and as what, parent's pid, socket, niceness."""
    directory, level, log_format = Path(arguments[0]), arguments[1], arguments[2]
    parent = int(arguments[3])
    connection = socket.socket(fileno=int(arguments[4]))
    logs.set_up(level, log_format)
    become_helper(parent, niceness=int(arguments[5]))
    try:
        run_history(directory, os.environ.get(URL_VARIABLE, ""), connection=connection)
    except (TitanError, wal.Locked, OSError) as error:
        _log.error("no history is written: %s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
