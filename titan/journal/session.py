"""A connection that is made when it is needed, and again after it broke: for all but appending.

A statement is answered within a bounded time, or the connection is cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from titan.journal.database import SILENCE_SECONDS, Database
from titan.journal.errors import JournalUnavailable
from titan.journal.limit import Limit, is_warning

if TYPE_CHECKING:
    import psycopg
    from psycopg.errors import Diagnostic

STATEMENT_SECONDS: Final = float(SILENCE_SECONDS)


class Session:
    """One connection, for one purpose; its calls may come from any thread, one at a time."""

    def __init__(
        self,
        database: Database,
        purpose: str,
        *,
        seconds: float = STATEMENT_SECONDS,
        on_connect: str = "",
    ) -> None:
        """`seconds` is how long a statement may take; `on_connect` is the first one of each."""
        self.database = database
        self.seconds = seconds
        self._purpose = purpose
        self._on_connect = on_connect
        self._lock = Lock()
        self._connection: psycopg.Connection[Any] | None = None
        self._connections = 0
        self._warnings: list[str] = []

    @property
    def connections(self) -> int:
        """How many were made so far: what two statements say goes together only on one of them."""
        return self._connections

    def execute(
        self,
        query: str,
        parameters: Sequence[Any] | Mapping[str, Any] = (),
        *,
        seconds: float | None = None,
    ) -> list[Any]:
        """The rows that the statement returns, committed.

        Raises JournalUnavailable, JournalRefused: what it was to change may have been changed all
        the same.
        """
        with self.using(seconds) as connection:
            cursor = connection.cursor(binary=True)
            cursor.execute(query, parameters, prepare=True)
            return cursor.fetchall() if cursor.description is not None else []

    @contextmanager
    def using(self, seconds: float | None = None) -> Iterator[psycopg.Connection[Any]]:
        """The connection, for that long at most. Raises as `execute` does."""
        import psycopg  # noqa: PLC0415 - an extra

        with self._lock:
            connection = self._connected()
            self._warnings.clear()
            limit = Limit(connection, self.seconds if seconds is None else seconds)
            try:
                with limit:
                    yield connection
            except psycopg.Error as error:
                if connection.broken or connection.closed:
                    self._close()
                if limit.is_over:
                    raise JournalUnavailable(
                        f"the journal in {self.database}: no answer for {limit.seconds:g} s"
                    ) from error
                raise self.database.failure(error) from error
            except BaseException:
                # In the middle of something: what would come next is not its answer.
                self._close()
                raise
            if limit.is_over:
                self._close()
            if self._warnings:
                # Such as that a standby did not say that it has it: it may get lost yet.
                raise JournalUnavailable(
                    f"the journal in {self.database}: {'; '.join(self._warnings)}"
                )

    def close(self) -> None:
        """Ends the connection; a later call makes another. Idempotent."""
        with self._lock:
            self._close()

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None:
            connection = self.database.connect(self._purpose, self._on_connect)
            connection.add_notice_handler(self._note)
            self._connection = connection
            self._connections += 1
        return self._connection

    def _note(self, notice: Diagnostic) -> None:
        if is_warning(notice):
            self._warnings.append(notice.message_primary or "a warning")

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
