"""Has the history written, by a process of its own that reads the log.

It may die at any moment: the next one goes on where the database says that it was. All that is done
here is to start it, and to end it with the manager; what is asked of it is `history_desk.py`'s.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from titan.manager.history_desk import HistoryDesk
from titan.manager.reader_process import keep_running, start_process, wait_end
from titan.manager.recovery import StartRefused
from titan.rpc.history_frames import URL_VARIABLE

_log = logging.getLogger("titan.history")

MODULES: Final = ("sqlalchemy", "alembic")
# It gives way to everything else on the machine, unless somebody waits for it.
NICENESS: Final = 10


def is_file(url: str | None) -> bool:
    """Whether the history at that URL is a file of one machine. None: there is no history."""
    return url is not None and (not url or url.startswith("sqlite:"))


def missing_modules(url: str) -> list[str]:
    """What a history at that URL needs and is not installed."""
    needed = MODULES if is_file(url) else (*MODULES, "psycopg")
    return [name for name in needed if find_spec(name) is None]


def check_can_sync(url: str | None) -> None:
    """Raises StartRefused where submits would wait for what nobody writes. None: no history."""
    if url is None:
        raise StartRefused("--history-sync needs a history: leave out --history none")
    missing = missing_modules(url)
    if missing:
        raise StartRefused(
            f"--history-sync needs {' and '.join(missing)}: pip install 'titan-scheduler[history]'"
        )


class HistoryWriter:
    """The process that writes the history of one data directory."""

    def __init__(
        self,
        data_directory: Path,
        url: str,
        desk: HistoryDesk,
        *,
        niceness: int = NICENESS,
        log_level: str = "info",
        log_format: str = "text",
    ) -> None:
        """`url` as `--history` takes it, but none; empty: the file in the data directory.

        The process answers what the desk is asked.
        """
        self._niceness = niceness
        self._data_directory = data_directory
        self._url = url
        self._desk = desk
        self._log_level = log_level
        self._log_format = log_format

    async def run(self) -> None:
        """Keeps it running until it is cancelled; it has ended then."""
        missing = missing_modules(self._url)
        if missing:
            why = (
                f"no history is written, for want of {' and '.join(missing)}: "
                "pip install 'titan-scheduler[history]'"
            )
            _log.info("%s", why)
            self._desk.why_none = why
            return
        await keep_running("the process that writes the history", self._run_process)

    async def _run_process(self) -> int:
        """The exit code."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = await start_process(
                "titan.history.process",
                *(self._data_directory, self._log_level, self._log_format),
                *(os.getpid(), theirs.fileno(), self._niceness),
                pass_fds=(theirs.fileno(),),
                environ={**os.environ, URL_VARIABLE: self._url},
            )
        asking = asyncio.create_task(self._desk.serve(*await asyncio.open_connection(sock=ours)))
        try:
            return await wait_end(process)
        finally:
            asking.cancel()
            await asyncio.wait([asking])
