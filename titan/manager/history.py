"""Has the history written, by a process of its own that reads the log.

The manager waits for it in nothing, and it may die at any moment: the next one goes on where the
database says that it was. All that is done here is to start it, and to end it with the manager.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from titan.manager.reader_process import keep_running, wait_end

_log = logging.getLogger("titan.history")

# What is read by `titan.history.process`: a process listing must not show a password.
URL_VARIABLE: Final = "TITAN_HISTORY_URL"
MODULES: Final = ("sqlalchemy", "alembic")


def missing_modules(url: str) -> list[str]:
    """What a history there needs and is not installed."""
    is_file = not url or url.startswith("sqlite:")
    needed = MODULES if is_file else (*MODULES, "psycopg")
    return [name for name in needed if find_spec(name) is None]


class HistoryWriter:
    """The process that writes the history of one data directory."""

    def __init__(
        self, data_directory: Path, url: str, *, log_level: str = "info", log_format: str = "text"
    ) -> None:
        """`url` as `--history` takes it, but none; empty: the file in the data directory."""
        self._data_directory = data_directory
        self._url = url
        self._log_level = log_level
        self._log_format = log_format

    async def run(self) -> None:
        """Keeps it running until it is cancelled; it has ended then."""
        missing = missing_modules(self._url)
        if missing:
            _log.info(
                "no history is written, for want of %s: pip install 'titan-scheduler[history]'",
                " and ".join(missing),
            )
            return
        await keep_running("the process that writes the history", self._run_process)

    async def _run_process(self) -> int:
        """The exit code."""
        process = await asyncio.create_subprocess_exec(
            # -P: nothing in the folder that the manager was started in may be taken for a module.
            sys.executable, "-P", "-m", "titan.history.process",
            str(self._data_directory), self._log_level, self._log_format, str(os.getpid()),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
            env={**os.environ, URL_VARIABLE: self._url},
        )  # fmt: skip
        return await wait_end(process)
