"""A line for everything that somebody was denied: who, what, from where, and why."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from titan.logs import LogLine

_log = logging.getLogger("titan.audit")

# More in a second are counted and told in one line: who is denied must not fill the disk.
LINES_PER_SECOND: Final = 20


NOBODY: Final = "nobody known"


class Audit:
    """Writes them to the server's log."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._second = 0.0
        self._lines = 0
        self._left_out = 0

    def denied(self, *, who: str, what: str, peer: str, why: str) -> None:
        """Somebody was denied something."""
        now = self._now()
        if now - self._second >= 1:
            self._second, self._lines = now, 0
            self._tell_left_out()
        self._lines += 1
        if self._lines > LINES_PER_SECOND:
            self._left_out += 1
            if self._left_out == 1:
                # Perhaps nobody is denied anything after that.
                with suppress(RuntimeError):
                    asyncio.get_running_loop().call_later(1.0, self._tell_left_out)
            return
        _log.warning(LogLine("denied", **{"who": who, "what": what, "from": peer, "why": why}))

    def _tell_left_out(self) -> None:
        if self._left_out:
            _log.warning(LogLine("denied more than is written here", times=self._left_out))
            self._left_out = 0
