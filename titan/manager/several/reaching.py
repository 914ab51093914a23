"""Waiting for a database that may be away, as long as the manager that waits is not to end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from titan.journal.errors import JournalUnavailable
from titan.logs import LogLine
from titan.manager.several.blocking import Blocking

_log = logging.getLogger("titan.manager")

RETRY_SECONDS: Final = 0.5

Result = TypeVar("Result")


class Stopped(Exception):
    """The manager is to end; nothing is left to be done for whoever waited."""


class Reaching:
    """The waits of one manager. Used in the loop."""

    def __init__(self, blocking: Blocking, until: asyncio.Event) -> None:
        """`blocking` is where calls are made; nothing is waited for once `until` is set."""
        self.was_away = False
        """Whether the database could not be reached at the last try."""
        self._blocking = blocking
        self._until = until

    async def or_stop(self, what: Awaitable[Result]) -> Result:
        """What it comes to. Raises Stopped if the manager is to end before."""
        task = asyncio.ensure_future(what)
        until = asyncio.create_task(self._until.wait())
        try:
            await asyncio.wait((task, until), return_when=asyncio.FIRST_COMPLETED)
            if task.done() and not self._until.is_set():
                return task.result()
            raise Stopped
        finally:
            until.cancel()
            task.cancel()

    async def reach(self, call: Callable[[], Result]) -> Result:
        """What the call comes to, which is made until the database can be reached.

        Raises Stopped, and what the call raises, but JournalUnavailable.
        """
        while True:
            try:
                result = await self.or_stop(self._blocking.run(call))
            except JournalUnavailable as error:
                await self.pause(error)
            else:
                self.note_back()
                return result

    async def pause(self, error: JournalUnavailable) -> None:
        """Says once that the database is away, and waits a little. Raises Stopped."""
        if not self.was_away:
            self.was_away = True
            _log.warning(LogLine("the journal cannot be reached; trying on", detail=error))
        await self.or_stop(asyncio.sleep(RETRY_SECONDS))

    def note_back(self) -> None:
        """It has answered."""
        if self.was_away:
            self.was_away = False
            _log.info("the journal can be reached again")
