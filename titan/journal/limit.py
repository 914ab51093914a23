"""Bounding how long a connection is waited for, from another thread.

A server that stands still goes on answering the network, so neither keepalives nor libpq would
notice. Whoever waits for a connection that is cut has an error of it at once.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from threading import Timer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psycopg
    from psycopg.errors import Diagnostic


class Cutter:
    """Cuts one connection, from any thread."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        # The number of the connection's own descriptor may be another's by the time it is used.
        self._socket = socket.socket(fileno=os.dup(connection.fileno()))

    def cut(self) -> None:
        """Nothing comes or goes any more. Idempotent."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """It is not needed any more; the connection stays. Idempotent."""
        self._socket.close()


class Limit:
    """Cuts a connection if what is done in it takes longer."""

    def __init__(self, connection: psycopg.Connection[Any], seconds: float) -> None:
        self.seconds = seconds
        self.is_over = False
        self._cutter = Cutter(connection)
        self._timer = Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> None:
        """Begins to count."""
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        """Cuts nothing any more."""
        self._timer.cancel()
        self._timer.join()
        self._cutter.close()

    def _cut(self) -> None:
        self.is_over = True
        self._cutter.cut()


def is_warning(notice: Diagnostic) -> bool:
    """Whether the server said something that is more than a notice."""
    severity = notice.severity_nonlocalized or notice.severity or ""
    return severity not in ("NOTICE", "INFO", "LOG", "DEBUG")
